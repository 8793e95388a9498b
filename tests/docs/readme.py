"""The claims of README.md."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from experiments.leaderboard.grid import NAMES, PLUS
from experiments.paper.results import NETWORK_ROWS
from hrnn_jax.config import BASELINES

from .claims import (
    LOGS,
    METRICS,
    OTHERS,
    PAPERS,
    RESULTS,
    TITLES,
    Claim,
    best,
    listed,
    mean,
    n_seeds,
    not_significant,
    not_tested,
    rank_seconds,
)


def claims() -> Iterator[Claim]:
    """Yield the claims of the page, in its order."""
    for text, holds in (*_comparison(), *_paper()):
        yield Claim("README.md", text, holds)


def _comparison() -> Iterator[tuple[str, bool]]:
    yield (
        "the networks with five seeds",
        {n_seeds(log, row) for log in LOGS for row in (*PAPERS, PLUS)} == {5},
    )
    yield (
        "**On real logs counting beats the published networks.**",
        all(best(log, [*BASELINES], m) > best(log, PAPERS, m) for log in LOGS for m in METRICS),
    )
    alike = {(log, row): None for log, row, _ in not_significant()}
    names = listed([f"{NAMES[row]} on {TITLES[log]}" for log, row in alike])
    yield (
        f"hrnn_plus is ahead of both in each column, {'where tested ' if not_tested() else ''}"
        f"significantly{f' but for {names}' if names else ''}.",
        all(mean(log, PLUS, m) > best(log, OTHERS, m) for log in LOGS for m in METRICS),
    )
    seconds = rank_seconds(["ppop", "counts"])
    yield "they need seconds, and may be enough", max(seconds.values()) < 60


def _paper() -> Iterator[tuple[str, bool]]:
    runs = pl.read_csv(RESULTS / "runs.csv").filter(pl.col("column") != "videoxxl")
    seeds = runs.group_by("column", "row").agg(pl.len())
    small = set(seeds.filter(pl.col("row").str.ends_with("_small"))["len"])
    large = set(seeds.filter(pl.col("row").str.ends_with("_large"))["len"])
    text = "ten seeds of each small network and one to three of the large ones"
    yield text, small == {10} and large <= {1, 2, 3}
    scores = pl.read_csv(RESULTS / "scores.csv").filter(pl.col("metric").is_in(METRICS), cutoff=5)
    means = scores.group_by("column", "metric", "row").agg(pl.col("value").mean())
    network = pl.col("row").is_in(NETWORK_ROWS)
    best_of = means.group_by("column", "metric").agg(
        networks=pl.col("value").filter(network).max(),
        counting=pl.col("value").filter(~network).max(),
    )
    ahead = best_of["counting"] > best_of["networks"]
    yield "A method that counts is ahead of all networks in each column.", ahead.all()
