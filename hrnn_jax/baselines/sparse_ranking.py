"""Ranks and recommendations of the models that give each test case a sparse row of scores.

An item that is absent from a row scores 0. Nothing here makes a dense [cases, V] array: the work is
cut into chunks of about `CHUNK_ENTRIES` scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import sparse

from hrnn_jax.config import EvaluationConfig, Ties
from hrnn_jax.event_log import EventLog
from hrnn_jax.metrics import Ranking, count_recommended

CHUNK_ENTRIES = 4_000_000  # 100 to 400 MB at the widest


def by_chunk(
    log: EventLog,
    cases: np.ndarray,  # [N]
    score: Callable[[slice], sparse.csr_array],  # a slice of the cases -> their rows of scores
    costs: np.ndarray,  # [N], entries of each row of scores, or the work that it takes
    config: EvaluationConfig,
    *,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank the targets of the cases among their scores [N, V]: entries > 0, none twice.

    candidates: items that compete with the target and are recommended, by default those of
    `config`.
    """
    cutoffs = config.cutoffs
    if candidates is None:
        candidates = log.most_supported(config.candidates)
    rank = np.zeros(len(cases), np.int32)
    shown = np.zeros((len(cutoffs), log.n_items), np.int64)
    competes = np.ones(log.n_items, bool)
    if candidates is not None:
        competes = np.isin(np.arange(log.n_items), candidates)
    for chunk in chunks(costs):
        scores = score(chunk)
        rank[chunk] = ranks(scores, log.item[cases[chunk]], ties=config.ties, competes=competes)
        shown += recommended(scores, cutoffs, competes=competes)
    return Ranking(rank, shown)


def ranks(
    scores: sparse.csr_array,  # [N, V]
    targets: np.ndarray,  # [N]
    *,
    ties: Ties,
    competes: np.ndarray,  # [V] bool, whether the item competes with the target
) -> np.ndarray:
    """Return the targets' ranks [N]: 1 + the competing items that score more.

    One that scores as much as the target counts as more under `ties="against"`: a target that
    scores 0 is then behind all that compete.
    """
    n_cases = len(targets)
    row = np.repeat(np.arange(n_cases), np.diff(scores.indptr))
    is_target = scores.indices == targets[row]
    own = np.zeros(n_cases, scores.dtype)
    own[row[is_target]] = scores.data[is_target]
    above = scores.data > own[row] if ties == "for" else scores.data >= own[row]
    n_above = np.bincount(row[above & competes[scores.indices] & ~is_target], minlength=n_cases)
    if ties == "against":
        n_above = np.where(own > 0, n_above, competes.sum() - competes[targets])
    return 1 + n_above


def recommended(
    scores: sparse.csr_array,  # [N, V]
    cutoffs: Sequence[int],
    *,
    competes: np.ndarray,  # [V] bool, whether the item may be recommended
) -> np.ndarray:
    """Count in how many rows each item is among the first: [C, V], see `Ranking.shown`.

    Of equal scores the lower item comes first. An item that scores 0 is not recommended.
    """
    allowed = scores.copy()
    allowed.data = np.where(competes[scores.indices], scores.data, 0)
    allowed.eliminate_zeros()
    best = first(allowed, max(cutoffs))
    length = np.diff(best.indptr)
    place = np.arange(len(best.indices)) - np.repeat(best.indptr[:-1], length)
    return count_recommended(best.indices, place, cutoffs, len(competes))


def first(scores: sparse.csr_array, limit: int) -> sparse.csr_array:
    """Keep each row's `limit` largest entries, the largest first, at a tie the lower column."""
    length = np.diff(scores.indptr)
    row = np.repeat(np.arange(len(length)), length)
    # Few entries are as large as their row's limit-th: to sort only those saves most of the time.
    least = np.zeros(len(length), scores.dtype)
    for n in np.flatnonzero(length > limit):
        values = scores.data[scores.indptr[n] : scores.indptr[n + 1]]
        least[n] = np.partition(values, -limit)[-limit]
    kept = np.flatnonzero(scores.data >= least[row])
    kept = kept[np.lexsort((scores.indices[kept], np.negative(scores.data[kept]), row[kept]))]
    kept = kept[np.arange(len(kept)) - np.searchsorted(row[kept], row[kept]) < limit]
    indptr = np.searchsorted(row[kept], np.arange(len(length) + 1))
    return sparse.csr_array((scores.data[kept], scores.indices[kept], indptr), shape=scores.shape)


def chunks(costs: np.ndarray) -> Iterator[slice]:
    """Cut the rows into slices that cost at most `CHUNK_ENTRIES` and one row more."""
    chunk = np.cumsum(costs) // CHUNK_ENTRIES
    edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(costs)]
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if a < b)
