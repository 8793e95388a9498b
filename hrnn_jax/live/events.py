"""What an event of a live user is, which session it belongs to, and whether it counts.

Ids are the log's own, and are the same where their texts are: 42 and "42". A user's events are
taken in the order in which they come. One opens a new session where its session id differs from
the open session's or, if it has none, where its time is further from that session's latest event
than the gap of the run's recipe, ahead or behind: a clock that jumps costs a session, not an event.
An event that is late by less belongs to the open session. An anonymous session has no other.
"""

from __future__ import annotations

import dataclasses
import time as clock
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from hrnn_jax import errors
from hrnn_jax.checkpoint import TrainedRun
from hrnn_jax.ids_and_times import Id, id_text, unix_seconds
from hrnn_jax.live import replay, state_store

Outcome = Literal["observed", "unknown_item", "repeat", "duplicate"]
USER, SESSION = "u", "s"  # how who begins, see states.py


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an item; of a user or, without one, of an anonymous session."""

    item: Id
    user: Id | None = None
    time: float | None = None  # Unix seconds; now if there is none
    session: Id | None = None
    event_id: Id | None = None  # a second delivery of it changes nothing


class Checked(NamedTuple):
    """An event whose ids and time are as they must be."""

    who: str
    item: str
    time: float
    session: str | None
    event_id: str | None


class Settled(NamedTuple):
    """What becomes of events."""

    outcomes: list[Outcome]  # of each
    moves: list[replay.Move]  # of those observed, for the network
    kept: list[tuple[str, state_store.Kept]]  # of those observed, with their who
    late: int  # those observed whose time is before that of their session


def check(event: Event) -> Checked:
    """Raise InputError unless the event's ids and time are as they must be."""
    return Checked(
        who=who(event.user, event.session),
        item=id_text("item", event.item),
        time=unix_seconds(clock.time() if event.time is None else event.time),
        session=None if event.session is None else id_text("session", event.session),
        event_id=None if event.event_id is None else id_text("event_id", event.event_id),
    )


def who(user: Id | None, session: Id | None) -> str:
    """Return by what a user or, without one, an anonymous session is known."""
    if user is not None:
        return USER + id_text("user", user)
    if session is None:
        raise errors.InputError("no user: give one, or the id of an anonymous session")
    return SESSION + id_text("session", session)


def settle(
    events: Sequence[Checked],
    visits: dict[str, state_store.Visit],
    store: state_store.Store,
    *,
    index: Mapping[str, int],
    how: TrainedRun,
) -> Settled:
    """Decide what becomes of events, in their order, and move the visits on; see `observe_many`.

    index: of each item that the network knows.
    """
    outcomes: list[Outcome] = []
    moves, kept, late = [], [], 0
    delivered = set()
    had: dict[str, set[str]] = {}  # the items of open sessions
    for event in events:
        one, item, time, session, event_id = event
        visit = visits.get(one)
        stays = visit is not None and _stays(event, visit, how.gap_seconds)
        if event_id is not None:
            if (one, event_id) in delivered or store.delivered(one, event_id):
                outcomes.append("duplicate")
                continue
            delivered.add((one, event_id))
        if how.drop_repeats and one not in had:
            kept_of = store.events(one, session=visit.number) if visit else ()
            had[one] = {before.item for before in kept_of}
        is_repeat = stays and item in had.get(one, ())
        if is_repeat or item not in index:
            outcomes.append("repeat" if is_repeat else "unknown_item")
            if visit and stays:
                visits[one] = visit._replace(time=max(time, visit.time))
            continue
        late += visit is not None and time < visit.time
        idle = time - visit.last if visit else None
        if not visit:
            visit = state_store.Visit(time, time, session, number=0, events=1)
        elif stays:
            visit = visit._replace(time=max(time, visit.time), last=time, events=visit.events + 1)
        else:
            visit = state_store.Visit(time, time, session, visit.number + 1, visit.events + 1)
        opens = visit.number > 0 and not stays
        if how.drop_repeats:
            had[one] = {item} | (set() if opens else had[one])
        visits[one] = visit
        outcomes.append("observed")
        moves.append(replay.Move(one, index[item], opens, idle))
        kept.append((one, state_store.Kept(visit.events - 1, visit.number, item, time, event_id)))
    return Settled(outcomes, moves, kept, late)


def _stays(event: Checked, visit: state_store.Visit, gap_seconds: float) -> bool:
    """Tell whether an event belongs to the open session."""
    if event.who.startswith(SESSION):
        return True
    if event.session is not None:
        return event.session == visit.session
    return abs(event.time - visit.time) <= gap_seconds
