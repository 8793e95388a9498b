"""Metrics from ranks and from lists: values by hand, and masked equals removed."""

import numpy as np
import pytest

from hrnn_jax.compile_time import Timing
from hrnn_jax.ranking import metrics

RANKS = np.array([1, 2, 5, 6, 900], np.int32)
NAMES = ("recall", "mrr", "precision", "ndcg")


def metric(name, ranks, cutoff, where=None):
    """Return one metric of `metrics.summarise`."""
    return metrics.summarise(ranks, [cutoff], where=where)[f"{name}@{cutoff}"]


def test_values_by_hand():
    # Three of five within 5; 1 + 1/2 + 1/5 = 1.7, and ranks 6 and 900 give nothing.
    assert metric("recall", RANKS, 5) == pytest.approx(3 / 5)
    assert metric("mrr", RANKS, 5) == pytest.approx(1.7 / 5)
    assert metric("precision", RANKS, 5) == pytest.approx(3 / 25)


def test_ndcg_by_hand():
    # 1 / log2 of 2, of 4 and of 8, and of 9 beyond the cutoff.
    ranks = np.array([1, 3, 7, 8], np.int32)
    assert metric("ndcg", ranks, 7) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)


def test_coverage_and_popularity_by_hand():
    # Two of four items are shown: one of support 10 three times, one of support 2 once.
    shown, support = np.array([3, 0, 1, 0]), np.array([10, 70, 2, 5])
    assert metrics.coverage(shown) == 2 / 4
    assert metrics.popularity(shown, support) == (3 * 10 + 2) / 4
    assert metrics.coverage(0 * shown) == 0
    assert np.isnan(metrics.popularity(0 * shown, support))


def test_a_rank_equal_to_the_cutoff_is_a_hit_and_the_next_is_not():
    for name in NAMES:
        assert metric(name, np.array([5]), 5) > 0
        assert metric(name, np.array([6]), 5) == 0


def test_without_a_limit_mrr_is_the_mean_reciprocal_rank():
    assert metric("mrr", RANKS, 900) == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 900) / 5)


def test_each_case_has_the_value_that_its_rank_earns():
    values = metrics.per_case(np.array([1, 3, 6], np.int32), 5)
    assert {name: value.tolist() for name, value in values.items()} == {
        "recall": [1, 1, 0],
        "mrr": [1, 1 / 3, 0],
        "precision": [1 / 5, 1 / 5, 0],
        "ndcg": [1, 1 / 2, 0],
    }


def test_masked_cases_equal_removed_cases():
    where = np.array([True, False, True, False, True])
    for name in NAMES:
        assert (
            metric(name, RANKS, 5, where=where)
            == metric(name, RANKS[where], 5)
            != metric(name, RANKS, 5)
        )


def test_no_cases_have_no_mean():
    empty = np.array([], np.int32)
    assert np.isnan(metric("recall", empty, 5))
    assert np.isnan(metric("mrr", RANKS, 5, where=np.zeros(5, bool)))


def test_summary_names_each_metric_with_its_cutoff():
    summary = metrics.summarise(RANKS, [1, 5])
    assert summary == {
        "recall@1": pytest.approx(1 / 5),
        "mrr@1": pytest.approx(1 / 5),
        "precision@1": pytest.approx(1 / 5),
        "ndcg@1": pytest.approx(1 / 5),
        "recall@5": pytest.approx(3 / 5),
        "mrr@5": pytest.approx(1.7 / 5),
        "precision@5": pytest.approx(3 / 25),
        "ndcg@5": pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(6)) / 5),
    }
    where = RANKS < 900
    assert metrics.summarise(RANKS, [5], where=where)["recall@5"] == pytest.approx(3 / 4)


def test_the_rate_of_a_ranking_leaves_out_compiling():
    found = metrics.speed(10, Timing(seconds=3.0, compiling=1.0))
    assert found == {"eval_compile_seconds": 1.0, "eval_cases_per_second": 5.0}
