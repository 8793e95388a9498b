"""What live events and requests are, and which session an event belongs to: data in, data out.

A user's events are taken in the order in which they arrive. An event opens a new session

- if it has a session id, and the open session has another one or none;
- if it has no session id, and its time is further from the open session's latest time than the
  session gap of the run, before or after it. A clock that jumps costs a session, not an event.

Every other event belongs to the open session, a late one too. An anonymous session never ends.
"""

from __future__ import annotations

import dataclasses
import time as clock
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from hrnn_jax import errors
from hrnn_jax.arguments import whole_number
from hrnn_jax.ids_and_times import Id, id_text, unix_seconds

Outcome = Literal["observed", "unknown_item", "repeat", "duplicate"]
USER_PREFIX, SESSION_PREFIX = "u", "s"  # of keys


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """An event of a user or, without a user, of an anonymous session."""

    item: Id
    user: Id | None = None
    time: float | None = None  # Unix seconds; None for now
    session: Id | None = None
    event_id: Id | None = None  # a second event of the user with this id changes nothing


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request to recommend items to a user or, without a user, in an anonymous session."""

    user: Id | None = None
    session: Id | None = None
    k: int = 10  # items; fewer are returned where no more are left
    exclude: Collection[Id] | None = ()  # items to leave out
    exclude_seen: bool = False  # leave out the items of the stored events too
    candidates: Collection[Id] | None = None  # score only these items


class CheckedEvent(NamedTuple):
    """An event with valid ids, as texts, and a valid time."""

    key: str  # of the user or the anonymous session, see `key_of`
    item: str
    time: float  # Unix seconds
    session: str | None
    event_id: str | None


class OpenSession(NamedTuple):
    """A user's newest session: it decides the session of the next event."""

    latest_time: float  # of all its events, Unix seconds
    last_time: float  # of its last event of a known item, Unix seconds
    id: str | None  # None where the session's first event has no session id
    number: int  # from 0
    n_events: int  # of the user, in all sessions so far


class StoredEvent(NamedTuple):
    """An observed event as the state file stores it, next to its key."""

    place: int  # among the user's events, from 0
    session: int  # number of the session, from 0
    item: str  # raw id as text
    time: float  # Unix seconds
    event_id: str | None


@dataclasses.dataclass
class AssignedEvents:
    """The result of `assign_sessions`."""

    sessions: dict[str, OpenSession]  # of each key, after the events
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)  # of each event
    observed: dict[str, list[StoredEvent]] = dataclasses.field(default_factory=dict)  # by key
    n_late: int = 0  # observed events older than the latest one before them


def check_event(event: object, *, any_year: bool = True) -> CheckedEvent:
    """Return an event with its ids as texts and its time in Unix seconds.

    Args:
        event: an `Event`.
        any_year: whether its time may be before 1990 or after tomorrow.

    Raises:
        InputError: an id or the time is invalid, or there is neither user nor session.
    """
    if not isinstance(event, Event):
        raise errors.InputError(f"{event!r}: give an `Event`")
    now = clock.time()
    return CheckedEvent(
        key=key_of(event.user, event.session),
        item=id_text("item", event.item),
        time=unix_seconds(now if event.time is None else event.time, any_year=any_year, now=now),
        session=None if event.session is None else id_text("session", event.session),
        event_id=None if event.event_id is None else id_text("event_id", event.event_id),
    )


def key_of(user: Id | None, session: Id | None) -> str:
    """Return the key of a user or, without a user, of an anonymous session.

    The key is a prefix and the id's text, so that a user and an anonymous session may have one id.

    Raises:
        InputError: there is neither, or the id is invalid.
    """
    if user is not None:
        return USER_PREFIX + id_text("user", user)
    if session is None:
        raise errors.InputError("no user: give a user, or the id of an anonymous session")
    return SESSION_PREFIX + id_text("session", session)


