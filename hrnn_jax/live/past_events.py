"""Events of past sessions (`preprocess.past_sessions`), and the session that each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hrnn_jax.live.events import (
    AssignedEvents,
    CheckedEvent,
    OpenSession,
    StoredEvent,
    key_of,
    session_after,
)
from hrnn_jax.preprocess.frames import Row


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
