"""States that are computed again by weights that do not know all stored items."""

import dataclasses
import time

import pytest

from hrnn_jax import errors
from hrnn_jax.live.events import Event
from hrnn_jax.live.store import state_store
from tests.helpers import live_users, stored_states

LOST = live_users.N_ITEMS - 1
# Weights that do not know the last item.
OTHER = {"lineage": ("other",), "items": [*(f"i{n}" for n in range(LOST)), "new"]}
NOW, GAP = live_users.NOW, live_users.GAP


def damage(states, key):
    stored_states.execute(states, "UPDATE states SET past = carry WHERE who = ?", key)


@pytest.mark.parametrize("repair", [False, True])
def test_events_of_items_that_the_weights_do_not_know_outlive_a_rebuild(states, repair):
    """Bug: delete a user's events where none is of a known item."""
    event = Event(f"i{LOST}", "v", NOW, event_id="e")
    with live_users.recommender(states) as live:
        live.observe_many([event])
    live_users.recommender(states, rebuild=True, **OTHER).close()
    if repair:
        damage(states, "uv")
    with live_users.recommender(states, **OTHER) as other:
        assert other.recommend("v") == other.recommend("a newcomer")
        assert other.history("v") == []
        assert other.counts["rebuilt"] == repair
    with live_users.recommender(states, rebuild=True) as live:
        assert [step.item for step in live.history("v")] == [f"i{LOST}"]
        assert live.observe_many([event]) == ["duplicate"]


def test_a_second_delivery_is_a_duplicate_where_its_item_is_unknown_now(states):
    """Bug: refuse its item, and with it the new events of its batch."""
    old, new = Event(f"i{LOST}", "u", NOW, event_id="e1"), Event("i1", "u", NOW, event_id="e2")
    with live_users.recommender(states) as live:
        live.observe_many([old])
    keep = {"unknown_items": "error"}
    with live_users.recommender(states, rebuild=True, keep=keep, **OTHER) as other:
        assert other.observe_many([old, new]) == ["duplicate", "observed"]
        with pytest.raises(errors.InputError, match=f"'i{LOST}' is none of the"):
            other.observe_many([dataclasses.replace(old, event_id="e3")])


@pytest.mark.parametrize("repair", [False, True])
def test_the_event_after_a_session_of_unknown_items_opens_a_session(states, repair):
    """Bug: go on with the open session, so that Eq. 3 and 4 are left out."""
    first = [*live_users.events(1, 2), *live_users.events(LOST, time=NOW + 9 * GAP)]
    then = live_users.events(3, time=NOW + 9 * GAP + 60)
    with live_users.recommender(states) as live:
        live.observe_many(first)
    with live_users.recommender(states, rebuild=True, **OTHER) as other:
        if not repair:
            other.observe_many(then)
    if repair:
        damage(states, "uu")
        with live_users.recommender(states, **OTHER) as other:
            other.observe_many(then)
    with live_users.recommender(state_store.IN_MEMORY, **OTHER) as plain:
        plain.observe_many([*first, *then])
        expected = plain.recommend("u", k=LOST)
    with live_users.recommender(states, **OTHER) as other:
        live_users.assert_same_lists([other.recommend("u", k=LOST)], [expected])
        last = other.history("u", k=LOST)[-1].recommended
        live_users.assert_same_lists([last], [expected])


@pytest.mark.parametrize("session", [None, "s"])
def test_a_session_goes_on_after_rebuilds_by_weights_without_its_items_and_with_them(
    states, session
):
    """Bug: leave the session's id and latest time to weights that know another session alone."""
    then = NOW + 9 * GAP
    with live_users.recommender(states) as live:
        live.observe_many([*live_users.events(1), Event(f"i{LOST}", "u", then, session)])
    live_users.recommender(states, rebuild=True, **OTHER).close()
    with live_users.recommender(states, rebuild=True) as live:
        live.observe_many([Event("i2", "u", then + 60, session)])
        assert [step.session for step in live.history("u")] == [0, 1, 1]


@pytest.mark.parametrize("variant", ["hrnn_init", "rnn"])
@pytest.mark.parametrize("repair", [False, True])
def test_the_first_known_item_of_an_open_session_opens_it_for_the_network(states, variant, repair):
    """Bug: take the number of the open session for that of the last known event's session."""
    before = [*live_users.events(1, 2), Event(f"i{LOST}", "u", NOW + 120, "another session")]
    after = live_users.events(3, 4, time=NOW + 150)
    other = {**OTHER, "variant": variant}
    with live_users.recommender(states) as live:
        live.observe_many(before)
    live_users.recommender(states, rebuild=True, **other).close()
    with live_users.recommender(states, **other) as live:
        lists = []
        for event in after:
            live.observe_many([event])
            lists.append(live.recommend("u", k=LOST))
        assert [step.session for step in live.history("u")] == [0, 0, 1, 1]
        found = [step.recommended for step in live.history("u", k=LOST)]
        live_users.assert_same_lists(found[2:], lists)
    if repair:
        damage(states, "uu")
    else:
        live_users.recommender(states, rebuild=True).close()
    with live_users.recommender(states, rebuild=not repair, **other) as live:
        live_users.assert_same_lists([live.recommend("u", k=LOST)], lists[-1:])


@pytest.mark.parametrize("repair", [False, True])
def test_an_idle_session_stays_idle_when_its_state_is_computed_again(states, repair, monkeypatch):
    """Bug: take the time of the rebuild for that of an event."""
    hour, clock = 3600, time.time
    with live_users.recommender(states) as live:
        live.observe_many([Event("i1", session="s"), Event("i1", session="t")])
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock() + 100 * hour)
        if repair:
            damage(states, "ss")
        with live_users.recommender(
            states, rebuild=not repair, **({} if repair else OTHER)
        ) as live:
            live.recommend(session="s")
            assert live.counts["rebuilt"] == repair
            live.observe(item="i2", session="t")
            assert live.forget_idle_sessions(50 * hour) == 1
            assert live.recommend(session="s") == live.recommend("a newcomer")
