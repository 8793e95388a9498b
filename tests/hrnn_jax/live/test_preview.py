"""A preview equals what a recommender would do with the same events, and leaves nothing behind."""

import pytest

from hrnn_jax import errors
from hrnn_jax.live.events import Event
from hrnn_jax.live.preview import preview
from tests.helpers import live_users

NOW, GAP = live_users.NOW, live_users.GAP
# An unknown item first, a session that goes on, an idle gap, a repeat, a session with an id.
EVENTS = [
    Event("none", time=NOW),
    Event("i1", time=NOW + 1),
    Event("i2", time=NOW + 60),
    Event("none", time=NOW + 90),
    Event("i3", time=NOW + 100 + 2 * GAP),
    Event("i3", time=NOW + 160 + 2 * GAP),
    Event("i4", time=NOW + 170 + 2 * GAP, session="s"),
    Event("i5", time=NOW + 180 + 9 * GAP, session="s"),
]


@pytest.mark.parametrize("drop_repeats", [False, True])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_a_preview_equals_the_lists_of_a_user_with_these_events(drop_repeats, exclude_seen):
    """Of a network that reads idle times. Bugs: leave the times out; make one session of all."""
    network = {"idle_gap": True}
    with live_users.recommender(network=network, drop_repeats=drop_repeats) as recommender:
        steps = preview(recommender.network, EVENTS, 6, exclude_seen=exclude_seen)
        assert len(recommender) == 0
        assert not recommender.counts
        for event, step in zip(EVENTS, steps, strict=True):
            outcome = recommender.observe(
                item=event.item, user="u", time=event.time, session=event.session
            )
            recommended = recommender.recommend("u", 6, exclude_seen=exclude_seen)
            assert step.outcome == outcome
            live_users.assert_same_lists([step.recommended], [recommended])
        assert "repeat" in [step.outcome for step in steps] or not drop_repeats


def test_a_history_without_what_was_had_has_the_lists_of_that_time():
    """Bug: leave out what came later too."""
    with live_users.recommender() as recommender:
        expected = []
        for event in live_users.events(1, 2, 1, 3, 4):
            recommender.observe_many([event])
            expected.append(recommender.recommend("u", 30, exclude_seen=True))
        steps = recommender.history("u", k=30, exclude_seen=True)
        live_users.assert_same_lists([step.recommended for step in steps], expected)
        lengths = [len(step.recommended) for step in recommender.history("u", k=40)]
        assert lengths == [40] * 5
        steps = recommender.history("u", k=40, exclude_seen=True)
        assert [len(step.recommended) for step in steps] == [39, 38, 38, 37, 36]


def test_a_preview_of_too_many_recommendations_is_refused():
    with live_users.recommender() as recommender:
        for limit in (None, 8):
            assert len(preview(recommender.network, EVENTS, 1, limit=limit)) == len(EVENTS)
        with pytest.raises(errors.InputError, match="8 events with 2 recommendations each"):
            preview(recommender.network, EVENTS, 2, limit=15)
        with pytest.raises(errors.InputError, match="time -1"):
            preview(recommender.network, [Event("i1", time=-1)])
