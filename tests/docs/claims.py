"""What the pages say about results: each sentence with its numbers from the shipped files.

A claim's text is written with the numbers that the files hold, so that a page which says another
number does not have it; what it says beyond numbers is a condition. `test_claims` looks for both.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics

import polars as pl

from experiments.bench import record
from experiments.leaderboard import tables
from experiments.leaderboard.grid import NAMES, NETWORKS, PLUS
from experiments.paper.results import COMPARISON_FILES, Results, read_results

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results"
NEWS, CHECK_INS, READING, BASKETS = "ebnerd", "foursquare", "deskdrop", "journey"
LOGS = (NEWS, CHECK_INS, READING, BASKETS)
METRICS = ("recall", "mrr")
COMPARED = {*pl.read_csv(RESULTS / "comparison/runs.csv")["row"]}
OTHERS = [row for row in NAMES if row in COMPARED - {PLUS}]
PAPERS = [row for row in NETWORKS if row != PLUS]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence, or a part of one, of a page."""

    page: str
    text: str
    holds: bool = True  # what the text says beyond its numbers


@functools.cache
def comparison() -> Results:
    """Return the shipped comparison."""
    return read_results(RESULTS / "comparison", COMPARISON_FILES, rows=None)


def mean(log: str, row: str, metric: str = "recall") -> float:
    """Return a row's mean over seeds at cutoff 5."""
    return comparison().means(log, [row], metric)[row]


def best(log: str, rows: list[str], metric: str = "recall") -> float:
    """Return the best of some rows' means."""
    return max(comparison().means(log, rows, metric).values())


def p(log: str, row: str, metric: str = "recall") -> float:
    """Return p of the difference between a row and hrnn_plus."""
    value = comparison().p_value(log, PLUS, row, metric)
    assert value is not None, (log, row)
    return value


def significant(log: str, row: str, metric: str = "recall") -> bool:
    """Say whether a row differs significantly from hrnn_plus."""
    return p(log, row, metric) < tables.ALPHA


def not_significant() -> list[tuple[str, str, str]]:
    """Return the log, row and metric of each difference from hrnn_plus that is not significant."""
    return [
        (log, row, metric)
        for log in LOGS
        for row in OTHERS
        for metric in METRICS
        if not significant(log, row, metric)
    ]


def n_seeds(log: str, row: str) -> int:
    """Return the number of seeds of a row."""
    score = comparison().score(log, row, "recall")
    assert score is not None, (log, row)
    return score.n


def measured(name: str) -> list[float]:
    """Return what a row of the benchmark measured, a value for each turn."""
    row = record.read(RESULTS / "benchmark.json")[name]
    assert isinstance(row, record.Row), name
    return [*row.measured]


def benchmark(name: str) -> float:
    """Return the median of what a row of the benchmark measured."""
    return statistics.median(measured(name))
