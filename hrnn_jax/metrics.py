"""Metrics of the ranks of the targets, and of what is recommended.               Section 4.3

A rank is 1 + the number of items recommended before the target, so the best rank is 1. Every test
case has exactly one relevant item. Recall, MRR, Precision and NDCG at a cutoff are means over the
cases: NaN where there are none. Coverage and popularity are of the lists, whatever the targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Where the targets stand, and what is recommended in their place."""

    rank: np.ndarray  # [N] int32, of each of log.cases, from 1
    shown: np.ndarray  # [C, V] int64: in how many cases item v is among the first cutoffs[c]


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


def ndcg(ranks: np.ndarray, cutoff: int, *, where: np.ndarray | None = None) -> float:
    """Return the mean over cases [N] of 1 / log2(rank + 1), or zero beyond the cutoff.

    Järvelin & Kekäläinen 2002: with one relevant item the ideal list's gain is 1.
    """
    return mean(np.where(ranks <= cutoff, 1 / np.log2(ranks + 1), 0), where)


def coverage(shown: np.ndarray) -> float:
    """Return the share of the items that are recommended at all. shown: [V] times each is."""
    return float(np.mean(shown > 0))


def popularity(shown: np.ndarray, support: np.ndarray) -> float:
    """Return the mean support of what is recommended: NaN if nothing is.

    shown: [V] times each item is recommended; support: [V] its events in training.
    """
    times = shown.sum()
    return float(shown @ support / times) if times else float("nan")


def summarise(
    ranks: np.ndarray, cutoffs: Iterable[int], *, where: np.ndarray | None = None
) -> dict[str, float]:
    """Return every metric of the ranks [N] at every cutoff: {"recall@5": 0.5, "mrr@5": ...}."""
    return {
        f"{metric.__name__}@{cutoff}": metric(ranks, cutoff, where=where)
        for cutoff in cutoffs
        for metric in (recall, mrr, precision, ndcg)
    }


def mean(values: np.ndarray, where: np.ndarray | None) -> float:
    """Return the mean of the values [N] at `where`, NaN (and no warning) where there are none."""
    kept = values if where is None else values[where]
    return float(np.mean(kept)) if len(kept) else float("nan")


def count_recommended(
    items: np.ndarray, place: np.ndarray, cutoffs: Sequence[int], n_items: int
) -> np.ndarray:
    """Count the items that stand at a place, from 0, before each of the cutoffs: [C, V]."""
    return np.stack([np.bincount(items[place < c], minlength=n_items) for c in cutoffs])
