"""Users who come with past events, a log or the sessions of training (`preprocess.past_sessions`).

Those who have a state already are left out, so that an interrupted call can be repeated.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hrnn_jax.live.batched_model import WIDTHS
from hrnn_jax.live.events import (
    AssignedEvents,
    CheckedEvent,
    Event,
    OpenSession,
    Outcome,
    StoredEvent,
    key_of,
    session_after,
)
from hrnn_jax.live.states.user_states import UserStates
from hrnn_jax.preprocess import past_sessions
from hrnn_jax.preprocess.frames import Frame, Row, histories


def bootstrap(
    states: UserStates,
    log: Any,
    observe: Callable[[Sequence[Event]], Sequence[Outcome]],
    check_item: Callable[[str], object],
    on_events: Callable[[int], None],
) -> collections.Counter[str]:
    """Observe the events of a log, see `Recommender.bootstrap`.

    Args:
        states: of all users.
        log: a frame.
        observe: `Recommender.observe_many`.
        check_item: raises InputError for an item that is refused, before anything is stored.
        on_events: called with the number of events of each transaction.
    """
    counts: collections.Counter[str] = collections.Counter()
    any_year = states.network.trained.any_year
    for rows in histories(log, users=WIDTHS[-1], any_year=any_year, check_item=check_item):
        keys = [key_of(user, None) for user, *_ in rows]
        with states.updating(set(keys)):
            new = itertools.compress(rows, states.are_new(keys))
            events = [Event(item, user, time, session) for user, item, time, session in new]
            counts.update(observe(events))
        _count_known(counts, len(rows) - len(events))
        on_events(len(rows))
    return counts


def take_sessions(
    states: UserStates, past: Frame, on_events: Callable[[int], None]
) -> collections.Counter[str]:
    """Take over past sessions as they are, see `Recommender.take_sessions`."""
    counts: collections.Counter[str] = collections.Counter()
    for rows in past_sessions.by_users(past, users=WIDTHS[-1]):
        events = of_rows(rows)
        keys = [event.key for event in events]
        with states.updating(set(keys)):
            events = list(itertools.compress(events, states.are_new(keys)))
            assigned = assign(events, {}, item_index=states.network.item_index)
            states.write(assigned, {})
        states.count(assigned)
        counts.update(assigned.outcomes)
        _count_known(counts, len(rows) - len(events))
        on_events(len(rows))
    return counts


def _count_known(counts: collections.Counter[str], n_events: int) -> None:
    """Count the events of users who are left out."""
    if n_events:
        counts["known_user"] += n_events


class PastEvent(NamedTuple):
    """An event whose session is known; ids are texts."""

    key: str
    item: str
    time: float  # Unix seconds
    number: int  # of the session; a session's events follow each other and share it
    session: str | None  # id of the session, if it has one
    end: float  # Unix seconds of the session's last event, which need not be among the events


def of_rows(rows: Iterable[Row]) -> list[PastEvent]:
    """Return the events in rows of `past_sessions.COLUMNS`."""
    return [
        PastEvent(
            key_of(user, None),
            str(item),
            float(time),
            number,
            None if session is None else str(session),
            float(end),
        )
        for user, item, time, number, session, end in rows
    ]


def assign(
    events: Sequence[PastEvent],
    sessions: Mapping[str, OpenSession],
    *,
    item_index: Mapping[str, int],
) -> AssignedEvents:
    """Assign events to the sessions that they have, whatever their times are.

    Args:
        events: each user's in order; the first one opens a session.
        sessions: the open session of each key that has one.
        item_index: the index of each item that the network knows.

    Returns:
        As `events.assign_sessions`; the events of known items are observed.
    """
    result = AssignedEvents(dict(sessions))
    numbers: dict[str, int] = {}  # what the events call each key's open session
    for key, item, time, number, session, end in events:
        if item not in item_index:
            result.outcomes.append("unknown_item")
            continue
        result.outcomes.append("observed")
        continues = numbers.get(key) == number
        numbers[key] = number
        event = CheckedEvent(key, item, time, session, None)
        after = session_after(result.sessions.get(key), event, continues=continues)
        after = result.sessions[key] = after._replace(latest_time=max(after.latest_time, end))
        result.observed.setdefault(key, []).append(
            StoredEvent(after.n_events - 1, after.number, item, time, None)
        )
    return result
