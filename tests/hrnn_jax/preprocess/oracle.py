"""Section 4.1 in plain Python, loop by loop: what sessions.py must equal."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from hrnn_jax.config import DataConfig

Event = dict  # row, user, item, time (seconds), and where the log has them session, type


def sessionise(log: list[Event], recipe: DataConfig) -> list[list[Event]]:
    """Return all sessions, by user and time, before any filter but drop_types."""
    log = [event for event in log if event.get("type") not in recipe.drop_types]
    log = sorted(log, key=lambda event: (event["user"], event["time"], event["row"]))
    found: list[list[Event]] = []
    for _, history in itertools.groupby(log, key=lambda event: event["user"]):
        own: list[list[Event]] = []
        for event in history:
            if "session" in event:
                home = next((s for s in own if s[0]["session"] == event["session"]), None)
            else:
                idle = event["time"] - own[-1][-1]["time"] if own else float("inf")
                home = own[-1] if idle <= recipe.session_gap_minutes * 60 else None
            if home is None:
                own.append([event])
            else:
                home.append(event)
        found += own
    return found


def first_of_kind(session: list[Event]) -> list[Event]:
    """Drop the events whose item and type occurred earlier in the session."""
    kinds = [(event["item"], event.get("type")) for event in session]
    return [event for at, event in enumerate(session) if kinds[at] not in kinds[:at]]


def prepare(
    log: list[Event], recipe: DataConfig, before: Collection[int] = ()
) -> list[tuple[int, bool]]:
    """Return the rows that are left, in replay order, and whether each is held out.

    before: items that a model has been trained on already.
    """
    found = sessionise(log, recipe)
    if recipe.drop_repeats:
        found = [first_of_kind(session) for session in found]

    support = _tally(event["item"] for session in found for event in session)
    found = [
        [e for e in session if support[e["item"]] >= recipe.min_support or e["item"] in before]
        for session in found
    ]
    found = [session for session in found if len(session) >= recipe.min_session_events]
    found = [session for session in found if session]
    active = _tally(session[0]["user"] for session in found)
    limit = float("inf") if recipe.max_user_sessions is None else recipe.max_user_sessions
    found = [
        session
        for session in found
        if recipe.min_user_sessions <= active[session[0]["user"]] < limit
    ]

    if recipe.split == "validation":
        found = [session for session in found if session is not _last(found, session)]
    held_out = [session is _last(found, session) for session in found]
    known = set(before) | {
        e["item"] for session, out in zip(found, held_out, strict=True) if not out for e in session
    }
    rows = []
    for session, out in zip(found, held_out, strict=True):
        kept = [event for event in session if not out or event["item"] in known]
        if not out or len(kept) >= recipe.min_test_events:
            rows += [(event["row"], out) for event in kept]
    return rows


def _last(found: list[list[Event]], session: list[Event]) -> list[Event]:
    return [other for other in found if other[0]["user"] == session[0]["user"]][-1]


def _tally(values) -> dict:
    counts: dict = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
