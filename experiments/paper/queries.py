"""The numbers of the tables and figures: queries over ranks.parquet and recommended.parquet.

`ranks` is the content of a run's ranks.parquet (see `run_files.write_ranks`), of all seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from hrnn_jax.preprocess.statistics import SHORT_HISTORY
from hrnn_jax.ranking.metrics import per_case
from hrnn_jax.ranking.significance import signed_rank

from ..jobs.grid import CUTOFF, CUTOFFS

LONG_SESSION = 5  # events; Section 4.3.2 looks at sessions of as many or more
CASE = ("session", "position")  # these identify a test case
MEANS = ("recall", "mrr")  # the metrics of figures and tests of significance


def with_metrics(ranks: pl.DataFrame, cutoff: int = CUTOFF) -> pl.DataFrame:
    """Add each test case's metrics as columns."""
    values = per_case(ranks["rank"].to_numpy(), cutoff)
    return ranks.with_columns(pl.Series(metric, of_case) for metric, of_case in values.items())


def scores(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, metric, cutoff, value: the means over the test cases (Section 4.3)."""
    of_cutoffs = [
        with_metrics(ranks, cutoff)
        .group_by("seed")
        .agg(pl.col("recall", "mrr", "precision", "ndcg").mean())
        .unpivot(index="seed", variable_name="metric")
        .select("seed", "metric", pl.lit(cutoff, pl.Int64).alias("cutoff"), "value")
        for cutoff in CUTOFFS
    ]
    return pl.concat(of_cutoffs).sort("seed", "cutoff", "metric")


def list_scores(recommended: pl.DataFrame, support: pl.DataFrame) -> pl.DataFrame:
    """Return metrics of the recommended lists, whatever the targets: seed, metric, cutoff, value.

    Args:
        recommended: the content of recommended.parquet, see `run_files.write_recommended`.
        support: item, support: the events of each item in the training set.

    Returns:
        Of each seed and cutoff "coverage", the share of the items that are recommended at least
        once, and "popularity", the mean support of the recommended items over all places of all
        lists.
    """
    events = (pl.col("times") * pl.col("support")).sum() / pl.col("times").sum()
    return (
        recommended.join(support, on="item")
        .group_by("seed", "cutoff")
        .agg(coverage=pl.len() / len(support), popularity=events)
        .unpivot(index=["seed", "cutoff"], variable_name="metric")
        .select("seed", "metric", pl.col("cutoff").cast(pl.Int64), "value")
        .sort("seed", "cutoff", "metric")
    )


def by_history(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, group, sessions, recall, mrr: Figures 3 and 4.

    "For each algorithm, we compute the average Recall@5 and MRR@5 per test session grouped by
    history length" (Section 4.3.1): first over a session's cases, then over the sessions.
    """
    short = pl.when(pl.col("history") <= SHORT_HISTORY).then(pl.lit("short"))
    return (
        with_metrics(ranks)
        .group_by("seed", "session", "history")
        .agg(pl.col(MEANS).mean())
        .group_by("seed", short.otherwise(pl.lit("long")).alias("group"))
        .agg(pl.len().alias("sessions"), pl.col(MEANS).mean())
        .sort("seed", pl.col("group") == "long")
    )


def by_position(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, group, cases, recall, mrr: Figures 5 and 6, sessions of 5 events or more.

    "Beginning refers to the first 2 events of the session, Middle to the 3rd and 4th, and End to
    any event after the 4th" (Section 4.3.2), by the event that is predicted. The first event is
    never predicted, so Beginning is the second.
    """
    event = pl.col("position") + 1
    middle = pl.when(event <= 2).then(pl.lit("1-2")).when(event <= 4).then(pl.lit("3-4"))
    return (
        with_metrics(ranks.filter(event.max().over("seed", "session") >= LONG_SESSION))
        .group_by("seed", middle.otherwise(pl.lit("5+")).alias("group"))
        .agg(pl.len().alias("cases"), pl.col(MEANS).mean())
        .sort("seed", "group")
    )


def by_case(ranks: pl.DataFrame, cutoff: int = CUTOFF) -> pl.DataFrame:
    """Return each test case's means over the seeds: session, position, recall, mrr, ndcg."""
    return with_metrics(ranks, cutoff).group_by(CASE).agg(pl.col(*MEANS, "ndcg").mean()).sort(CASE)


def signed_rank_tests(
    cases: Mapping[str, pl.DataFrame], a: str, b: str
) -> Iterator[tuple[str, str, str, int, float, float]]:
    """Test two rows for a difference, paired over the test cases.

    Args:
        cases: `by_case` of each row.
        a: a row.
        b: the row that it is compared with.

    Yields:
        metric, a, b, number of cases, Wilcoxon's statistic and p.

    Raises:
        ValueError: the rows were tested on different cases.
    """
    if not cases[a].select(CASE).equals(cases[b].select(CASE)):
        raise ValueError(f"{a} and {b} were tested on different cases")
    for metric in MEANS:
        x, y = (cases[row][metric].to_numpy() for row in (a, b))
        yield (f"{metric}@{CUTOFF}", a, b, len(x), *signed_rank(x, y))
