"""Measure a fitted model on the test part of its log: the ranks of `experiments.run`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax.config import EvaluationConfig, Ties
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.base import Model, check_test
from hrnn_jax.estimators.logs import Part
from hrnn_jax.estimators.run_files import case_columns
from hrnn_jax.event_log import EventLog
from hrnn_jax.ranking import metrics as of_ranks

METRICS = ("recall", "mrr", "precision", "ndcg", "coverage", "popularity")


def evaluate(
    model: Model,
    test: Part,
    metrics: Sequence[str] = ("recall@5", "mrr@5"),
    *,
    ties: Ties = "against",
    candidates: int | None = None,
    exclude_session_items: bool = False,
) -> dict[str, float]:
    """Measure a model on every event of the test sessions but their first (Section 4.3).

    Args:
        model: Fitted on the training part.
        test: The test part of the same split.
        metrics: Names with the length N of the list, as in "recall@20": recall, mrr, precision,
            ndcg, coverage (the share of items that are recommended at all) and popularity (the mean
            training events of recommended items).
        ties: Whether items that score as the target count as above it ("against" the model) or
            below it ("for" it).
        candidates: Rank the target among this many most supported items; among all by default.
        exclude_session_items: Leave the items that the session has so far out of the ranking.

    Returns:
        The value of each metric.

    Raises:
        InputError: A metric is unknown or there is none, `model` is no model, or the part is not of
            the log that it is fitted on.
    """
    names = [*metrics] if np.iterable(metrics) and not isinstance(metrics, str) else []
    if not names:
        raise InputError(f"`metrics`={metrics!r}: give a list of names, as in ['recall@5']")
    cutoffs = tuple(dict.fromkeys(map(_cutoff, names)))
    events = _test_events(model, test)
    ranking = model.ranking(EvaluationConfig(cutoffs, ties, candidates, exclude_session_items))
    found = of_ranks.figures(ranking, cutoffs, events.support)
    return {name: float("nan") if found[name] is None else found[name] for name in names}


def ranks(
    model: Model,
    test: Part,
    *,
    ties: Ties = "against",
    candidates: int | None = None,
    exclude_session_items: bool = False,
) -> pl.DataFrame:
    """Return the rank of the target of every test case, as a run's ranks.parquet has it.

    Args:
        model: Fitted on the training part.
        test: The test part of the same split.
        ties: As of `evaluate`.
        candidates: As of `evaluate`.
        exclude_session_items: As of `evaluate`.

    Returns:
        Columns user and item (raw ids, of the target), session (its number), position (of the
        target in its session, from 0, so at least 1), history (the user's sessions before this one)
        and rank (from 1), a row per case.

    Raises:
        InputError: `model` is no model, or the part is not of the log that it is fitted on.
    """
    events = _test_events(model, test)
    config = EvaluationConfig(
        ties=ties, candidates=candidates, exclude_session_items=exclude_session_items
    )
    ranking = model.ranking(config)
    columns = case_columns(events)
    named = {"user": model.train_.users, "item": model.train_.items}
    raw = {name: pl.Series(ids).gather(columns[name]) for name, ids in named.items()}
    return pl.DataFrame({**columns, **raw, "rank": np.asarray(ranking.rank)})


def _test_events(model: Any, test: Any) -> EventLog:
    """Return the events whose test cases a model ranks. Raises InputError for other arguments."""
    if not isinstance(model, Model):
        raise InputError(f"`model` is of type {type(model).__name__}: give a fitted model first")
    return check_test(model.name, model.train_, test)


def _cutoff(metric: str) -> int:
    """Return N of a metric as recall@N. Raises InputError where it is unknown."""
    match = re.fullmatch(rf"({'|'.join(METRICS)})@([1-9]\d{{0,8}})", str(metric))
    if match is None:
        raise InputError(f"`metrics`: {metric!r} is none of {', '.join(f'{m}@5' for m in METRICS)}")
    return int(match[2])
