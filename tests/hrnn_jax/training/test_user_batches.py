"""The schedule equals a plain-Python version of it, and has its properties."""

import collections
import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from hrnn_jax.extras import idle_time
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import logs

users = st.lists(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=4),
    min_size=1,
    max_size=7,
)


def follow_lanes(users, order, batch_size, *, feed_last_item):
    """Play Figure 2 with Python lists: per lane, the steps (input, target, session, user start)."""
    played = [[] for _ in range(batch_size)]
    for user in order:
        steps = []
        for number, items in enumerate(users[user]):
            pairs = list(itertools.pairwise(items))
            if feed_last_item and number < len(users[user]) - 1:
                pairs.append((items[-1], NO_ITEM))
            for i, (item, target) in enumerate(pairs):
                steps.append((item, target, i == 0, not steps and number == 0 and i == 0))
        lane = min(range(batch_size), key=lambda lane: (len(played[lane]), lane))
        played[lane] += steps
    return sorted(played, key=len, reverse=True)  # the longest first; a stable sort


@hypothesis.given(
    users=users,
    batch_size=st.integers(1, 5),
    feed_last_item=st.booleans(),
    seed=st.integers(0, 3),
)
def test_the_schedule_equals_figure_2_played_step_by_step(users, batch_size, feed_last_item, seed):
    # Users without a step are left out, also of the drawn order.
    sessions = [[items for items in user if len(items) > 1] for user in users]
    users = [user for user in sessions if user] or [[[0, 1]]]
    steps = user_batches.build(
        logs.of(users),
        batch_size,
        rng=np.random.default_rng(seed),
        feed_last_item=feed_last_item,
    ).steps
    order = np.random.default_rng(seed).permutation(len(users))
    played = follow_lanes(users, order, batch_size, feed_last_item=feed_last_item)
    assert len(steps.input) == max(map(len, played))
    for lane, expected in enumerate(played):
        n = len(expected)
        found = zip(
            *(
                a[:n, lane]
                for a in (steps.input, steps.target, steps.session_start, steps.user_start)
            ),
            strict=True,
        )
        assert list(found) == expected
        assert (steps.input[n:, lane] == NO_ITEM).all()
        flags = np.stack([steps.valid, steps.user_start, steps.session_start])
        assert not flags[:, n:, lane].any()
    np.testing.assert_array_equal(steps.valid, steps.target != NO_ITEM)


def test_each_step_has_the_time_and_idle_time_of_its_events():
    log = logs.random(1)
    schedule = user_batches.build(log, 5, feed_last_item=True)
    steps = user_batches.pad(schedule.steps, len(schedule.event) + 2, 8)
    classes = idle_time.before(log)
    for t, lane in np.argwhere(steps.input != NO_ITEM).tolist():
        event = schedule.event[t, lane]
        assert steps.gap[t, lane] == classes[event]
        if steps.valid[t, lane]:
            assert steps.time[t, lane] == log.time[event + 1] // 60
    padding = steps.input == NO_ITEM
    assert padding.any()
    assert (steps.gap[padding] == idle_time.NONE).all()
    assert not steps.time[padding].any()


@hypothesis.given(
    users=users, batch_size=st.integers(1, 9), variant=st.sampled_from(["rnn", "hrnn_init"])
)
def test_every_pair_of_items_occurs_exactly_once(users, batch_size, variant):
    steps = user_batches.build(
        user_batches.layout(logs.of(users), variant), batch_size, rng=np.random.default_rng(0)
    ).steps
    expected = collections.Counter(
        pair for user in users for items in user for pair in itertools.pairwise(items)
    )
    found = zip(steps.input[steps.valid], steps.target[steps.valid], strict=True)
    assert collections.Counter((int(a), int(b)) for a, b in found) == expected


def test_layouts_differ_only_in_where_sessions_and_users_start():
    log = logs.of([[[1, 2], [3, 4, 5]], [[6, 7]]])
    rnn = user_batches.build(user_batches.layout(log, "rnn"), 1).steps
    assert rnn.user_start.sum() == 3
    assert rnn.opening.shape[1] == 0  # no user has a history
    concat = user_batches.build(user_batches.layout(log, "rnn_concat"), 1).steps
    pairs = list(zip(concat.input[:, 0], concat.target[:, 0], strict=True))
    assert pairs == [(1, 2), (2, 3), (3, 4), (4, 5), (6, 7)]  # across the first user's sessions
    assert concat.session_start.sum() == concat.user_start.sum() == 2


def test_the_order_of_users_depends_on_seed_and_epoch_alone():
    log = logs.random(0, users=30)

    def order(*seed):
        return user_batches.build(log, 4, rng=np.random.default_rng(seed)).event

    np.testing.assert_array_equal(order(0, 1), order(0, 1))
    assert not np.array_equal(order(0, 1), order(0, 2))


@hypothesis.given(st.integers(0, 2**32 - 1))
def test_opening_lists_the_lanes_where_a_session_starts(seed):
    opens = np.random.default_rng(seed).random((6, 11)) < 0.3
    opening = user_batches.opening_lanes(opens)
    assert opening.shape[1] % 8 == 0
    for mask, listed in zip(opens, opening, strict=True):
        assert sorted(listed[listed < 11]) == np.flatnonzero(mask).tolist()


def test_padding_has_no_input_target_or_opening_lane():
    steps = user_batches.build(logs.random(1), 3, rng=np.random.default_rng(0)).steps
    n_steps, width = len(steps.input) + 5, steps.opening.shape[1] + 8
    padded = user_batches.pad(steps, n_steps, width)
    assert padded.opening.shape == (n_steps, width)
    for before, after in zip(steps[:-1], padded[:-1], strict=True):
        np.testing.assert_array_equal(after[: len(before)], before)
    assert (padded.input[len(steps.input) :] == NO_ITEM).all()
    assert (padded.target[len(steps.input) :] == NO_ITEM).all()
    assert not padded.valid[len(steps.input) :].any()
    added = padded.opening[:, steps.opening.shape[1] :]
    assert (added >= 3).all()
    assert (np.diff(padded.opening, axis=1) > 0).all()  # ascending, as `gru.put` needs


@pytest.mark.parametrize("users", [[], [[[1]], [[2], [3]]]])
def test_a_log_without_pairs_has_no_steps(users):
    assert user_batches.build(logs.of(users), 4).event.shape == (0, 4)


@pytest.mark.parametrize(
    ("feed_last_item", "inputs", "starts"),
    [(False, [4, 5, 1], [1, 0, 1]), (True, [3, 4, 5, 1], [1, 0, 0, 1])],
)
def test_a_user_starts_with_the_first_input_also_where_the_first_session_has_one_event(
    feed_last_item, inputs, starts
):
    """Bug: start the user with the first event, which is no input; the lane's user before stays."""
    log = logs.of([[[1, 2]], [[3], [4, 5, 6]]])
    steps = user_batches.build(log, 1, feed_last_item=feed_last_item).steps
    assert steps.input[:, 0].tolist() == inputs
    assert steps.user_start[:, 0].tolist() == starts
