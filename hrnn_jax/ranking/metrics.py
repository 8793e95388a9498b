"""Metrics of the ranks of the targets, and of the recommended items (Section 4.3).

A rank is 1 + the number of items recommended before the target, so the best rank is 1. Every test
case has exactly one relevant item, its target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hrnn_jax.compile_time import Timing
from hrnn_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The ranks of the targets, and how often each item is recommended."""

    rank: np.ndarray  # [N] int32, of each of log.cases, from 1
    shown: np.ndarray  # [C, V] int64: in how many cases item v is among the first cutoffs[c]


def per_case(ranks: np.ndarray, cutoff: int) -> dict[str, np.ndarray]:
    """Return the four metrics of every test case; a metric is their mean over cases.

    With one relevant item per case, at rank r, and n = cutoff, a case counts only if r <= n:

        recall     1                 "the proportion of cases out of all test cases in which the
                                     relevant item is amongst the top-5 items": the hit rate
        mrr        1 / r             "manually set to zero if the rank is greater than 5"
        precision  1 / n             "the fraction of correct recommendations in the top-5
                                     positions of each recommendation list"
        ndcg       1 / log2(r + 1)   Järvelin & Kekäläinen 2002: the ideal list's gain is 1

    The quotations are from Section 4.3; NDCG is not in the paper.

    Args:
        ranks: [N] integers, from 1.
        cutoff: how many recommendations count, 1 or more.

    Returns:
        The values [N] float64 of "recall", "mrr", "precision" and "ndcg", in this order; 0 where
        the rank is beyond the cutoff.
    """
    gains = {
        "recall": np.ones(len(ranks)),
        "mrr": 1 / ranks,
        "precision": np.full(len(ranks), 1 / cutoff),
        "ndcg": 1 / np.log2(ranks + 1.0),
    }
    return {name: np.where(ranks <= cutoff, gain, 0.0) for name, gain in gains.items()}


def summarise(
    ranks: np.ndarray, cutoffs: Iterable[int], *, where: np.ndarray | None = None
) -> dict[str, float]:
    """Return the mean over cases of every metric at every cutoff.

    Args:
        ranks: [N] integers, from 1.
        cutoffs: as of `per_case`.
        where: [N] bool, the cases that count; all of them by default.

    Returns:
        {"recall@5": 0.5, "mrr@5": ...}, NaN (and no warning) where no case counts.
    """
    kept = ranks if where is None else ranks[where]
    return {
        f"{name}@{cutoff}": float(np.mean(values)) if len(kept) else float("nan")
        for cutoff in cutoffs
        for name, values in per_case(kept, cutoff).items()
    }


def figures(ranking: Ranking, cutoffs: Sequence[int], support: np.ndarray) -> dict[str, Any]:
    """Return all that is reported of a ranking.

    Args:
        ranking: of N test cases.
        cutoffs: the C lengths of the lists that `ranking` counts.
        support: [V], the events of each item in the training set.

    Returns:
        The metrics of `summarise`, coverage and popularity at each cutoff, and "cases": N. The
        popularity is None where nothing is recommended.

    Raises:
        InputError: there is no test case.
    """
    if not len(ranking.rank):
        raise InputError("no test case is left: no test session has two items that were trained on")
    result: dict[str, Any] = {**summarise(ranking.rank, cutoffs)}
    for cutoff, shown in zip(cutoffs, ranking.shown, strict=True):
        result[f"coverage@{cutoff}"] = coverage(shown)
        result[f"popularity@{cutoff}"] = (
            popularity(shown, support) if shown.any() else None  # JSON has no NaN
        )
    return result | {"cases": len(ranking.rank)}


def speed(n_cases: int, took: Timing) -> dict[str, float]:
    """Return what is reported of the time that a ranking took.

    Args:
        n_cases: that were ranked.
        took: the time of the ranking, with the counting of a method without training.

    Returns:
        "eval_compile_seconds" and, without these, "eval_cases_per_second".
    """
    return {
        "eval_compile_seconds": took.compiling,
        "eval_cases_per_second": n_cases / (took.seconds - took.compiling),
    }


def coverage(shown: np.ndarray) -> float:
    """Return the share of the items that are recommended at least once.

    Args:
        shown: [V], how often each item is recommended.
    """
    return float(np.mean(shown > 0))


def popularity(shown: np.ndarray, support: np.ndarray) -> float:
    """Return the mean support of the recommended items.

    Args:
        shown: [V], how often each item is recommended.
        support: [V], the events of each item in the training set.

    Returns:
        The mean over all places of all lists; NaN if nothing is recommended.
    """
    times = shown.sum()
    return float(shown @ support / times) if times else float("nan")


def count_recommended(
    items: np.ndarray, place: np.ndarray, cutoffs: Sequence[int], n_items: int
) -> np.ndarray:
    """Count how often each item is recommended at each cutoff.

    Args:
        items: item numbers, of any shape.
        place: the place of each in its list, from 0; of the same shape.
        cutoffs: the C lengths of the lists that count.
        n_items: V.

    Returns:
        [C, V] int64.
    """
    return np.stack([np.bincount(items[place < c], minlength=n_items) for c in cutoffs])
