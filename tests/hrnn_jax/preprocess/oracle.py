"""Section 4.1 in plain Python, loop by loop, to compare sessions.py with."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from hrnn_jax.config import DataConfig

Event = dict  # row, user, item, time (seconds), and where the log has them session, type


def sessionise(log: list[Event], recipe: DataConfig) -> list[list[Event]]:
    """Return all sessions, by user and time, before any filter but drop_types."""
    log = [event for event in log if event.get("type") not in recipe.drop_types]
    log = sorted(log, key=lambda event: (event["user"], event["time"], event["row"]))
    sessions: list[list[Event]] = []
    for _, history in itertools.groupby(log, key=lambda event: event["user"]):
        own: list[list[Event]] = []
        for event in history:
            if "session" in event:
                current = next((s for s in own if s[0]["session"] == event["session"]), None)
            else:
                before = [earlier for session in own for earlier in session]
                before = _that_count(before, event)
                idle = event["time"] - before[-1]["time"] if before else float("inf")
                current = own[-1] if idle <= recipe.session_gap_minutes * 60 else None
            if current is None:
                own.append([event])
            else:
                current.append(event)
        sessions += own
    return sessions


def _that_count(before: list[Event], event: Event) -> list[Event]:
    """Return the user's earlier events that an event's idle time is counted from.

    Of a given split those of its part and of the parts before it, or of one more part if none are.
    """
    order = ["train", "validation", "test"]
    for last in range(order.index(event["part"]), 3) if "part" in event else ():
        of_parts = [earlier for earlier in before if earlier["part"] in order[: last + 1]]
        if of_parts:
            return of_parts
    return before


def first_of_kind(session: list[Event]) -> list[Event]:
    """Drop the events whose item and type occurred earlier in the session."""
    kinds = [(event["item"], event.get("type")) for event in session]
    return [event for at, event in enumerate(session) if kinds[at] not in kinds[:at]]


def prepare(
    log: list[Event], recipe: DataConfig, before: Collection[int] = ()
) -> list[tuple[int, bool]]:
    """Return the rows that are left, in replay order, and whether each is held out.

    before: items of the run that is continued.
    """
    sessions = sessionise(log, recipe)
    if recipe.drop_repeats:
        sessions = [first_of_kind(session) for session in sessions]

    support = _tally(event["item"] for session in sessions for event in session)
    sessions = [
        [e for e in session if support[e["item"]] >= recipe.min_support or e["item"] in before]
        for session in sessions
    ]
    sessions = [session for session in sessions if len(session) >= recipe.min_session_events]
    sessions = [session for session in sessions if session]
    active = _tally(session[0]["user"] for session in sessions)
    limit = float("inf") if recipe.max_user_sessions is None else recipe.max_user_sessions
    sessions = [
        session
        for session in sessions
        if recipe.min_user_sessions <= active[session[0]["user"]] < limit
    ]

    if recipe.split == "validation":
        sessions = [session for session in sessions if session is not _last(sessions, session)]
    held_out = [session is _last(sessions, session) for session in sessions]
    trained = set(before) | {
        e["item"]
        for session, out in zip(sessions, held_out, strict=True)
        if not out
        for e in session
    }
    rows = []
    for session, out in zip(sessions, held_out, strict=True):
        kept = [event for event in session if not out or event["item"] in trained]
        if not out or len(kept) >= recipe.min_test_events:
            rows += [(event["row"], out) for event in kept]
    return rows


def _last(sessions: list[list[Event]], session: list[Event]) -> list[Event]:
    return [other for other in sessions if other[0]["user"] == session[0]["user"]][-1]


def _tally(values) -> dict:
    counts: dict = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
