"""The session of a live event, its outcome, and invalid events."""

import math
import time

import pytest

from hrnn_jax import errors
from hrnn_jax.files import checkpoint
from hrnn_jax.live.events import (
    CheckedEvent,
    Event,
    OpenSession,
    StoredEvent,
    assign_sessions,
)
from tests.helpers import live_users


def sessions(recommender, user="u"):
    return [step.session for step in recommender.history(user=user, sessions=10**6)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, live_users.GAP, 2 * live_users.GAP], [0, 0, 0]),
        ([0, live_users.GAP + 1, live_users.GAP + 2], [0, 1, 1]),
        ([0, -live_users.GAP, 1], [0, 0, 0]),  # late by less than the gap
        ([0, -live_users.GAP - 1, -live_users.GAP], [0, 1, 1]),  # a clock set back
        ([0, 10**9, 1, 2], [0, 1, 2, 2]),  # a clock that jumps ahead, and back
    ],
)
def test_a_gap_before_or_after_opens_a_session(times, expected):
    recommender = live_users.recommender()
    for n, seconds in enumerate(times):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + seconds)
    assert sessions(recommender) == expected


def test_a_late_event_does_not_change_the_latest_time_of_its_session():
    recommender = live_users.recommender()
    for n, seconds in enumerate([0, -1000, live_users.GAP]):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + seconds)
    assert sessions(recommender) == [0, 0, 0]
    assert recommender.counts["late"] == 1


def test_a_session_id_overrides_the_gap():
    recommender = live_users.recommender()
    for n, (session, seconds) in enumerate(
        [
            ("a", 0),
            ("a", 9 * live_users.GAP),
            ("b", 9 * live_users.GAP),
            (None, 9 * live_users.GAP),
            ("a", 9**9),
        ]
    ):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + seconds, session=session)
    assert sessions(recommender) == [0, 0, 1, 1, 2]


def test_an_unknown_item_only_keeps_its_session_open():
    recommender, without = live_users.recommender(), live_users.recommender()
    events = [("i1", 0), ("i2", 60), ("i3", live_users.GAP + 100)]
    for item, seconds in events:
        without.observe(user="u", item=item, time=live_users.NOW + seconds, session="one")
    assert recommender.observe(user="u", item="no", time=live_users.NOW) == "unknown_item"
    assert len(recommender) == 0
    for item, seconds in [*events[:2], ("no", live_users.GAP), events[2]]:
        recommender.observe(user="u", item=item, time=live_users.NOW + seconds)
    assert sessions(recommender) == [0, 0, 0]
    live_users.assert_same_lists([recommender.recommend(user="u")], [without.recommend(user="u")])


def test_an_unknown_item_after_the_gap_opens_no_session():
    recommender = live_users.recommender()
    recommender.observe(user="u", item="i1", time=live_users.NOW)
    recommender.observe(user="u", item="no", time=live_users.NOW + live_users.GAP + 1)
    before = recommender.recommend(user="u")
    recommender.observe(user="u", item="i2", time=live_users.NOW + live_users.GAP + 2)
    assert sessions(recommender) == [0, 1]
    assert recommender.recommend(user="u") != before


def test_an_unknown_item_is_an_error_with_unknown_items_error():
    recommender = live_users.recommender(keep={"unknown_items": "error"})
    with pytest.raises(errors.InputError, match="'no' is none of the 40"):
        recommender.observe_many([*live_users.events(1), Event("no", "u", live_users.NOW)])
    assert len(recommender) == 0


@pytest.mark.parametrize("together", [False, True])
def test_an_event_delivered_again_changes_nothing(together):
    recommender = live_users.recommender()
    event = Event("i1", "u", live_users.NOW, event_id="e")
    same_id_of_another = Event("i1", "v", live_users.NOW, event_id="e")
    events = [event, Event("i2", "u", live_users.NOW), event, same_id_of_another]
    if together:
        outcomes = recommender.observe_many(events)
    else:
        outcomes = [recommender.observe_many([one])[0] for one in events]
    assert outcomes == ["observed", "observed", "duplicate", "observed"]
    assert recommender.users() == [("u", 2), ("v", 1)]


@pytest.mark.parametrize("together", [False, True])
def test_an_event_id_counts_once_it_is_stored(together):
    """Bug: take the second event for a duplicate only where both are in one call."""
    recommender = live_users.recommender()
    events = [Event(item, "u", live_users.NOW, event_id="e") for item in ("none", "i1", "i2")]
    if together:
        outcomes = recommender.observe_many(events)
    else:
        outcomes = [recommender.observe_many([one])[0] for one in events]
    assert outcomes == ["unknown_item", "observed", "duplicate"]


