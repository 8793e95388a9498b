"""Swap the weights of a recommender that is in use, and its states together with them.

The next states are computed from the stored events while the weights of today serve on, see
`next_states`. Keys with events meanwhile are caught up in rounds, until a few are left. Those are
computed under the lock, and all is swapped.
"""

from __future__ import annotations

import collections
import pathlib
import time
from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

from hrnn_jax import errors
from hrnn_jax.files.checkpoint import TrainedRun, load_run
from hrnn_jax.live.batched_model import WIDTHS
from hrnn_jax.live.events import StoredEvent
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.live.states.replay import states_of_events
from hrnn_jax.live.states.user_states import UserStates
from hrnn_jax.live.store import next_states
from hrnn_jax.live.store.state_rows import StoredState
from hrnn_jax.model import Params

_KEYS = WIDTHS[-2]  # that are computed together
_FEW = 8  # keys that are caught up under the lock
_ROUNDS = 50  # of catching up before that; with more events a second it is done with more keys
_HOLD, _PAUSE = 0.003, 0.001  # seconds for which the lock is held to read, and then not


class Progress(NamedTuple):
    """How far a reload is."""

    step: Literal["loading", "computing states", "done"]
    done: int = 0  # keys
    of: int = 0


OnProgress = Callable[[Progress], object]


def load_unchanged(
    run: pathlib.Path, *, seed: int | None = None, epochs: int | None = None
) -> tuple[TrainedRun, Params]:
    """Load a run folder that may be replaced or written meanwhile.

    Raises:
        InputError: a file is missing or damaged, or the folder has changed meanwhile.
    """
    folder = run.resolve()  # a link may lead elsewhere in the middle
    before = _files(folder)
    loaded = load_run(folder, seed=seed, epochs=epochs)
    if _files(folder) != before:
        raise errors.InputError(
            f"{run} has changed while it was read: reload it again once it is complete"
        )
    return loaded


def _files(folder: pathlib.Path) -> set[tuple[str, int, int, int]]:
    """Return what changes if one of the files that a network is loaded from does."""
    files = [*folder.glob("*.json"), *(folder / "checkpoint").rglob("*")]
    try:
        found = [(str(file), file.stat()) for file in files]
    except OSError:
        return {("a file was removed", 0, 0, time.time_ns())}
    return {(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found}


def compile_programs(network: LiveNetwork) -> Iterable[Callable[[], object]]:
    """Return calls that compile all programs of a network; each takes some seconds at most."""
    yield network.model.warm_up
    yield from network.model.rare_programs()


def swap(
    states: UserStates,
    network: LiveNetwork,
    on_progress: OnProgress,
    on_swap: Callable[[], object],
) -> None:
    """Compute the states by the next weights, and swap both with those in use.

    Args:
        states: in use.
        network: the next weights.
        on_progress: called between the steps; what it raises ends the reload before the swap.
        on_swap: called at the swap, while no other thread uses the states.

    Raises:
        InputError, StorageError: the states cannot be computed; those in use serve on.
    """
    computation = _Computation(states, network)
    swapped = False
    try:
        computation.begin()
        computation.compute_all(on_progress)
        left = computation.catch_up(on_progress)
        with states.exclusive():
            computation.compute(left | computation.next.take_touched())
            computation.next.take_next(network.about, network.item_index, network.model.start)
            states.network = network
            on_swap()
        swapped = True
    finally:
        try:
            computation.erase()
        except errors.StorageError:  # the next reload or start removes it
            if not swapped:
                raise
    on_progress(Progress("done"))


class _Computation:
    """The states by the next weights."""

    def __init__(self, states: UserStates, network: LiveNetwork):
        self.next = next_states.of(states.store)
        self._store, self._network, self._exclusive = states.store, network, states.exclusive
        self._items = list(network.item_index)

    def begin(self) -> None:
        self.erase()
        with self._exclusive():
            self.next.begin_next()

    def erase(self) -> None:
        """Remove the table that is not in use, in steps between which others may use the store."""
        while True:
            with self._exclusive():
                if not self.next.erase_second():
                    return
            time.sleep(_PAUSE)

    def compute_all(self, on_progress: OnProgress) -> None:
        """Compute the states of all keys that there are now."""
        with self._exclusive():
            n_keys = len(self._store)
        done, after = 0, ""
        while after is not None:
            on_progress(Progress("computing states", min(done, n_keys), n_keys))
            with self._exclusive():
                keys, after = self._store.keys_before("", float("inf"), after=after, limit=_KEYS)
            self.compute(keys)
            done += len(keys)

    def catch_up(self, on_progress: OnProgress) -> set[str]:
        """Compute the states again that have changed meanwhile; return the keys of the last few."""
        touched: set[str] = set()
        for _ in range(_ROUNDS):
            on_progress(Progress("computing states", 1, 1))
            with self._exclusive():
                touched = self.next.take_touched()
            if len(touched) <= _FEW:
                return touched
            keys = sorted(touched)
            for begin in range(0, len(keys), _KEYS):
                self.compute(keys[begin : begin + _KEYS])
        return set()

    def compute(self, keys: Collection[str]) -> None:
        """Compute and write the states of some keys from the events since their next states."""
        waiting = collections.deque(keys)
        found: dict[str, next_states.NextState] = {}
        stored: dict[str, list[StoredEvent]] = {}
        while waiting:
            with self._exclusive():
                end = time.perf_counter() + _HOLD
                while waiting and time.perf_counter() < end:
                    self._read(waiting.popleft(), found, stored)
            if waiting:
                time.sleep(_PAUSE)
        before: dict[str, StoredState] = {}
        for key, events in stored.items():
            state = found[key].state
            # Not where events between were stored and dropped again: it starts from what is kept.
            if state and not (events and events[0].place > state.session.n_events):
                before[key] = state
        states = states_of_events(
            self._network.model,
            stored,
            self._network.item_index,
            {key: found[key].session for key in stored},
            before,
        )
        with self._exclusive():
            self.next.write_next(states, self._items, {key: found[key].written for key in states})

    def _read(
        self,
        key: str,
        found: dict[str, next_states.NextState],
        stored: dict[str, list[StoredEvent]],
    ) -> None:
        """Read the next state and the events of a key that has not been forgotten."""
        network = self._network
        state = self.next.next_state(key, network.item_index, network.model.start)
        if state is not None:
            found[key], stored[key] = state, self._store.events(key)
