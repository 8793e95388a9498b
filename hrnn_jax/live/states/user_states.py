"""The stored states of live users, and the network that makes them."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import threading
from collections.abc import Collection, Generator, Mapping, Sequence

from hrnn_jax import errors
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.live.events import AssignedEvents, StoredEvent
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.live.states import rebuilding
from hrnn_jax.live.states.replay import replay
from hrnn_jax.live.store.opening import open_store
from hrnn_jax.live.store.state_rows import StoredState


class UserStates:
    """States and their network; one thread at a time uses them, others wait.

    Attributes:
        network: another one may take its place while the states are held.
        store: the file or the database.
        counts: events by outcome, those that were "late", and damaged states that were "rebuilt".
    """

    def __init__(
        self,
        states: pathlib.Path | str,
        network: LiveNetwork,
        config: RecommenderConfig,
        *,
        rebuild: bool,
    ):
        """Open a state file or database, see `recommender.load_recommender`."""
        self.network = network
        self.counts: collections.Counter[str] = collections.Counter()
        self._lock, self._process = threading.RLock(), os.getpid()
        self.store = open_store(states, network.item_index, network.model.start, config)
        try:
            rebuilding.accept(self.store, network, rebuild=rebuild)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the store; a fork leaves that to the process that opened it."""
        if os.getpid() == self._process:
            with self._lock:
                self.store.close()

    def check_process(self) -> None:
        """Raise InputError in a fork of the process that opened the store."""
        if os.getpid() != self._process:  # the lock may be held for ever there, and the file is not
            raise errors.InputError(
                "this recommender is of the process before the fork: load one in this process"
            )

    @contextlib.contextmanager
    def exclusive(self) -> Generator[None]:
        """Let one thread at a time use the states, of the process that opened their store."""
        self.check_process()
        with self._lock:
            yield

    @contextlib.contextmanager
    def updating(self, keys: Collection[str] | None = None) -> Generator[None]:
        """Let one thread of one process at a time change the states of some keys, or of all."""
        with self.exclusive(), self.store.updating(keys):
            yield

    def of(self, keys: Collection[str]) -> dict[str, StoredState]:
        """Return the states of those keys that have one; damaged ones are computed again."""
        states, damaged = self.store.get(keys)
        if damaged:
            states |= rebuilding.repair(self.store, self.network, damaged)
            self.counts["rebuilt"] += len(damaged)
        return states

    def are_new(self, keys: Sequence[str]) -> list[bool]:
        """Tell for each key whether it has no state."""
        known = self.of(dict.fromkeys(keys))
        return [key not in known for key in keys]

    def known_events(self, key: str, network: LiveNetwork) -> list[StoredEvent]:
        """Return the stored events of a key whose items are in a network's catalogue."""
        with self.exclusive():
            return [event for event in self.store.events(key) if event.item in network.item_index]

    def write(self, assigned: AssignedEvents, before: Mapping[str, StoredState]) -> None:
        """Write events that were assigned to sessions, and the states after them.

        Args:
            assigned: the events.
            before: the states before them, of the keys that have one.
        """
        network = self.network
        after = replay(network.model, assigned.observed, network.item_index, before)
        live = {key: state.live for key, state in before.items()}
        live |= {key: some[-1] for key, some in after.items()}
        # Not what compares unequal alone: an event that changes nothing else is the key's newest,
        # and its idle time begins anew.
        changed = {
            key: StoredState(live[key], session)
            for key, session in assigned.sessions.items()
            if key not in before or session is not before[key].session
        }
        self.store.write(changed, assigned.observed)

    def count(self, assigned: AssignedEvents) -> None:
        """Count events that are stored."""
        self.counts.update(assigned.outcomes)
        self.counts["late"] += assigned.n_late