@pytest.mark.parametrize("together", [False, True])
def test_a_repeated_item_is_left_out_if_training_dropped_repeats(together):
    recommender = live_users.recommender(drop_repeats=True)
    events = [
        *live_users.events(1, 2, 1),
        *live_users.events(1, 1, time=live_users.NOW + 9 * live_users.GAP),
    ]
    if together:
        outcomes = recommender.observe_many(events)
    else:
        outcomes = [recommender.observe_many([one])[0] for one in events]
    assert outcomes == ["observed", "observed", "repeat", "observed", "repeat"]
    assert sessions(recommender) == [0, 0, 1]


def test_a_repeated_item_is_observed_if_training_kept_repeats():
    assert live_users.recommender().observe_many(live_users.events(1, 1)) == [
        "observed",
        "observed",
    ]


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (Event("i1"), "no user"),
        (Event("", "u"), "1 to 256 bytes"),
        (Event("i1", ""), "1 to 256 bytes"),
        (Event("i1", "u" * 257), "257"),
        (Event("i1", "ü" * 129), "258"),
        (Event("i1", "a\nb"), "control"),
        (Event("i1", "a\x00b"), "control"),
        (Event("i1", "\ud800"), "control"),
        (Event("i1", True), "integers or strings"),
        (Event(1.5, "u"), "integers or strings"),
        (Event(10**5000, "u"), "64 bits"),
        (Event("i1", "u", session=""), "session ''"),
        (Event("i1", "u", event_id=b"e"), "event_id"),
        (Event("i1", "u", 1_700_000_000_000), "milliseconds"),
        (Event("i1", "u", -1), r"Unix seconds from 0 to 1e\+11$"),  # without a hint that misleads
        (Event("i1", "u", math.nan), r"Unix seconds from 0 to 1e\+11$"),
        (Event("i1", "u", math.inf), r"Unix seconds from 0 to 1e\+11$"),
        (Event("i1", "u", "2024-01-01"), "Unix seconds"),
        (Event("i1", "u", True), "Unix seconds"),
    ],
)
def test_an_invalid_event_is_an_error_and_no_event_of_the_call_is_observed(event, word):
    recommender = live_users.recommender()
    with pytest.raises(errors.InputError, match=word) as raised:
        recommender.observe_many([*live_users.events(1, 2), event])
    assert "\n" not in str(raised.value)
    assert len(recommender) == 0


def test_times_that_no_log_has_are_refused_unless_the_run_takes_any_year(monkeypatch):
    """Tomorrow is by the clock of the service. Bug: a run of today takes an event of 1970."""
    monkeypatch.setattr(time, "time", lambda: float(live_users.NOW))
    recommender = live_users.recommender(any_year=False)
    for at in (0, 631_151_999, live_users.NOW + 86_400):
        with pytest.raises(errors.InputError, match="before 1990 or after tomorrow"):
            recommender.observe(user="u", item="i1", time=at)
        live_users.recommender(any_year=True).observe(user="u", item="i1", time=at)
    for at in (631_152_000, live_users.NOW + 86_399, None):
        recommender.observe(user="u", item="i1", time=at)


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, True),  # of earlier versions, which checked no times
        ({"reading": {}, "skipped": {}}, False),
        ({"reading": {"any_year": True}, "skipped": {}}, True),
    ],
)
def test_a_run_keeps_whether_it_takes_any_year(meta, expected):
    assert checkpoint.takes_any_year(meta) == expected


def test_an_integral_float_is_the_id_of_its_integer():
    recommender = live_users.recommender()
    recommender.observe(user=3.0, item="i1")
    assert recommender.history(user="3") == recommender.history(user=3)
    assert len(recommender.history(user="3.0")) == 1


def test_an_event_without_a_time_gets_the_current_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    recommender = live_users.recommender()
    recommender.observe(user="u", item="i1")
    [step] = recommender.history(user="u")
    assert step.time == 1234.5


def test_assigning_sessions_changes_none_of_its_inputs():
    session = OpenSession(100.0, 100.0, None, number=3, n_events=9)
    sessions, items, delivered = {"uu": session}, {"uu": {"a"}}, {("uu", "1")}
    events = [
        CheckedEvent("uu", "a", 110.0, None, None),
        CheckedEvent("uu", "b", 120.0, None, "1"),
        CheckedEvent("uu", "b", 90.0, None, "2"),
        CheckedEvent("uu", "a", 500.0, None, None),
    ]
    result = assign_sessions(
        events, sessions, items, delivered, item_index={"a": 0, "b": 1}, gap_seconds=60
    )
    assert result.outcomes == ["repeat", "duplicate", "observed", "observed"]
    assert result.observed == {
        "uu": [StoredEvent(9, 3, "b", 90.0, "2"), StoredEvent(10, 4, "a", 500.0, None)]
    }
    assert result.sessions == {"uu": OpenSession(500.0, 500.0, None, number=4, n_events=11)}
    assert result.n_late == 1
    assert (sessions, items, delivered) == ({"uu": session}, {"uu": {"a"}}, {("uu", "1")})
