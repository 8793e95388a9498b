"""What the recommender has to answer: a replay of the acknowledged events in plain Python.

It shares no code with the live recommender, but the network's two formulas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from hrnn_jax.live.events import Event
from tests.fault_simulator.network import CONFIG, fold, scores

GAP = 100.0  # seconds between sessions
NO_GAP = 64  # of a user's first event
KEPT = 4  # events of each user that are stored
ITEMS = [f"i{n}" for n in range(CONFIG.n_items)]


class Kept(NamedTuple):
    """A stored event; the fields are those of `StoredEvent`."""

    place: int
    session: int
    item: str
    time: float
    event_id: str | None


@dataclasses.dataclass
class Person:
    """A user or an anonymous session."""

    kept: tuple[Kept, ...] = ()
    n_events: int = 0
    number: int = 0  # of the open session
    id: str | None = None  # of the open session
    latest: float = 0.0
    last: float = 0.0
    written: float = 0.0
    x: int = 0  # the network's state before the last item
    item: int | None = None
    opens: bool = False
    gap: int = NO_GAP
    ended: bool = False  # the last event's session is over
    dropped: tuple[Kept, ...] = ()  # events that were stored since a reload has begun, and are not
    choices: tuple[Person, ...] = ()  # what the person may be after the reload

    def feed(self, weights: int, event: Kept, number: int, last: float) -> None:
        """Change the network's state by an event, after one of a session and a time."""
        if self.item is not None:
            self.x = fold(weights, self.x, self.item, self.opens, self.gap)
            self.opens = self.ended or event.session != number
            self.gap = gap_class(int(event.time) - int(last), self.opens)
        self.item, self.ended = ITEMS.index(event.item), False

    def session(self) -> tuple[float, float, str | None, int, int]:
        """Return the fields of `OpenSession`."""
        return self.latest, self.last, self.id, self.number, self.n_events

    def recomputed(self, weights: int) -> Person:
        """Return the person whose state was computed again from the kept events."""
        return self.as_told().computed(weights, self.kept)

    def computed(self, weights: int, events: tuple[Kept, ...]) -> Person:
        """Return the person whose state was computed from some events."""
        new = dataclasses.replace(
            self, x=0, item=None, opens=False, gap=NO_GAP, ended=False, choices=()
        )
        for event, before in zip(events, (*events[:1], *events), strict=False):
            new.feed(weights, event, before.session, before.time)
        # Where the newer events are damaged, as for events of unknown items.
        new.ended = bool(events) and events[-1].session != self.number
        return new

    def reloaded(self, weights: int) -> Person:
        """Return the person after a reload.

        The state was computed at some time of the reload, from the events that were stored then,
        and went on with those after them.
        """
        known, every = self.as_told(), (*self.dropped, *self.kept)
        choices = [known.computed(weights, every[n:]) for n in range(len(self.dropped) + 1)]
        return dataclasses.replace(choices[0], choices=tuple(choices))

    def as_told(self) -> Person:
        """Return the person with what the kept events tell of the open session."""
        if not self.kept:
            return self
        return dataclasses.replace(self, last=self.told().last)

    def told(self) -> Person:
        """Return the person whose open session is known from the kept events alone."""
        last = self.kept[-1]
        latest = max(event.time for event in self.kept if event.session == last.session)
        return dataclasses.replace(
            self, latest=latest, last=last.time, id=None, number=last.session,
            n_events=last.place + 1, ended=False,
        )  # fmt: skip


