"""Which runs of a comparison are the best by a metric, and which do not differ from them."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hrnn_jax.ranking.significance import signed_rank

from ..common import run_folder
from ..paper.queries import CASE, by_case

BEST, EQUAL = "*", "~"  # marks
ALPHA = 0.05
NOTE = (
    f"{BEST} the best of its column; {EQUAL} does not differ significantly from it (p >= {ALPHA} "
    "in a two-sided\nWilcoxon signed-rank test, paired over the test cases on their means over "
    "seeds)."
)


def marks(
    folders: Sequence[pathlib.Path], runs: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Mark the best runs by each metric, and those that do not differ significantly from them.

    Args:
        folders: The run folders.
        runs: The content of their metrics.json, on the same test cases.

    Returns:
        By metric, as in recall@5, a mark of each run, "" for none. A single run has none, and a
        run without ranks of the same cases is not tested.
    """

    @functools.cache
    def cases(number: int, cutoff: int) -> pl.DataFrame | None:
        path = folders[number] / run_folder.RANKS
        return by_case(pl.read_parquet(path, glob=False), cutoff) if path.exists() else None

    def differs(one: int, other: int, metric: str) -> bool:
        name, _, cutoff = metric.partition("@")
        x, y = cases(one, int(cutoff)), cases(other, int(cutoff))
        if x is None or y is None or not x.select(CASE).equals(y.select(CASE)):
            return True  # not known to be equal
        column = "recall" if name == "precision" else name  # precision is recall / N
        return signed_rank(x[column].to_numpy(), y[column].to_numpy())[1] < ALPHA

    def mark(means: Sequence[float], number: int, metric: str) -> str:
        if means[number] == max(means):
            return BEST
        best = means.index(max(means))
        return "" if means[number] < 0 or differs(best, number, metric) else EQUAL

    found: dict[str, list[str]] = {}
    for metric in run_folder.metrics_in_table(runs[0]) if len(runs) > 1 else ():
        means = [run["mean"].get(metric, -1.0) for run in runs]
        found[metric] = [mark(means, number, metric) for number in range(len(runs))]
    return found
