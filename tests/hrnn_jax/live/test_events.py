"""Which session an event of a live user belongs to, whether it counts, and what it must be."""

import math

import pytest

from hrnn_jax import errors
from hrnn_jax.live import events as live_events
from hrnn_jax.live.events import Event
from tests.helpers import live_users


def sessions(recommender, user="u"):
    return [step.session for step in recommender.history(user=user, sessions=10**6)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, live_users.GAP, 2 * live_users.GAP], [0, 0, 0]),
        ([0, live_users.GAP + 1, live_users.GAP + 2], [0, 1, 1]),
        ([0, -live_users.GAP, 1], [0, 0, 0]),  # late, and not to be waited for
        ([0, -live_users.GAP - 1, -live_users.GAP], [0, 1, 1]),  # a clock set back
        ([0, 10**9, 1, 2], [0, 1, 2, 2]),  # a clock that jumps ahead, and back
    ],
)
def test_the_gap_opens_a_session_on_either_side(times, expected):
    recommender = live_users.recommender()
    for n, time in enumerate(times):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + time)
    assert sessions(recommender) == expected


def test_a_late_event_does_not_set_the_clock_of_its_session_back():
    recommender = live_users.recommender()
    for n, time in enumerate([0, -1000, live_users.GAP]):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + time)
    assert sessions(recommender) == [0, 0, 0]
    assert recommender.counts["late"] == 1


def test_a_given_session_goes_before_the_gap():
    recommender = live_users.recommender()
    for n, (session, time) in enumerate(
        [
            ("a", 0),
            ("a", 9 * live_users.GAP),
            ("b", 9 * live_users.GAP),
            (None, 9 * live_users.GAP),
            ("a", 9**9),
        ]
    ):
        recommender.observe(user="u", item=f"i{n}", time=live_users.NOW + time, session=session)
    assert sessions(recommender) == [0, 0, 1, 1, 2]


def test_an_unknown_item_keeps_its_session_open_and_changes_nothing_else():
    recommender, without = live_users.recommender(), live_users.recommender()
    events = [("i1", 0), ("i2", 60), ("i3", live_users.GAP + 100)]
    for item, time in events:
        without.observe(user="u", item=item, time=live_users.NOW + time, session="one")
    assert recommender.observe(user="u", item="no", time=live_users.NOW) == "unknown_item"
    assert len(recommender) == 0
    for item, time in [*events[:2], ("no", live_users.GAP), events[2]]:
        recommender.observe(user="u", item=item, time=live_users.NOW + time)
    assert sessions(recommender) == [0, 0, 0]
    live_users.assert_alike([recommender.recommend(user="u")], [without.recommend(user="u")])


def test_an_unknown_item_after_the_gap_opens_nothing_by_itself():
    recommender = live_users.recommender()
    recommender.observe(user="u", item="i1", time=live_users.NOW)
    recommender.observe(user="u", item="no", time=live_users.NOW + live_users.GAP + 1)
    before = recommender.recommend(user="u")
    recommender.observe(user="u", item="i2", time=live_users.NOW + live_users.GAP + 2)
    assert sessions(recommender) == [0, 1]
    assert recommender.recommend(user="u") != before


def test_unknown_items_are_refused_if_asked():
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
def test_a_network_that_knows_no_repeats_sees_an_item_once_a_session(together):
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


def test_repeats_are_events_where_training_keeps_them():
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
        (Event("i1", "u", -1), "Unix seconds"),
        (Event("i1", "u", math.nan), "Unix seconds"),
        (Event("i1", "u", math.inf), "Unix seconds"),
        (Event("i1", "u", "2024-01-01"), "Unix seconds"),
        (Event("i1", "u", True), "Unix seconds"),
    ],
)
def test_what_cannot_be_an_event_is_refused_with_all_that_came_with_it(event, word):
    recommender = live_users.recommender()
    with pytest.raises(errors.InputError, match=word) as refused:
        recommender.observe_many([*live_users.events(1, 2), event])
    assert "\n" not in str(refused.value)
    assert len(recommender) == 0


def test_an_event_without_a_time_is_of_now(monkeypatch):
    monkeypatch.setattr(live_events.clock, "time", lambda: 1234.5)
    recommender = live_users.recommender()
    recommender.observe(user="u", item="i1")
    [step] = recommender.history(user="u")
    assert step.time == 1234.5
