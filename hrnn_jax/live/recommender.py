"""Recommend to live users with a trained network.

    recommender = load_recommender("out/run")
    recommender.observe(user="u1", item="i42", time=1700000000)
    recommender.recommend(user="u1", k=10)  # [(item, score), ...]

See events.py for events and their sessions, states/ for the users' states and how events change
them, and store/ for the file or the database that holds them.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, NamedTuple

from hrnn_jax import errors, model
from hrnn_jax.arguments import whole_number
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.files.checkpoint import TrainedRun, load_run
from hrnn_jax.ids_and_times import Id, id_prefix
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import (
    USER_PREFIX,
    Event,
    Outcome,
    Request,
    assign_sessions,
    check_event,
    key_of_request,
)
from hrnn_jax.live.item_index import ItemIndex
from hrnn_jax.live.lists import check_size, lists_after, lists_for
from hrnn_jax.live.live_network import LiveNetwork, live_network
from hrnn_jax.live.states import past_events, rebuilding, reload
from hrnn_jax.live.states.idle_sessions import IdleSessions
from hrnn_jax.live.states.replay import replay
from hrnn_jax.live.states.user_states import UserStates
from hrnn_jax.live.store import next_states
from hrnn_jax.live.store.state_schema import COLUMNS, column_types
from hrnn_jax.preprocess.frames import Frame, read_tables, write_tables

STATES = "states.sqlite"  # file name in a run folder
_DEFAULTS = RecommenderConfig()
_EVENTS_OF_A_STEP = 5_000  # that are read at a time, some hundredths of a second of work


class Step(NamedTuple):
    """A stored event, and the recommendations right after it."""

    item: Id
    time: float  # Unix seconds
    session: int  # number of the user's session, from 0
    recommended: list[tuple[Id, float]]  # items and scores, best first


def load_recommender(
    run: pathlib.Path | str,
    *,
    states: pathlib.Path | str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    rebuild: bool = False,
    config: RecommenderConfig = _DEFAULTS,
) -> Recommender:
    """Load the network of a run folder and the states of its live users.

    Args:
        run: the run folder.
        states: the state file, made if it does not exist; by default states.sqlite in the run
            folder, `state_store.IN_MEMORY` for none. Or a database that several processes may
            share, as postgresql://USER@HOST:PORT/DATABASE.
        seed: of the checkpoint; by default the first seed.
        epochs: of the checkpoint; by default the newest.
        rebuild: compute the states again from the stored events if other weights made them. Where
            that is interrupted, no weights take the file until it has been repeated.
        config: settings of the states.

    Raises:
        InputError: a file is missing, or the states were made by other weights.
        StorageError: the state file is damaged, or the database cannot be reached.
    """
    about, params = load_run(run, seed=seed, epochs=epochs)
    path = pathlib.Path(run) / STATES if states is None else states
    return Recommender(about, params, path, rebuild=rebuild, config=config)


class Recommender(contextlib.AbstractContextManager["Recommender"]):
    """A network and the states of its live users; one thread at a time uses it, others wait.

    But for lists of states in memory, which any thread gets at any time.
    """

    def __init__(
        self,
        about: TrainedRun,
        params: model.Params,
        states: pathlib.Path | str,
        *,
        rebuild: bool = False,
        config: RecommenderConfig = _DEFAULTS,
        on_indexed: Callable[[int], None] = lambda n: None,
    ):
        """Open the state file for a network, see `load_recommender`.

        Args:
            about: the network without its weights.
            params: the weights.
            states: the state file or database.
            rebuild: see `load_recommender`.
            config: settings of the states, and whether there is an index.
            on_indexed: called with the number of items that were added to the index.
        """
        self.config = config
        network = live_network(about, params, config, on_indexed)
        self._states = UserStates(states, network, config, rebuild=rebuild)
        self._idle_sessions = IdleSessions(self._states)
        self._reloading = threading.Lock()

    @property
    def network(self) -> LiveNetwork:
        """The network and its catalogue, for `preview`; any thread may use it at any time."""
        return self._states.network

    @property
    def trained(self) -> TrainedRun:
        """The network without its weights."""
        return self.network.trained

    @property
    def index(self) -> ItemIndex | None:
        """The index that lists are made from, if there is one."""
        return self.network.model.index

    @property
    def counts(self) -> collections.Counter[str]:
        """Events by outcome, those that were "late", and damaged states that were "rebuilt"."""
        return self._states.counts

    def close(self) -> None:
        """Close the state file; a fork leaves that to the process that opened it."""
        self._states.close()

    def __exit__(self, *raised: object) -> None:
        """Close the state file."""
        self.close()

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Let no other process change any state, and commit the block's changes together.

        In a database, that is; a file is of this process alone, and each call is committed.
        """
        with self._states.updating():
            yield

    def __len__(self) -> int:
        """Return the number of users and anonymous sessions that have a state."""
        with self._states.exclusive():
            return len(self._states.store)

    def check_file(self) -> None:
        """Check that the state file is still the one that was opened, or the database answers.

        Raises:
            StorageError: the file was removed, replaced or cut, and no event is taken any more; or
                the database cannot be reached at present.
        """
        with self._states.exclusive():
            self._states.store.check_file()

    def check_reload(self) -> None:
        """Check that weights can be reloaded at all.

        Raises:
            InputError: the states are in a database.
        """
        next_states.of(self._states.store)

    def reload(
        self,
        run: pathlib.Path | str,
        *,
        seed: int | None = None,
        epochs: int | None = None,
        on_progress: reload.OnProgress = lambda progress: None,
        on_swap: Callable[[], object] = lambda: None,
    ) -> None:
        """Go on with the weights of another run folder, or of the same one, trained again.

        All states are computed again from the stored events; other threads use the recommender
        meanwhile, with the weights of before. Both are swapped at once. A user whose stored items
        are all unknown to the new run is as a newcomer, but nothing is forgotten.

        Args:
            run: the run folder.
            seed: see `load_recommender`.
            epochs: see `load_recommender`.
            on_progress: called between the steps, see `reload.Progress`; what it raises ends the
                reload before the swap, and is raised.
            on_swap: called at the swap, while no other thread uses the recommender.

        Raises:
            InputError: the folder is damaged, a reload is under way, or the states are in a
                database; nothing has changed.
            StorageError: the state file cannot be written; nothing has changed.
        """
        self.check_reload()
        if not self._reloading.acquire(blocking=False):
            raise errors.InputError("a reload is under way: wait for its end")
        try:
            on_progress(reload.Progress("loading"))
            about, params = reload.load_unchanged(pathlib.Path(run), seed=seed, epochs=epochs)
            network = live_network(about, params, self.config)
            for program in reload.compile_programs(network):
                on_progress(reload.Progress("loading"))
                program()
            reload.swap(self._states, network, on_progress, on_swap)
        finally:
            self._reloading.release()

    def warm_up(self, k: int = 10) -> None:
        """Compile the programs for lists of up to k items, with as many excluded items."""
        self.network.model.warm_up(k)

    def rare_programs(self, k: int = 10) -> list[Callable[[], object]]:
        """Return a call for each program that `warm_up(k)` leaves out, the likely ones first.

        Each takes about a second, and other threads may use the recommender meanwhile.
        """
        return self.network.model.rare_programs(k)

    def observe(
        self,
        *,
        item: Id,
        user: Id | None = None,
        time: float | None = None,
        session: Id | None = None,
        event_id: Id | None = None,
    ) -> Outcome:
        """Observe one event, see `Event` and `observe_many`."""
        [outcome] = self.observe_many([Event(item, user, time, session, event_id)])
        return outcome

    def observe_many(self, events: Sequence[Event]) -> list[Outcome]:
        """Observe events, all or none. They are on disk when this returns.

        Args:
            events: each user's in order.

        Returns:
            The outcome of each event:
            "observed": the user's state has changed.
            "unknown_item": the item is not in the catalogue; the event only keeps an open session
            open.
            "repeat": the session has the item already, and the network was trained on sessions
            without repeats; the event only keeps the session open.
            "duplicate": a stored event of the user has the same event id; nothing has changed.

        Raises:
            InputError: an event is invalid; nothing has changed.
            StorageError: the events cannot be written; nothing has changed.
        """
        checked = [check_event(event, any_year=self.trained.any_year) for event in events]
        with self._states.updating({event.key for event in checked}):
            states = self._states.of(dict.fromkeys(event.key for event in checked))
            sessions = {key: state.session for key, state in states.items()}
            numbers = {key: session.number for key, session in sessions.items()}
            event_ids = {(event.key, event.event_id) for event in checked if event.event_id}
            assigned = assign_sessions(
                checked,
                sessions,
                self._states.store.session_items(numbers) if self.trained.drop_repeats else None,
                self._states.store.delivered(event_ids),
                item_index=self.network.item_index,
                gap_seconds=self.trained.gap_seconds,
            )
            for event, outcome in zip(checked, assigned.outcomes, strict=True):
                if outcome != "duplicate":  # weights of before may have known its item
                    self._check_item(event.item)
            self._states.write(assigned, states)
        self._states.count(assigned)
        return assigned.outcomes

    def _check_item(self, item: str) -> None:
        """Raise InputError for an item that is not in the catalogue, where these are refused."""
        item_index = self.network.item_index
        if self.config.unknown_items == "error" and item not in item_index:
            raise errors.InputError(
                f"item {item!r} is none of the {len(item_index)} of the catalogue: leave the event "
                "out"
            )

    def recommend(
        self,
        user: Id | None = None,
        k: int = 10,
        *,
        session: Id | None = None,
        exclude: Collection[Id] | None = (),
        exclude_seen: bool = False,
        candidates: Collection[Id] | None = None,
    ) -> list[tuple[Id, float]]:
        """Recommend to one user or in one anonymous session, see `Request`."""
        request = Request(user, session, k, exclude, exclude_seen, candidates)
        [recommended] = self.recommend_many([request])
        return recommended

    def recommend_many(self, requests: Sequence[Request]) -> list[list[tuple[Id, float]]]:
        """Return the items of the highest scores for each request.

        Items of the user's last session are left out as `RecommenderConfig` says, however long ago
        its last event was: the list is of what comes next in it.

        Args:
            requests: any number. A user without an event gets the items of the highest biases: the
                state is zeros.

        Returns:
            Items and scores for each request, the highest score first, and of equal scores the item
            that comes first in the catalogue. Scores are those that evaluation ranks, before the
            output's tanh.

        Raises:
            InputError: an id or k is invalid.
        """
        return lists_for(self._states, requests)

    def history(
        self,
        user: Id | None = None,
        session: Id | None = None,
        *,
        sessions: int = 10,
        k: int = 10,
        exclude_seen: bool = False,
        limit: int | None = None,
    ) -> list[Step]:
        """Replay the stored events of one user or anonymous session.

        The replay starts from zeros at the oldest stored event.

        Args:
            user: the user.
            session: the anonymous session.
            sessions: number of last sessions to return.
            k: items recommended right after each event.
            exclude_seen: leave out the items of the stored events so far.
            limit: the most items to recommend in all; None for any number.

        Returns:
            The events of the last sessions, oldest first.

        Raises:
            InputError: an id, `sessions` or `k` is invalid, or more than `limit` items would be
                recommended; nothing is computed then.
        """
        sessions = whole_number("sessions", sessions)
        key = key_of_request(Request(user, session, k))
        network = self.network  # one for all: another one may follow it soon
        events = self._states.known_events(key, network)
        if not events:
            return []
        first = next(i for i, e in enumerate(events) if e.session > events[-1].session - sessions)
        check_size(len(events) - first, min(k, len(network.item_index)), limit)
        states = replay(network.model, {key: events}, network.item_index)[key]
        lists = lists_after(network, states, events, k, exclude_seen=exclude_seen, first=first)
        return [
            Step(
                network.trained.items[network.item_index[event.item]],
                event.time,
                event.session,
                recommended,
            )
            for event, recommended in zip(events[first:], lists, strict=True)
        ]

    def state_after(
        self,
        user: Id | None = None,
        session: Id | None = None,
        *,
        event: tuple[int, int] | None = None,
    ) -> LiveState:
        """Return the state of one user or anonymous session, now or after a stored event.

        Args:
            user: the user.
            session: the anonymous session.
            event: the number of its session and its place in it, from 0, as `history` has them; by
                default the last one.

        Raises:
            InputError: an id is invalid, or no such event is stored.
        """
        key = key_of_request(Request(user, session))
        if event is None:
            with self._states.exclusive():
                states = self._states.of([key])
                return states[key].live if key in states else self.network.model.start
        network = self.network
        events = self._states.known_events(key, network)
        of_session = [n for n, stored in enumerate(events) if stored.session == event[0]]
        if not 0 <= event[1] < len(of_session):
            raise errors.InputError(
                f"no event {event[1]} of session {event[0]} is stored: see the user's history"
            )
        before = {key: events[: of_session[event[1]] + 1]}
        return replay(network.model, before, network.item_index)[key][-1]

    def users(self, prefix: str = "", limit: int = 50) -> list[tuple[str, int]]:
        """Return users whose ids start with a prefix, and the number of events of each."""
        limit = whole_number("limit", limit)
        start = USER_PREFIX + id_prefix(prefix)
        with self._states.exclusive():
            sessions = self._states.store.sessions(start, limit=limit)
        return [(key[1:], session.n_events) for key, session in sessions.items()]

    def stored_events(self) -> Generator[list[tuple[str, int, str]]]:
        """Read the stored events of all users, in parts between which others may use this.

        Yields:
            User, number of the session and item of some thousand events; those of a user follow
            each other.
        """
        after = "", 0
        while True:
            with self._states.exclusive():
                rows = self._states.store.events_after(USER_PREFIX, after, _EVENTS_OF_A_STEP)
            if not rows:
                return
            after = rows[-1][:2]
            yield [(key[1:], session, item) for key, _, session, item in rows]

    def forget(self, user: Id | None = None, session: Id | None = None) -> bool:
        """Delete everything stored of a user or an anonymous session.

        Returns:
            Whether anything was stored.

        Raises:
            StorageError: the state file cannot be written, on a full disk say. Lists may know
                nothing of the user any more, but bytes of the events may be left: repeat the call.
        """
        key = key_of_request(Request(user, session))
        with self._states.exclusive():
            return self._states.store.delete([key]) > 0

    def forget_idle_sessions(self, seconds: float) -> int:
        """Delete anonymous sessions without a recent event.

        Args:
            seconds: the shortest idle time of a deleted session, by the clock of this machine.

        Returns:
            The number of deleted sessions; none where the clock has moved ahead by more than a
            minute since the last call, or since the start, as it may go back soon.
        """
        return sum(self.forgetting_idle_sessions(seconds))

    def forgetting_idle_sessions(self, seconds: float) -> Generator[int]:
        """Do as `forget_idle_sessions`, in steps between which others may use the recommender.

        Args:
            seconds: the shortest idle time of a deleted session.

        Yields:
            The number of sessions that a step deleted, some hundred at most.
        """
        yield from self._idle_sessions.forget(seconds)

    def bootstrap(
        self, events: Any, *, on_events: Callable[[int], None] = lambda n: None
    ) -> collections.Counter[str]:
        """Observe the users' past events, some hundred users in each transaction.

        Users who have a state already are left out, so that a call that was interrupted can be
        repeated.

        Args:
            events: a frame of polars, pandas or arrow with the columns user_id, item_id, ts and, if
                there is one, session_id; in any order, as they are sorted by time. The events of a
                session id follow each other, at the place of the session's first event, as in
                training.
            on_events: called with the number of events of each transaction.

        Returns:
            The number of events by outcome; those of users who were left out are "known_user".

        Raises:
            InputError: a column is missing, or a row is invalid, also one of a user who would be
                left out; nothing has changed.
            StorageError: the events cannot be written; those of earlier transactions are.
        """
        return past_events.bootstrap(
            self._states, events, self.observe_many, self._check_item, on_events
        )

    def take_sessions(
        self, past: Frame, *, on_events: Callable[[int], None] = lambda n: None
    ) -> collections.Counter[str]:
        """Take over the users' past sessions as they are, some hundred users in each transaction.

        The state after each event is that of training and evaluation, which saw these sessions.
        Users who have a state already are left out, as by `bootstrap`.

        Args:
            past: the sessions, see `preprocess.past_sessions`.
            on_events: called with the number of events of each transaction.

        Returns:
            As `bootstrap`.
        """
        return past_events.take_sessions(self._states, past, on_events)

    def export_states(self, folder: pathlib.Path | str) -> None:
        """Write all states and stored events as parquet, one file for each table."""
        with self._states.exclusive():
            tables = self._states.store.dump()
        write_tables(pathlib.Path(folder), tables, COLUMNS)

    def import_states(self, folder: pathlib.Path | str, *, rebuild: bool = False) -> None:
        """Replace all states and events by exported ones.

        Args:
            folder: of `export_states`.
            rebuild: see `load_recommender`.

        Raises:
            InputError: a file is missing or damaged, or the states were made by other weights.
        """
        tables = read_tables(pathlib.Path(folder), column_types())
        with self._states.exclusive():
            rebuilding.accept(self._states.store, self.network, tables, rebuild=rebuild)
