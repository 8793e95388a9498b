"""Popularity in a window of time: against counting in plain Python, and what does not count."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from hrnn_jax.baselines import by_name, popular
from hrnn_jax.config import EvaluationConfig, PopularConfig
from hrnn_jax.errors import InputError
from tests.helpers import logs, timed_logs
from tests.helpers.timed_logs import N_ITEMS
from tests.hrnn_jax.baselines.in_chunks import in_chunks


def plain_counts(log, case, seconds):
    """Count the items of training events in the seconds before a case, 0 for all."""
    now = log.time[case]
    counts = [0] * log.n_items
    for item, time, test in zip(log.item, log.time, log.test, strict=True):
        if not test and time < now and (not seconds or time >= now - seconds):
            counts[item] += 1
    return counts


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    users=strategies.lists(timed_logs.SESSIONS, min_size=1, max_size=4),
    seconds=strategies.integers(0, 6),
    chunk=strategies.sampled_from([1, 4 * N_ITEMS, 4_000_000]),
)
def test_scores_equal_plain_counting(users, seconds, chunk):
    log = timed_logs.of(users)
    parts = in_chunks(popular.scorer(log, PopularConfig(window_hours=seconds / 3600)), chunk)
    found = [row.tolist() for part in parts for row in part.toarray()]
    # A difference of 1e-9 seconds, as a number of hours may have, moves no edge.
    expected = [plain_counts(log, case, seconds and seconds + 1e-9) for case in log.cases]
    assert found == expected


# Training events at 0, 60, 86400, 86460 and 172800 seconds, the target at 259260.
USERS = [[[0, 1], [1, 2], [3], [4, 5]]]


def last_counts(window_hours, *, moved=0):
    log = logs.of(USERS)
    time = log.time.copy()
    time[-1] += moved
    score, _ = popular.scorer(dataclasses.replace(log, time=time), PopularConfig(window_hours))
    return score(slice(0, 1)).toarray()[0].tolist()


def test_the_window_is_of_the_last_hours():
    assert last_counts(0.0) == [1, 2, 1, 1, 0, 0]
    assert last_counts(1.0) == [0, 0, 0, 0, 0, 0]
    assert last_counts(24.0 + 1 / 60) == [0, 0, 0, 1, 0, 0]  # exactly since then
    assert last_counts(24.0) == [0, 0, 0, 0, 0, 0]
    assert last_counts(48.0) == [0, 0, 1, 1, 0, 0]


def test_an_event_at_or_after_the_target_does_not_count():
    assert last_counts(0.0, moved=-86_460) == [1, 2, 1, 0, 0, 0]  # at the time of item 3's
    assert last_counts(0.0, moved=-86_459) == [1, 2, 1, 1, 0, 0]
    assert last_counts(0.0, moved=-400_000) == [0, 0, 0, 0, 0, 0]


def ranks_of(log):
    return by_name.rank("popular", log, PopularConfig(), EvaluationConfig()).rank


def test_no_test_event_counts():
    log = logs.random(0, users=30, sessions=6)
    ranks = ranks_of(log)
    items = np.where(log.test, (log.item + 1) % log.n_items, log.item).astype(np.int32)
    changed = dataclasses.replace(log, item=items)
    score, costs = popular.scorer(log, PopularConfig())
    other, _ = popular.scorer(changed, PopularConfig())
    rows = slice(0, len(costs))
    np.testing.assert_array_equal(score(rows).toarray(), other(rows).toarray())
    assert len(set(ranks)) > 1


@pytest.mark.parametrize("users", [[], [[[0, 1], [2]]], [[[0]]]])
def test_a_log_without_cases_has_no_ranks(users):
    assert len(ranks_of(logs.of(users))) == 0


def test_without_training_events_no_item_scores():
    assert ranks_of(logs.of([[[0, 1]]], n_items=4)).tolist() == [4]


def test_a_window_is_refused_where_the_log_has_no_times():
    """Bug: count the places of a user's events as seconds."""
    log = dataclasses.replace(logs.of(USERS), has_times=False)
    with pytest.raises(InputError, match=r"^`window_hours`=24 needs times, and the log has none"):
        popular.scorer(log.where(log.user == 0), PopularConfig(24.0))
    score, _ = popular.scorer(log, PopularConfig(0.0))
    assert score(slice(0, 1)).toarray()[0].tolist() == [1, 2, 1, 1, 0, 0]
