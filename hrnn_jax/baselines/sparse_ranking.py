"""Ranks and recommendations from sparse scores.

A baseline gives each test case a row of scores in which few items stand; an item that is absent
scores 0. No dense array [cases, V] is made: the cases are scored in chunks of about
`CHUNK_ENTRIES` entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from hrnn_jax.config import EvaluationConfig, Ties
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import NO_ITEM, EventLog
from hrnn_jax.ranking.metrics import Ranking, count_recommended

# Takes a slice of N cases and returns their scores, CSR [n, V], with entries above 0 and no item
# twice in a row. And the costs [N]: the entries of each row, or of all that is made for it.
Scorer = tuple[Callable[[slice], sparse.csr_array], np.ndarray]
CHUNK_ENTRIES = 4_000_000  # 100 to 400 MB at the widest


def checked(name: str, scorer: Any, log: EventLog) -> Scorer:
    """Return a scorer whose costs, and whose scores when they are made, are checked.

    Args:
        name: of the model, for the message.
        scorer: what a registered model returned.
        log: whose cases it scores.

    Returns:
        The scorer. Scores may be of any sparse form of scipy; entries of one case and item are
        added up, and zeros left out.

    Raises:
        InputError: the scorer, or later its scores, are no `Scorer`.
    """
    if not isinstance(scorer, tuple | list) or len(scorer) != 2 or not callable(scorer[0]):
        raise InputError(
            f"`model`={name}: its scorer is {type(scorer).__name__}; return a function and the "
            "costs of the cases, a tuple"
        )
    score, costs = scorer[0], np.asarray(scorer[1])
    n_cases = len(log.cases)
    if costs.shape != (n_cases,) or costs.dtype.kind not in "iuf":
        raise InputError(
            f"`model`={name}: its costs are {costs.dtype} of shape {costs.shape}; return a number "
            f"for each of the {n_cases} cases"
        )

    def checked_score(cases: slice) -> sparse.csr_array:
        scores = score(cases)
        shape = len(range(*cases.indices(n_cases))), log.n_items
        found_shape = getattr(scores, "shape", ())
        if not sparse.issparse(scores) or found_shape != shape:
            raise InputError(
                f"`model`={name}: its scores are {type(scores).__name__} of shape {found_shape}; "
                f"return a sparse matrix of scipy of shape {shape}: cases and items"
            )
        scores = sparse.csr_array(scores, copy=True)  # the model may keep its own
        scores.sum_duplicates()
        if not np.isfinite(scores.data).all() or (scores.data < 0).any():
            raise InputError(
                f"`model`={name}: it has scores below 0 or not finite; as the order alone counts, "
                "return np.exp of them"
            )
        scores.eliminate_zeros()
        return scores

    return checked_score, costs


def rank_cases(
    log: EventLog,
    scorer: Scorer,
    config: EvaluationConfig,
) -> Ranking:
    """Rank the target of every test case and count the recommended items.

    Args:
        log: with N test cases and V items.
        scorer: of `log.cases`.
        config: cutoffs, ties and the number of candidates, which compete with the target and are
            recommended.
    """
    cutoffs, (score, costs) = config.cutoffs, scorer
    competes = np.isin(np.arange(log.n_items), log.most_supported(config.candidates))
    targets = log.item[log.cases]
    excluded = log.session_items(log.cases) if config.exclude_session_items else None
    rank = np.zeros(len(targets), np.int32)
    shown = np.zeros((len(cutoffs), log.n_items), np.int64)
    for chunk in row_chunks(costs):
        scores = score(chunk)
        here = None if excluded is None else excluded[chunk]
        if here is not None:
            scores = without(scores, here)
        rank[chunk] = rank_targets(
            scores, targets[chunk], ties=config.ties, competes=competes, excluded=here
        )
        shown += count_shown(scores, cutoffs, competes=competes)
    return Ranking(rank, shown)


def rank_targets(
    scores: sparse.csr_array,
    targets: np.ndarray,
    *,
    ties: Ties,
    competes: np.ndarray,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """Return the targets' ranks: 1 + the number of competing items that score more.

    Args:
        scores: [n, V], entries above 0, none of an excluded item.
        targets: [n] items.
        ties: "against" counts an item that scores as much as the target as one that scores more;
            a target that scores 0 is then behind all that compete.
        competes: [V] bool, whether the item competes with the target.
        excluded: [n, S] items that do not compete in a case, NO_ITEM for none; a target among them
            ranks behind all that compete.

    Returns:
        [n], from 1.
    """
    n_cases = len(targets)
    n_others = np.broadcast_to(competes.sum() - competes[targets], n_cases)
    n_left = n_others
    if excluded is not None:
        n_left = n_others - _number_of(excluded, competes)
    row = np.repeat(np.arange(n_cases), np.diff(scores.indptr))
    is_target = scores.indices == targets[row]
    own = np.zeros(n_cases, scores.dtype)
    own[row[is_target]] = scores.data[is_target]
    above = scores.data > own[row] if ties == "for" else scores.data >= own[row]
    n_above = np.bincount(row[above & competes[scores.indices] & ~is_target], minlength=n_cases)
    if ties == "against":
        n_above = np.where(own > 0, n_above, n_left)
    if excluded is not None:
        n_above = np.where((excluded == targets[:, None]).any(axis=1), n_others, n_above)
    return 1 + n_above


def without(scores: sparse.csr_array, excluded: np.ndarray) -> sparse.csr_array:
    """Leave items [n, S] out of the scores [n, V] of their cases; NO_ITEM is none."""
    row = np.repeat(np.arange(len(excluded)), np.diff(scores.indptr))
    # A number for each pair of case and item.
    pairs = np.arange(len(excluded))[:, None] * (1 << 32) + excluded
    kept = scores.copy()
    kept.data[np.isin(row * (1 << 32) + scores.indices, pairs)] = 0
    kept.eliminate_zeros()
    return kept


def _number_of(excluded: np.ndarray, competes: np.ndarray) -> np.ndarray:
    """Return how many different items of each row [n, S] would compete."""
    items = np.sort(excluded, axis=1)
    is_new = np.ones(items.shape, bool)
    is_new[:, 1:] = items[:, 1:] != items[:, :-1]
    is_item = items != NO_ITEM
    return (is_new & is_item & competes[np.where(is_item, items, 0)]).sum(axis=1)


def count_shown(
    scores: sparse.csr_array, cutoffs: Sequence[int], *, competes: np.ndarray
) -> np.ndarray:
    """Count in how many cases each item is among the first recommendations.

    Of equal scores the lower item comes first. An item that scores 0 is not recommended.

    Args:
        scores: [n, V], entries above 0.
        cutoffs: the C lengths of the lists that count.
        competes: [V] bool, whether the item may be recommended.

    Returns:
        [C, V] int64, see `Ranking.shown`.
    """
    allowed = scores.copy()
    allowed.data = np.where(competes[scores.indices], scores.data, 0)
    allowed.eliminate_zeros()
    best = largest(allowed, max(cutoffs))
    length = np.diff(best.indptr)
    place = np.arange(len(best.indices)) - np.repeat(best.indptr[:-1], length)
    return count_recommended(best.indices, place, cutoffs, len(competes))


def largest(scores: sparse.csr_array, limit: int) -> sparse.csr_array:
    """Keep the `limit` largest entries of each row, the largest first.

    Of equal entries the lower column comes first.
    """
    kept = largest_of_rows(scores.data, scores.indptr, limit, order=scores.indices)
    indptr = np.append(0, np.cumsum(np.minimum(np.diff(scores.indptr), limit)))
    return sparse.csr_array((scores.data[kept], scores.indices[kept], indptr), shape=scores.shape)


def largest_of_rows(
    values: np.ndarray, indptr: np.ndarray, limit: int, *, order: np.ndarray | None = None
) -> np.ndarray:
    """Return the indices of the `limit` largest values of each row, row after row.

    Args:
        values: [E], row after row.
        indptr: [n + 1] where each row begins in them, and where the last one ends.
        limit: at least 1.
        order: [E], of equal values of a row the one with the lower number comes first; by default
            the one that stands first.

    Returns:
        Of each row the index of its largest value first.
    """
    length = np.diff(indptr)
    row = np.repeat(np.arange(len(length)), length)
    is_large = np.ones(len(values), bool)
    # Few values are as large as their row's limit-th: to sort only those saves most of the time.
    for n in np.flatnonzero(length > limit):
        of_row = slice(indptr[n], indptr[n + 1])
        least = np.partition(values[of_row], -limit)[-limit]
        is_large[of_row] = values[of_row] >= least
    kept = np.flatnonzero(is_large)
    ties = () if order is None else (order[kept],)  # the sort is stable
    kept = kept[np.lexsort((*ties, np.negative(values[kept]), row[kept]))]
    return kept[np.arange(len(kept)) - np.searchsorted(row[kept], row[kept]) < limit]


def row_chunks(costs: np.ndarray) -> Iterator[slice]:
    """Cut rows into slices that cost at most `CHUNK_ENTRIES`, plus one row's cost.

    Args:
        costs: of each row.
    """
    chunk = np.cumsum(costs) // CHUNK_ENTRIES
    edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(costs)]
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if a < b)
