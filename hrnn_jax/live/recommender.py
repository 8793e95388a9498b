"""Recommend to live users with a trained network: feed events as they come, ask for items.

    recommender = recommend.load("out/run")
    recommender.observe(user="u1", item="i42", time=1700000000)
    recommender.recommend(user="u1", k=10)  # [(item, score), ...]

What an id is, and which session an event belongs to, stands in visits.py; how long and where states
are kept, in states.py.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from hrnn_jax import errors, model
from hrnn_jax.checkpoint import TrainedRun, load_run
from hrnn_jax.ids_and_times import Id, id_text
from hrnn_jax.live import batched_model, replay, state_store
from hrnn_jax.live import events as live_events
from hrnn_jax.live.batched_model import BatchedModel
from hrnn_jax.live.events import Outcome
from hrnn_jax.preprocess import frames

Event = live_events.Event
STATES = "states.sqlite"  # of a run folder


@dataclasses.dataclass(frozen=True)
class RecommenderConfig:
    """How live users are kept."""

    cached_users: int = 100_000  # states held in memory; the others are in the state file
    kept_events: int = 1_000  # newest events of each user that the state file keeps
    unknown_items: Literal["skip", "error"] = "skip"  # what an event of such an item does


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What to recommend: to a user or, without one, in an anonymous session."""

    user: Id | None = None
    session: Id | None = None
    k: int = 10  # items; fewer come back where there are no more
    exclude: Collection[Id] = ()  # items that are left out
    exclude_seen: bool = False  # leave out the items of the kept events too
    candidates: Collection[Id] | None = None  # score these items only


class Step(NamedTuple):
    """An event of the past, and what was recommended right after it."""

    item: Id
    time: float
    session: int  # of the user, from 0
    recommended: list[tuple[Id, float]]


def load(
    run: pathlib.Path | str,
    *,
    states: pathlib.Path | str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    rebuild: bool = False,
    config: RecommenderConfig = RecommenderConfig(),
) -> Recommender:
    """Load a run folder's network, and the states that its live users are in.

    states: the file that holds them, made if need be; the run folder's own if none is given, and
    states.IN_MEMORY for none. seed, epochs: which checkpoint; the newest of the first seed by
    default. rebuild: make the states anew from the events kept, if other weights made them. Raises
    InputError or StorageError, naming the file, for what is missing or damaged or does not fit.
    """
    about, params = load_run(run, seed=seed, epochs=epochs)
    path = pathlib.Path(run) / STATES if states is None else states
    return Recommender(about, params, path, rebuild=rebuild, config=config)


