"""The queries behind the tables and figures, against cases worked out by hand."""

import itertools
import math

import numpy as np
import polars as pl
import pytest

from experiments.jobs.grid import CUTOFF, CUTOFFS
from experiments.paper import collect, queries
from hrnn_jax.ranking import significance

SCHEMA = ["seed", "user", "session", "position", "history", "item", "rank"]


def ranks(*cases, seed=0):
    """Make ranks.parquet's rows from (session, position, history, rank)."""
    rows = [(seed, session, session, position, n, 0, rank) for session, position, n, rank in cases]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def value(frame, column="value", **where):
    result = frame.filter(**where)[column]
    assert len(result) == 1, (where, result)
    return result[0]


def test_scores_by_hand():
    two = pl.concat([ranks((0, 1, 5, 1), (0, 2, 5, 5), (1, 1, 5, 6)), ranks((0, 1, 5, 2), seed=7)])
    result = queries.scores(two)
    assert value(result, seed=0, metric="recall", cutoff=5) == pytest.approx(2 / 3)
    assert value(result, seed=0, metric="recall", cutoff=10) == 1  # rank 6 as well
    assert value(result, seed=0, metric="recall", cutoff=1) == pytest.approx(1 / 3)
    assert value(result, seed=0, metric="mrr", cutoff=5) == pytest.approx((1 + 1 / 5) / 3)
    assert value(result, seed=0, metric="precision", cutoff=5) == pytest.approx(2 / 15)
    expected = (1 + 1 / math.log2(6)) / 3  # ranks 1 and 5
    assert value(result, seed=0, metric="ndcg", cutoff=5) == pytest.approx(expected)
    assert value(result, seed=7, metric="mrr", cutoff=20) == 0.5
    assert value(result, seed=7, metric="recall", cutoff=1) == 0


def test_coverage_and_popularity_by_hand():
    support = pl.DataFrame({"item": [0, 1, 2, 3], "support": [10, 20, 0, 40]})
    shown = pl.DataFrame(
        [(0, 1, 0, 3), (0, 5, 0, 3), (0, 5, 3, 1)],
        schema=["seed", "cutoff", "item", "times"],
        orient="row",
    )
    result = queries.list_scores(shown, support)
    assert value(result, metric="coverage", cutoff=1) == 1 / 4
    assert value(result, metric="coverage", cutoff=5) == 2 / 4
    assert value(result, metric="popularity", cutoff=1) == 10
    assert value(result, metric="popularity", cutoff=5) == (3 * 10 + 40) / 4


def test_history_groups_average_sessions_not_cases():
    # Session 0 (6 before it: short) hits 1 of 2 and of 4 in all; session 1 (short) hits its one.
    result = queries.by_history(
        ranks((0, 1, 6, 1), (0, 2, 6, 9), (0, 3, 6, 9), (0, 4, 6, 9), (1, 1, 2, 2), (2, 1, 7, 5))
    )
    assert value(result, "sessions", group="short") == 2
    assert value(result, "recall", group="short") == pytest.approx((1 / 4 + 1) / 2)
    assert value(result, "mrr", group="short") == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert value(result, "sessions", group="long") == 1
    assert value(result, "mrr", group="long") == pytest.approx(1 / 5)
    assert result["group"].to_list() == ["short", "long"]


def test_an_empty_group_has_no_line():
    assert queries.by_history(ranks((0, 1, 7, 1)))["group"].to_list() == ["long"]
    assert queries.by_position(ranks((0, 1, 7, 1))).is_empty()  # a session of two events


def test_positions_are_those_of_targets_in_sessions_of_five_or_more():
    # Five events, so targets at places 1 to 4 from 0: events 2, 3, 4 and 5. Session 1 has four.
    five = [(0, 1, 0, 1), (0, 2, 0, 2), (0, 3, 0, 9), (0, 4, 0, 4)]
    four = [(1, 1, 0, 1), (1, 2, 0, 1), (1, 3, 0, 1)]
    result = queries.by_position(ranks(*five, *four))
    assert result["group"].to_list() == ["1-2", "3-4", "5+"]
    assert result["cases"].to_list() == [1, 2, 1]
    assert result["recall"].to_list() == [1, 1 / 2, 1]
    assert result["mrr"].to_list() == [1, 1 / 4, 1 / 4]


def test_sessions_of_different_seeds_are_different():
    both = pl.concat([ranks((0, 1, 0, 1)), ranks((0, 1, 0, 1), (0, 4, 0, 1), seed=1)])
    assert queries.by_position(both)["seed"].unique().to_list() == [1]


