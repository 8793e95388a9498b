"""Recall, MRR and Precision at a cutoff, from the ranks of the targets.          Section 4.3

A rank is 1 + the number of items recommended before the target, so the best rank is 1. Every test
case has exactly one relevant item. All three are means over the cases: NaN where there are none.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def recall(ranks: np.ndarray, cutoff: int, *, where: np.ndarray | None = None) -> float:
    """Return the share of cases [N] whose target is among the first `cutoff` items.

    Section 4.3: "the proportion of cases out of all test cases in which the relevant item is
    amongst the top-5 items", which with one relevant item is the hit rate.
    """
    return mean(ranks <= cutoff, where)


def mrr(ranks: np.ndarray, cutoff: int, *, where: np.ndarray | None = None) -> float:
    """Return the mean over cases [N] of 1 / rank.

    Section 4.3: "manually set to zero if the rank is greater than 5".
    """
    return mean(np.where(ranks <= cutoff, 1 / ranks, 0), where)


def precision(ranks: np.ndarray, cutoff: int, *, where: np.ndarray | None = None) -> float:
    """Return the mean over cases [N] of the share of the first `cutoff` items that are relevant.

    Section 4.3: "the fraction of correct recommendations in the top-5 positions of each
    recommendation list", which with one relevant item is recall / cutoff.
    """
    return recall(ranks, cutoff, where=where) / cutoff


def summarise(
    ranks: np.ndarray, cutoffs: Iterable[int], *, where: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of the cases [N] at every cutoff: {"recall@5": 0.5, "mrr@5": ...}."""
    return {
        f"{metric.__name__}@{cutoff}": metric(ranks, cutoff, where=where)
        for cutoff in cutoffs
        for metric in (recall, mrr, precision)
    }


def mean(values: np.ndarray, where: np.ndarray | None) -> float:
    """Return the mean of the values [N] at `where`, NaN (and no warning) where there are none."""
    kept = values if where is None else values[where]
    return float(np.mean(kept)) if len(kept) else float("nan")