class Recommender:
    """A network and the states of its live users; calls from several threads take turns."""

    def __init__(
        self,
        about: TrainedRun,
        params: model.Params,
        states: pathlib.Path | str,
        *,
        rebuild: bool = False,
        config: RecommenderConfig = RecommenderConfig(),
    ):
        """Take up a network, and the states in a file; see `load`."""
        self.trained = about
        self.config = config
        # Of outcomes, and of late events.
        self.counts: collections.Counter[str] = collections.Counter()
        self._network = BatchedModel(params, about.config, about.table)
        self._index = {str(item): index for index, item in enumerate(about.items)}
        self._lock = threading.RLock()
        self._store = state_store.Store(
            states,
            self._index,
            self._network.start,
            cached=config.cached_users,
            kept_events=config.kept_events,
        )
        try:
            self._adopt(self._store.about, rebuild=rebuild)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the state file."""
        with self._lock:
            self._store.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return of how many users and anonymous sessions there is a state."""
        with self._lock:
            return len(self._store)

    def warm_up(self, k: int = 10) -> None:
        """Compile what lists of up to k items need, and of as many again that are left out."""
        self._network.warm_up(max(2 * k, batched_model.FIRST[1]))

    def observe(
        self,
        *,
        item: Id,
        user: Id | None = None,
        time: float | None = None,
        session: Id | None = None,
        event_id: Id | None = None,
    ) -> Outcome:
        """Take in one event, see `Event` and `observe_many`."""
        [outcome] = self.observe_many([Event(item, user, time, session, event_id)])
        return outcome

    def observe_many(self, events: Sequence[Event]) -> list[Outcome]:
        """Take in events, all or none, each user's in the order given; say what became of each.

        observed: the user's state has moved on. unknown_item: it is not in the catalogue, and all
        that it does is to keep an open session open. repeat: the session had the item before, and
        the network was trained on sessions without repeats; likewise. duplicate: an event with its
        id is among those kept, and nothing happens.

        When this returns, the events are on disk. Raises InputError for an event that cannot be
        one, StorageError where they cannot be kept; then nothing has changed.
        """
        checked = [live_events.check(event) for event in events]
        if self.config.unknown_items == "error":
            for event in checked:
                if event.item not in self._index:
                    raise errors.InputError(
                        f"item {event.item!r} is none of the {len(self._index)} of the catalogue"
                    )
        with self._lock:
            before = self._store.get(dict.fromkeys(event.who for event in checked))
            visit_of = {who: state.visit for who, state in before.items()}
            settled = live_events.settle(
                checked, visit_of, self._store, index=self._index, how=self.trained
            )
            seen = {who: state.seen for who, state in before.items()}
            for move, after in zip(settled.moves, self._follow(seen, settled.moves), strict=True):
                seen[move.who] = after
            changed = {
                who: state_store.State(seen[who], visit)
                for who, visit in visit_of.items()
                if who not in before or visit != before[who].visit
            }
            self._store.write(changed, settled.kept)
            self.counts.update(settled.outcomes)
            self.counts["late"] += settled.late
        return settled.outcomes

    def recommend(
        self,
        user: Id | None = None,
        k: int = 10,
        *,
        session: Id | None = None,
        exclude: Collection[Id] = (),
        exclude_seen: bool = False,
        candidates: Collection[Id] | None = None,
    ) -> list[tuple[Id, float]]:
        """Recommend to one user or in one anonymous session, see `Request`."""
        request = Request(user, session, k, exclude, exclude_seen, candidates)
        [found] = self.recommend_many([request])
        return found

    def recommend_many(self, requests: Sequence[Request]) -> list[list[tuple[Id, float]]]:
        """Return for each request the items that score most and their scores, best first.

        Of equal scores the item that the catalogue lists first. Scores are those that evaluation
        ranks, before the output's tanh. Who has no event yet starts from zeros, and gets what the
        items' biases say. Raises InputError for ids and k that cannot be.
        """
        asked = [self._asked(request) for request in requests]
        with self._lock:
            states = self._store.get({who for who, *_ in asked})
            left_out = [
                {*out, *(self._seen_items(who) if request.exclude_seen else ())}
                for request, (who, out, _) in zip(requests, asked, strict=True)
            ]
        found: list[list[tuple[Id, float]]] = [[] for _ in requests]
        by_places = collections.defaultdict(list)
        for n, (request, (who, _, some)) in enumerate(zip(requests, asked, strict=True)):
            seen = states[who].seen if who in states else self._network.start
            if some is None:
                places = self._network.places(request.k + len(left_out[n]))
                by_places[places].append((n, seen))
                continue
            items = np.array(sorted(some - left_out[n]), np.int32)
            if len(items):
                scores = self._network.score(batched_model.Users.of([seen]), items)
                order = np.argsort(-scores, kind="stable")[: request.k]
                found[n] = self._raw(items[order], scores[order])
        for places, group in by_places.items():
            users = batched_model.Users.of([seen for _, seen in group])
            for (n, _), items, scores in zip(
                group, *self._network.best(users, places), strict=True
            ):
                keep = ~np.isin(items, list(left_out[n])) if left_out[n] else slice(None)
                found[n] = self._raw(items[keep][: requests[n].k], scores[keep][: requests[n].k])
        return found

    def history(
        self,
        user: Id | None = None,
        session: Id | None = None,
        *,
        sessions: int = 10,
        k: int = 10,
    ) -> list[Step]:
        """Replay one's kept events: those of the last sessions, each with the list right after it.

        Where older events are no longer kept, the replay starts from zeros at the first that is.
        """
        who = live_events.who(user, session)
        events = self._known_events(who)
        if not events:
            return []
        first = next(i for i, e in enumerate(events) if e.session > events[-1].session - sessions)
        users = batched_model.Users.of(self._follow({}, self._moves(who, events))[first:])
        found = zip(*self._network.best(users, self._network.places(k)), strict=True)
        return [
            Step(
                self.trained.items[self._index[event.item]],
                event.time,
                event.session,
                self._raw(items[:k], scores[:k]),
            )
            for event, (items, scores) in zip(events[first:], found, strict=True)
        ]

    def users(self, prefix: str = "", limit: int = 50) -> list[tuple[str, int]]:
        """List users whose ids begin with `prefix`, and how many events each has had."""
        with self._lock:
            found = self._store.visits(live_events.USER + prefix, limit=limit)
        return [(who[1:], visit.events) for who, visit in found.items()]

    def forget(self, user: Id | None = None, session: Id | None = None) -> bool:
        """Delete all that is kept of a user or an anonymous session; tell whether there was any."""
        who = live_events.who(user, session)
        with self._lock:
            found = bool(self._store.get([who]))
            self._store.forget([who])
        return found

    def forget_idle_sessions(self, seconds: float) -> int:
        """Forget the anonymous sessions without an event for so long, by this machine's clock."""
        with self._lock:
            idle = self._store.idle(live_events.SESSION, seconds)
            self._store.forget(idle)
        return len(idle)

    def bootstrap(
        self, events: frames.Frame, *, on_events: Callable[[int], None] = lambda n: None
    ) -> collections.Counter[str]:
        """Take in the users' past: columns user_id, item_id, ts and, if there is one, session_id.

        By time, whatever their order; some hundred users at a time are written as one. on_events:
        told as events are done. Returns the counts of outcomes.
        """
        counts: collections.Counter[str] = collections.Counter()
        for rows in frames.histories(events, users=batched_model.WIDTHS[-1]):
            past = [Event(item, user, time, session) for user, item, time, session in rows]
            counts.update(self.observe_many(past))
            on_events(len(rows))
        return counts

    def export_states(self, folder: pathlib.Path | str) -> None:
        """Write all states and kept events as parquet, a file a table of the state file."""
        with self._lock:
            tables = self._store.dump()
        frames.write(pathlib.Path(folder), tables, state_store.COLUMNS)

    def import_states(self, folder: pathlib.Path | str, *, rebuild: bool = False) -> None:
        """Replace all states and events by those that were exported; rebuild: see `load`."""
        tables = frames.read(pathlib.Path(folder), state_store.COLUMNS)
        with self._lock:
            self._adopt(dict(tables["about"]), rebuild=rebuild, tables=tables)

    def _adopt(
        self,
        about: Mapping[str, str],
        *,
        rebuild: bool,
        tables: Mapping[str, Sequence[tuple]] | None = None,
    ) -> None:
        """Make sure that the states, or those in tables, are of these weights or ancestors'."""
        start = self._network.start
        shape = repr((start.carry.shape, start.past.shape))
        ours = {"weights": self.trained.lineage[0], "shape": shape}
        theirs = {name: about.get(name, ours[name]) for name in ours}  # a new file says nothing
        fits = theirs["weights"] in self.trained.lineage and theirs["shape"] == ours["shape"]
        if not fits and not rebuild:
            raise errors.InputError(
                f"the states in {self._store.path} were made by other weights than those of "
                f"{self.trained.folder}: give another file, or have them made anew from their "
                "events (rebuild=True, --rebuild_states)"
            )
        if tables is not None:
            self._store.replace(tables)
        if rebuild and theirs != ours:
            self._rebuild()
        self._store.note(**ours)

    def _rebuild(self) -> None:
        """Make all states anew from the events kept, some hundred at a time."""
        visit_of = self._store.visits()
        everyone = list(visit_of)
        for begin in range(0, len(everyone), batched_model.WIDTHS[-1]):
            part = everyone[begin : begin + batched_model.WIDTHS[-1]]
            moves = [m for who in part for m in self._moves(who, self._known_events(who))]
            seen = dict(zip([m.who for m in moves], self._follow({}, moves), strict=True))
            self._store.write({w: state_store.State(seen[w], visit_of[w]) for w in seen})
            self._store.forget([who for who in part if who not in seen])  # no item is known

    def _known_events(self, who: str) -> list[state_store.Kept]:
        """Return one's kept events whose items are in the catalogue."""
        with self._lock:
            return [event for event in self._store.events(who) if event.item in self._index]

    def _moves(self, who: str, events: Sequence[state_store.Kept]) -> list[replay.Move]:
        """Return what the network follows where one's events are replayed."""
        moves = []
        for before, event in zip([None, *events], events, strict=False):
            opens = before is not None and before.session != event.session
            idle = None if before is None else event.time - before.time
            moves.append(replay.Move(who, self._index[event.item], opens, idle))
        return moves

    def _follow(
        self, seen: Mapping[str, batched_model.Seen], moves: Sequence[replay.Move]
    ) -> list[batched_model.Seen]:
        return replay.follow(self._network, seen, moves)

    def _asked(self, request: Request) -> tuple[str, set[int], set[int] | None]:
        """Return who asks, the items left out, and those to score if not all."""
        if isinstance(request.k, bool) or not isinstance(request.k, int) or request.k < 1:
            raise errors.InputError(f"k={request.k!r}: give a whole number from 1")
        if request.user is not None and request.session is not None:
            raise errors.InputError("give a user, or the session of nobody known, not both")
        who = live_events.who(request.user, request.session)
        out = self._known(request.exclude)
        return who, out, None if request.candidates is None else self._known(request.candidates)

    def _known(self, items: Collection[Id]) -> set[int]:
        """Return the indices of those items that are in the catalogue."""
        if isinstance(items, str):
            raise errors.InputError(f"items {items!r}: give a list of ids")
        texts = [id_text("item", item) for item in items]
        return {self._index[text] for text in texts if text in self._index}

    def _seen_items(self, who: str) -> set[int]:
        return self._known([event.item for event in self._store.events(who)])

    def _raw(self, items: np.ndarray, scores: np.ndarray) -> list[tuple[Id, float]]:
        raw = self.trained.items
        return [(raw[i], s) for i, s in zip(items.tolist(), scores.tolist(), strict=True)]