def test_metrics_of_a_case_are_means_over_seeds():
    both = pl.concat([ranks((0, 1, 0, 1), (0, 2, 0, 8)), ranks((0, 1, 0, 7), (0, 2, 0, 2), seed=1)])
    result = queries.by_case(both)
    assert result["recall"].to_list() == [0.5, 0.5]
    assert result["mrr"].to_list() == [0.5, 0.25]


# Darwin's maize (1876): heights in eighths of an inch of 15 pairs of plants, the cross-fertilised
# less the self-fertilised, as in Wilcoxon's test in textbooks: the rank sum is 24 and p = 0.041.
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)


def test_signed_rank_is_the_published_example():
    statistic, p = significance.signed_rank(MAIZE, np.zeros(15))
    assert statistic == 24
    assert p == pytest.approx(0.041, abs=5e-4)
    assert significance.signed_rank(np.zeros(15), MAIZE) == (statistic, p)


def test_signed_rank_counts_over_all_signs():
    """Against the definition: the share of the 2^10 sign patterns that are as extreme."""
    x = np.array([1, -2, 3, 4, 5, 6, -7, 8, 9, 10], float)
    statistic, p = significance.signed_rank(x, np.zeros(10))
    sums = [sum(s) for s in itertools.product(*((0, n) for n in range(1, 11)))]
    assert statistic == 9
    assert p == pytest.approx(2 * np.mean([s <= 9 for s in sums]))


def test_equal_samples_have_p_1():
    x = np.array([0.1, 0.2, 0.3])
    assert significance.signed_rank(x, x) == (0, 1)
    assert significance.signed_rank(x, x + 1e-16) == (0, 1)  # a rounding


@pytest.mark.parametrize("n_zeros", [1, 40, 1000])
def test_zero_differences_are_left_out(n_zeros):
    """Bug: take a normal p for few pairs that differ, as they are among many that do not."""
    padded = np.concatenate([MAIZE, np.zeros(n_zeros)])
    without = significance.signed_rank(MAIZE, np.zeros(15))
    assert significance.signed_rank(padded, np.zeros(15 + n_zeros)) == without
    hits = np.concatenate([np.ones(5), np.zeros(n_zeros)])  # two of the 2^5 patterns of signs
    assert significance.signed_rank(hits, np.zeros(5 + n_zeros)) == (0, 2 / 2**5)


def cases(hits):
    return pl.DataFrame(
        {
            "session": range(len(hits)),
            "position": [1] * len(hits),
            "recall": hits,
            "mrr": [h / 2 for h in hits],
        }
    )


def test_significance_tests_are_those_of_the_marks():
    rows = ["item_knn", "rnn_small", "rnn_concat_small", "hrnn_init_small", "hrnn_init_large"]
    rows += ["hrnn_all_gates_2017_small", "hrnn_init_2017_small"]
    result = collect.significance_frame(
        {row: cases([0.0, 1.0, 0.5, n / 8]) for n, row in enumerate(rows)}
    )
    pairs = set(result.select("a", "b").unique().rows())
    assert (
        pairs
        == {
            ("rnn_concat_small", "rnn_small"),
            ("hrnn_init_small", "rnn_small"),
            ("hrnn_init_small", "rnn_concat_small"),
            ("rnn_small", "item_knn"),
            ("rnn_concat_small", "item_knn"),
            ("hrnn_init_small", "item_knn"),
            ("hrnn_init_large", "item_knn"),  # there is no other large network
            ("hrnn_init_large", "hrnn_init_small"),
            *((key, "item_knn") for key in rows[5:]),
            *((key, base) for key in rows[5:] for base in ("rnn_small", "rnn_concat_small")),
            ("hrnn_all_gates_2017_small", "hrnn_init_2017_small"),
        }
    )
    assert len(result) == 2 * len(pairs)
    assert set(result["cases"]) == {4}


def test_rows_of_different_cases_are_not_compared():
    with pytest.raises(ValueError, match="different cases"):
        collect.significance_frame({"rnn_small": cases([0.0]), "item_knn": cases([0.0, 1.0])})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"data": "simulated"}, False),
        ({"shape": None}, False),
        ({"table1": {"users": 9000, "items": 59297, "sessions": 89591, "events": 546862}}, False),
    ],
)
def test_only_a_real_log_with_the_counts_of_table_1_is_the_papers(changed, expected):
    counts = {"users": 11479, "items": 59000, "sessions": 89591, "events": 546862}
    assert (
        collect.is_paper_data({"data": "real", "shape": "xing", "table1": counts, **changed})
        is expected
    )


def test_the_cutoff_of_the_tables_is_evaluated():
    assert CUTOFF in CUTOFFS