def key_of_request(request: object) -> str:
    """Return the key of a request's user or anonymous session.

    Raises:
        InputError: an id or `k` is invalid, or there are both a user and a session, or neither.
    """
    if not isinstance(request, Request):
        raise errors.InputError(f"{request!r}: give a `Request`")
    whole_number("k", request.k)
    if request.user is not None and request.session is not None:
        raise errors.InputError("give a user or an anonymous session, not both")
    return key_of(request.user, request.session)


def assign_sessions(
    events: Sequence[CheckedEvent],
    sessions: Mapping[str, OpenSession],
    session_items: Mapping[str, Collection[str]] | None,
    delivered: Collection[tuple[str, str]],
    *,
    item_index: Mapping[str, int],
    gap_seconds: float,
) -> AssignedEvents:
    """Assign events to sessions and decide the outcome of each, see `Recommender.observe_many`.

    Args:
        events: each user's in the order of their arrival.
        sessions: the open session of each key that has one.
        session_items: the items of the open session of each key, if a repeated item inside a
            session is to be left out; None if repeats count.
        delivered: key and event id of events that were stored before.
        item_index: the index of each item that the network knows.
        gap_seconds: a longer idle time opens a session.

    Returns:
        The outcome of each event, and the new sessions and events.
    """
    result = AssignedEvents(dict(sessions))
    items_of = {key: set(items) for key, items in (session_items or {}).items()}
    delivered = set(delivered)
    for event in events:
        session = result.sessions.get(event.key)
        continues = session is not None and _continues(session, event, gap_seconds)
        if event.event_id is not None and (event.key, event.event_id) in delivered:
            result.outcomes.append("duplicate")
            continue
        items = items_of.setdefault(event.key, set())
        is_repeat = session_items is not None and continues and event.item in items
        if is_repeat or event.item not in item_index:
            result.outcomes.append("repeat" if is_repeat else "unknown_item")
            if session is not None and continues:  # the event keeps the session open
                latest = max(event.time, session.latest_time)
                result.sessions[event.key] = session._replace(latest_time=latest)
            continue
        result.outcomes.append("observed")
        if event.event_id is not None:  # an id counts once it is stored, in a call as between calls
            delivered.add((event.key, event.event_id))
        if not continues:
            items.clear()
        items.add(event.item)
        after = result.sessions[event.key] = session_after(session, event, continues=continues)
        result.observed.setdefault(event.key, []).append(
            StoredEvent(after.n_events - 1, after.number, event.item, event.time, event.event_id)
        )
        result.n_late += session is not None and event.time < session.latest_time
    return result


def _continues(session: OpenSession, event: CheckedEvent, gap_seconds: float) -> bool:
    """Tell whether an event belongs to the open session."""
    if event.key.startswith(SESSION_PREFIX):
        return True
    if event.session is not None:
        return event.session == session.id
    # To the microsecond, as a log's sessions are cut: floats of today's times are 0.2 of one apart.
    return round(abs(event.time - session.latest_time), 6) <= round(gap_seconds, 6)


def session_after(
    session: OpenSession | None, event: CheckedEvent, *, continues: bool
) -> OpenSession:
    """Return the open session after an observed event."""
    if session is None or not continues:
        number, n_events = (0, 1) if session is None else (session.number + 1, session.n_events + 1)
        return OpenSession(event.time, event.time, event.session, number, n_events)
    return session._replace(
        latest_time=max(event.time, session.latest_time),
        last_time=event.time,
        n_events=session.n_events + 1,
    )


def open_session(events: Sequence[StoredEvent]) -> OpenSession:
    """Return a user's open session as the stored events tell it.

    Its id is not among them, nor are the times of events that only kept it open.

    Args:
        events: of one user, oldest first; one or more.
    """
    last = events[-1]
    latest = max(event.time for event in events if event.session == last.session)
    return OpenSession(latest, last.time, None, last.session, last.place + 1)
