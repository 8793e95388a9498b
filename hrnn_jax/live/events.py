"""What an event of a live user is, which session it belongs to, and whether it counts.

Ids are the log's own, and are the same where their texts are: 42 and "42". A user's events are
taken in the order in which they come. One opens a new session where its session id differs from
the open session's or, if it has none, where its time is further from that session's latest event
than the gap of the run's recipe, ahead or behind: a clock that jumps costs a session, not an event.
An event that is late by less belongs to the open session. An anonymous session has no other.
"""

from __future__ import annotations

import dataclasses
import re
import time as clock
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from hrnn_jax import errors, trained
from hrnn_jax.live import replay, state_store

Id = int | str
Outcome = Literal["observed", "unknown_item", "repeat", "duplicate"]
USER, SESSION = "u", "s"  # how who begins, see states.py
MAX_ID_BYTES = 256
MAX_TIME = 1e11  # Unix seconds, the year 5138; larger numbers are milliseconds
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, half characters


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
    time = clock.time() if event.time is None else event.time
    if isinstance(time, bool) or not isinstance(time, int | float | np.number):
        raise errors.InputError(f"time {time!r}: give Unix seconds, or none for now")
    if not 0 <= time < MAX_TIME:
        raise errors.InputError(
            f"time {time}: give Unix seconds from 0 up to {MAX_TIME:g}; are these milliseconds?"
        )
    return Checked(
        who=who(event.user, event.session),
        item=text("item", event.item),
        time=float(time),
        session=None if event.session is None else text("session", event.session),
        event_id=None if event.event_id is None else text("event_id", event.event_id),
    )


def who(user: Id | None, session: Id | None) -> str:
    """Return by what a user or, without one, an anonymous session is known."""
    if user is not None:
        return USER + text("user", user)
    if session is None:
        raise errors.InputError("no user: give one, or the id of an anonymous session")
    return SESSION + text("session", session)


def text(what: str, given: Id) -> str:
    """Return an id as the text by which it is known. Raises InputError where it is none."""
    if isinstance(given, bool) or not isinstance(given, str | int | np.integer):
        raise errors.InputError(f"{what} {given!r}: ids are integers or strings")
    if not isinstance(given, str) and not -(2**63) <= given < 2**64:
        raise errors.InputError(f"{what}: integer ids have at most 64 bits")
    known_by = str(given)
    if _UNFIT.search(known_by):
        raise errors.InputError(f"{what} {given!r}: ids hold no control characters")
    size = len(known_by.encode())
    if not 0 < size <= MAX_ID_BYTES:
        raise errors.InputError(
            f"{what} {known_by[:20]!r}: ids have 1 to {MAX_ID_BYTES} bytes, not {size}"
        )
    return known_by


def settle(
    events: Sequence[Checked],
    visits: dict[str, state_store.Visit],
    store: state_store.Store,
    *,
    index: Mapping[str, int],
    how: trained.Trained,
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
