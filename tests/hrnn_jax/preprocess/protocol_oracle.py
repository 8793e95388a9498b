"""Each protocol in plain Python, loop by loop, to compare protocols.py with.

What published protocols do with the odd cases, and what is done here:

- A user of one event: papers drop them before. Here the event is held out and nothing predicts it,
  so it is dropped with its session.
- A user whose events are all after the cut: papers that split by time drop or keep them. Here they
  have no training session, so that `min_user_sessions` drops them unless it is 0.
- A user whose held-out events come before others that are trained on: papers that draw a split by
  chance do so. Here the model has read them when it predicts later ones, without training on them.
- Events of one time at the cut: papers cut between two of them. Here they stay on one side.
- An item that is only held out: papers give it a random row and count the case as missed. Here the
  event is dropped, and the folder's counts say how many.
"""

from __future__ import annotations

import itertools
import math

from hrnn_jax.config import DataConfig
from tests.hrnn_jax.preprocess.oracle import Event, _tally, first_of_kind, sessionise


def prepare(log: list[Event], recipe: DataConfig, before=()) -> list[dict]:
    """Return the events that are left, in replay order, with `test`, `case` and `held`."""
    sessions = sessionise(log, recipe)
    if recipe.drop_repeats and recipe.protocol != "given":
        sessions = [first_of_kind(session) for session in sessions]
    events = []
    for number, session in enumerate(sessions):
        events += [{**event, "of": number} for event in session]
    for user in {event["user"] for event in events}:
        mine = [event for event in events if event["user"] == user]
        for place, event in enumerate(reversed(mine), start=1):
            event["level"] = place
    if recipe.protocol == "global_time":
        end, span = max(event["time"] for event in events), 86_400 * recipe.test_days
        for event in events:
            event["level"] = math.floor((end - event["time"]) / span) + 1
    if recipe.protocol == "given":
        inner = 3 if any(event["part"] == "validation" for event in events) else 2
        for event in events:
            mine = [other for other in events if other["user"] == event["user"]]
            trains = [other for other in mine if other["part"] == "train"]
            visits = {other["of"] for other in trains}
            last = (
                trains[-1:]
                if len(visits) == 1
                else [other for other in trains if other["of"] == max(visits)]
            )
            event["level"] = {"test": 1, "validation": 2}.get(event["part"], 0)
            if event in last:
                event["level"] = inner
    if recipe.split == "validation":
        events = [event for event in events if event["level"] != 1]
        test, target, held = {2}, 2, 3
    elif recipe.train_on_validation:
        test, target, held = {1}, 1, 2
    else:
        test, target, held = {1, 2}, 1, 3
    for event in events:
        event["test"] = event["level"] in test
        event["held"] = event["level"] == held
    if recipe.drop_repeats and recipe.protocol == "given":
        firsts = [first_of_kind(session) for session in _sessions(events)]
        trained = [first_of_kind(_trained(session)) for session in _sessions(events)]
        kept = [event["row"] for session in firsts for event in session if event["test"]]
        kept += [event["row"] for session in trained for event in session]
        events = [event for event in events if event["row"] in kept]

    support = _tally(event["item"] for event in _trained(events))
    events = [
        event
        for event in events
        if support.get(event["item"], 0) >= recipe.min_support or event["item"] in before
    ]
    length = _tally(event["of"] for event in _trained(events))
    events = [
        event
        for event in events
        if event["test"] or length[event["of"]] >= recipe.min_session_events
    ]
    visits = {(event["user"], event["of"]) for event in _trained(events)}
    active = _tally(user for user, _ in visits)
    limit = float("inf") if recipe.max_user_sessions is None else recipe.max_user_sessions
    events = [
        event
        for event in events
        if recipe.min_user_sessions <= active.get(event["user"], 0) < limit
    ]
    known = {event["item"] for event in _trained(events)} | set(before)
    events = [event for event in events if event["item"] in known]
    length = _tally(event["of"] for event in events)
    events = [
        event
        for event in events
        if not event["test"] or length[event["of"]] >= recipe.min_test_events
    ]
    for at, event in enumerate(events):
        follows = at > 0 and events[at - 1]["of"] == event["of"]
        event["case"] = event["level"] == target and event["test"] and follows
    if recipe.task == "last_item":
        for event in events:
            cases = [other for other in events if other["case"]]
            mine = [other["row"] for other in cases if other["user"] == event["user"]]
            event["last"] = mine[-1:] == [event["row"]]
        for event in events:
            event["case"] = event["last"]
    return events


def _sessions(events: list[Event]) -> list[list[Event]]:
    return [list(session) for _, session in itertools.groupby(events, key=lambda e: e["of"])]


def _trained(events: list[Event]) -> list[Event]:
    return [event for event in events if not event["test"]]
