"""The marks of the best runs of a comparison."""

import numpy as np
import polars as pl
import pytest

from experiments.folders.best_runs import BEST, EQUAL, marks
from hrnn_jax.ranking import metrics as of_ranks


@pytest.fixture
def runs(tmp_path):
    """Write the ranks of each run, one list a seed; returns the folders and their metrics.json."""

    def make(*ranks_of_runs):
        folders, metrics = [], []
        for number, ranks_of_seeds in enumerate(ranks_of_runs):
            folder = tmp_path / str(number)
            folder.mkdir()
            tables = [
                pl.DataFrame({"session": range(len(ranks)), "rank": ranks}).with_columns(
                    seed=seed, position=1
                )
                for seed, ranks in enumerate(ranks_of_seeds)
            ]
            pl.concat(tables).write_parquet(folder / "ranks.parquet")
            summed = [of_ranks.summarise(np.array(ranks), [2, 5]) for ranks in ranks_of_seeds]
            mean = {name: np.mean([seed[name] for seed in summed]) for name in summed[0]}
            metrics.append({"mean": mean})
            folders.append(folder)
        return folders, metrics

    return make


HITS, MISSES = [1] * 40, [9] * 40


def test_the_best_is_marked_and_what_does_not_differ_significantly(runs):
    """By hand: 2 cases of 80 that differ give p > 0.1, 20 that are all lost p < 0.0001."""
    near, far = HITS[2:] + MISSES + [9, 9], HITS[20:] + MISSES + [9] * 20
    found = marks(*runs([HITS + MISSES], [near], [far], [HITS + MISSES]))
    assert found == {
        f"{name}@{cutoff}": [BEST, EQUAL, "", BEST]
        for cutoff in (2, 5)
        for name in ("recall", "mrr", "precision", "ndcg")
    }


def test_each_metric_has_its_own_best(runs):
    """The first has more items among two, the second more among five."""
    found = marks(*runs([[1] * 40 + [9] * 60], [[4] * 99 + [9]]))
    assert found["recall@2"] == found["mrr@2"] == [BEST, ""]
    assert found["recall@5"] == ["", BEST]


def test_cases_are_paired_by_their_means_over_seeds(runs):
    """Bug: pair the rows of the file, of which the second run has twice as many."""
    one, other = [1] * 20 + [9] * 20, [9] * 20 + [1] * 20
    found = marks(*runs([HITS], [one, other]))
    assert found["recall@2"] == [BEST, ""]


def test_other_cases_and_missing_ranks_are_not_tested(runs):
    folders, metrics = runs([HITS], [[*HITS[1:], 9]], [[*HITS[1:], 9]])
    assert marks(folders, metrics)["recall@2"] == [BEST, EQUAL, EQUAL]
    (folders[1] / "ranks.parquet").unlink()
    ranks = pl.read_parquet(folders[2] / "ranks.parquet")
    ranks.with_columns(pl.col("session") + 1).write_parquet(folders[2] / "ranks.parquet")
    assert marks(folders, metrics)["recall@2"] == [BEST, "", ""]


def test_a_single_run_has_no_marks(runs):
    assert marks(*runs([HITS])) == {}
