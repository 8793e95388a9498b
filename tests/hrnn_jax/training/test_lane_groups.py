"""Lane groups: each user's events once and in order, on the lanes of the user's group alone."""

import numpy as np
import pytest

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.errors import InputError
from hrnn_jax.training import epoch, lane_groups, user_batches
from hrnn_jax.training.user_batches import NO_EVENT
from tests.helpers import logs

LOG = logs.random(2, users=50, n_items=20)
MODEL = ModelConfig(n_items=20)


def hashed(user):
    """Mix a number as SplitMix64 ends, in whole numbers of Python."""
    word = user
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ word >> shift) * factor % 2**64
    return word ^ word >> 31


def schedule(n_groups, seed=0):
    config = TrainConfig(batch_size=12, lane_groups=n_groups)
    return epoch.epoch_schedule(LOG, MODEL, config, seed=seed, epoch=0)


def test_the_group_of_a_user_is_a_hash_of_the_number():
    users = np.array([0, 1, 2, 77, 2**31 - 1], np.int32)
    assert lane_groups.group_of(users, 5).tolist() == [hashed(int(u)) % 5 for u in users]
    assert len(set(lane_groups.group_of(np.arange(50), 4).tolist())) == 4


@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_each_lane_reads_whole_users_of_its_group(n_groups):
    found = schedule(n_groups)
    inputs = [
        e for e in range(len(LOG)) if e + 1 < len(LOG) and LOG.session[e + 1] == LOG.session[e]
    ]
    read = []
    for lane in range(12):
        events = [int(e) for e in found.event[:, lane] if e != NO_EVENT]
        users = [int(LOG.user[e]) for e in events]
        assert {hashed(user) % n_groups for user in users} <= {lane // (12 // n_groups)}
        for user in dict.fromkeys(users):  # one after the other, each from its first input
            own = [e for e in events if LOG.user[e] == user]
            assert own == [e for e in inputs if LOG.user[e] == user]
            first = events.index(own[0])
            assert events[first : first + len(own)] == own
            at = found.event[:, lane].tolist().index(own[0])
            assert found.steps.user_start[at, lane]  # no state of the lane's user before is left
        read += events
    assert sorted(read) == inputs
    filled = found.event != NO_EVENT
    assert (found.steps.input[filled] == LOG.item[found.event[filled]]).all()
    np.testing.assert_array_equal(
        found.steps.opening, user_batches.opening_lanes(found.steps.opens)
    )


def test_groups_have_the_same_lanes_whichever_others_are_built():
    config, whole = TrainConfig(batch_size=12, lane_groups=4), schedule(4, seed=5)
    part = lane_groups.build(LOG, MODEL, config, groups=[2, 3], draw=(5, 0))
    n_steps = len(part.event)
    np.testing.assert_array_equal(part.event, whole.event[:n_steps, 6:])
    assert (whole.event[n_steps:, 6:] == NO_EVENT).all()


def test_one_group_is_the_schedule_of_before():
    laid = user_batches.build(LOG, 12, rng=np.random.default_rng((3, 0)))
    np.testing.assert_array_equal(schedule(1, seed=3).event, laid.event)
    config = TrainConfig(batch_size=12)
    built = lane_groups.build(LOG, MODEL, config, groups=[0], draw=(3, 0))
    np.testing.assert_array_equal(built.event, laid.event)


def test_lanes_must_be_a_multiple_of_the_groups():
    with pytest.raises(
        InputError, match="`batch_size`=50 lanes are not a multiple of `lane_groups`=4"
    ):
        TrainConfig(lane_groups=4)
