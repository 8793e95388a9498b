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
from experiments.paper.numbers import HEADLINES
from experiments.paper.results import COMPARISON_FILES, Results, headline, read_results

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results"
NEWS, CHECK_INS, READING, BASKETS = "ebnerd", "foursquare", "deskdrop", "journey"
LISTENING = "music30"
ON_GPU = (NEWS, CHECK_INS, READING, BASKETS)  # where other libraries' rows had a GPU
LOGS = (*ON_GPU, LISTENING)
TITLES = dict(zip(LOGS, ("EB-NeRD", "Foursquare", "Deskdrop", "Journey", "30Music"), strict=True))
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


@functools.cache
def judged() -> Results:
    """Return the shipped comparison, each log ranked as the leaderboard judges it."""
    return headline(comparison())


def mean(log: str, row: str, metric: str = "recall") -> float:
    """Return a row's mean over seeds at cutoff 5."""
    return judged().means(log, [row], metric)[row]


def best(log: str, rows: list[str], metric: str = "recall") -> float:
    """Return the best of some rows' means."""
    return max(judged().means(log, rows, metric).values())


def not_significant() -> list[tuple[str, str, str]]:
    """Return the log, row and metric of each difference from hrnn_plus that is not significant."""
    return [
        (log, row, metric)
        for log in LOGS
        for row in OTHERS
        for metric in METRICS
        if (p := judged().p_value(log, PLUS, row, metric)) is not None and p >= tables.ALPHA
    ]


def not_tested() -> dict[str, list[str]]:
    """Return the rows that were not tested against hrnn_plus, by log."""
    rows = {
        log: [
            row
            for row in judged().means(log, OTHERS, "recall")
            if judged().p_value(log, PLUS, row, "recall") is None
        ]
        for log in LOGS
    }
    return {log: of for log, of in rows.items() if of}


def listed(names: list[str]) -> str:
    """Join names by commas, the last two by `and`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def exceptions() -> str:
    """Name the differences from hrnn_plus that are not significant, or not tested; "" for none."""
    texts = [
        f"{HEADLINES[metric]} of {NAMES[row]} on {TITLES[log]} "
        f"(p = {judged().p_value(log, PLUS, row, metric):.2g})"
        for log, row, metric in not_significant()
    ]
    texts += [
        f"{listed([NAMES[row] for row in rows])} on {TITLES[log]} (not tested)"
        for log, rows in not_tested().items()
    ]
    return f" but for {listed(texts)}" if texts else ""


def n_seeds(log: str, row: str) -> int:
    """Return the number of seeds of a row."""
    score = judged().score(log, row, "recall")
    assert score is not None, (log, row)
    return score.n


def rank_seconds(rows: list[str]) -> dict[tuple[str, str], float]:
    """Return the seconds that ranking all cases took by log and row, the longest run's."""
    took = pl.col("cases") / pl.col("eval_cases_per_second")
    runs = comparison().frames["runs"].filter(pl.col("row").is_in(rows))
    lines = runs.group_by("column", "row").agg(took.max()).iter_rows()
    return {(log, row): seconds for log, row, seconds in lines}


def measured(name: str) -> list[float]:
    """Return what a row of the benchmark measured, a value for each turn."""
    row = record.read(RESULTS / "benchmark.json")[name]
    assert isinstance(row, record.Row), name
    return [*row.measured]


def benchmark(name: str) -> float:
    """Return the median of what a row of the benchmark measured."""
    return statistics.median(measured(name))