@dataclasses.dataclass
class Oracle:
    """All people, as they have to be after the acknowledged calls."""

    weights: int
    drop_repeats: bool
    people: dict[str, Person] = dataclasses.field(default_factory=dict)

    def copy(self) -> Oracle:
        people = {key: dataclasses.replace(person) for key, person in self.people.items()}
        return dataclasses.replace(self, people=people)

    def observe(self, events: Sequence[Event], now: float) -> list[str]:
        """Observe the events of one call; return their outcomes."""
        stored = {key: person.kept for key, person in self.people.items()}  # before the call
        ids = {(key, kept.event_id) for key, some in stored.items() for kept in some}
        items = {
            key: {kept.item for kept in person.kept if kept.session == person.number}
            for key, person in self.people.items()
        }
        return [self._observe_one(event, ids, items, now) for event in events]

    def _observe_one(
        self, event: Event, ids: set[tuple[str, str | None]], items: dict[str, set[str]], now: float
    ) -> str:
        key = key_of(event)
        person, time = self.people.get(key), float(event.time or 0.0)
        item, id_ = str(event.item), None if event.session is None else str(event.session)
        event_id = None if event.event_id is None else str(event.event_id)
        if event_id is not None and (key, event_id) in ids:
            return "duplicate"
        continues = person is not None and (
            event.user is None
            or (id_ == person.id if id_ is not None else abs(time - person.latest) <= GAP)
        )
        repeats = self.drop_repeats and continues and item in items.get(key, set())
        if repeats or item not in ITEMS:
            if person is not None and continues:
                person.latest, person.written = max(person.latest, time), now
            return "repeat" if repeats else "unknown_item"
        ids.add((key, event_id))
        if person is None:  # the session before the first one never was
            person = self.people[key] = Person(number=-1)
        number, last = person.number, person.last
        if not continues:
            person.number, person.id, person.latest = person.number + 1, id_, time
            items[key] = set()
        items.setdefault(key, set()).add(item)
        kept = Kept(person.n_events, person.number, item, time, event_id)
        person.feed(self.weights, kept, number, last)
        person.n_events += 1
        oldest = person.n_events - KEPT
        every = (*person.kept, kept)
        person.kept = tuple(one for one in every if one.place >= oldest)
        person.dropped += every[: len(every) - len(person.kept)]
        person.latest, person.last, person.written = max(person.latest, time), time, now
        return "observed"

    def best(self, key: str, k: int, *, exclude_seen: bool = False) -> list[tuple[str, float]]:
        """Return the list of a user or session, known or not."""
        person = self.people.get(key, Person())
        x = person.x
        if person.item is not None:
            x = fold(self.weights, x, person.item, person.opens, person.gap)
        of_all = scores(self.weights, x)
        # Where a session has no item twice, lists leave out those of the open one.
        seen = {
            kept.item
            for kept in person.kept
            if exclude_seen or (self.drop_repeats and kept.session == person.number)
        }
        order = sorted(range(len(ITEMS)), key=lambda item: (-of_all[item], item))
        return [(ITEMS[n], float(of_all[n])) for n in order if ITEMS[n] not in seen][:k]

    def recompute(self, weights: int) -> None:
        """Compute all states again, with other weights."""
        self.weights = weights
        self.people = {
            key: person.recomputed(weights)
            for key, person in self.people.items()
            if person.kept  # all others are gone, as nothing tells their states
        }

    def begin_reload(self) -> None:
        """Note which events are stored from now on."""
        for person in self.people.values():
            person.dropped = ()

    def reloaded(self, weights: int) -> Oracle:
        """Return all people after a reload that has begun."""
        people = {key: person.reloaded(weights) for key, person in self.people.items()}
        return dataclasses.replace(self, weights=weights, people=people)

    def idle(self, end: float) -> list[str]:
        """Return the anonymous sessions that were written before a time."""
        return [key for key, one in self.people.items() if key[0] == "s" and one.written < end]


def gap_class(seconds: int, opens: bool) -> int:
    """Return floor(log2(1 + seconds)), counted from 32 for a gap between sessions."""
    return min((max(seconds, 0) + 1).bit_length() - 1, 31) + 32 * opens


def key_of(event: Event) -> str:
    """Return the key of an event's user or anonymous session."""
    return f"s{event.session}" if event.user is None else f"u{event.user}"
