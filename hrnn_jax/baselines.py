"""The two baselines without a network: PPOP and Item-KNN.                        Section 4.2

Both give each test case a sparse row of scores, where an item that is absent scores 0, and both are
ranked by `ranks`. Nothing here makes a dense [cases, V] or [V, V] array: the work is cut into
chunks of about `CHUNK_ENTRIES` scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from scipy import sparse

from hrnn_jax import log as log_lib

Ties = Literal["against", "for"]
CHUNK_ENTRIES = 4_000_000  # 100 to 400 MB at the widest


def ppop_ranks(
    log: log_lib.EventLog, *, ties: Ties, candidates: np.ndarray | None = None
) -> np.ndarray:
    """Rank the targets by Personal Pop: "the largest number of interactions by the user".

    The interactions are all of the user's events before the target, those of the test session
    among them: what the recurrent models have been shown. Of two items with as many, the one with
    the larger support in the training set comes first; an item new to the user scores 0.

    Returns the rank of each of `log.cases`, [N].
    """
    support = np.bincount(log.item[~log.test], minlength=log.n_items)
    first_events = np.flatnonzero(log.opens_user)
    cases = log.cases
    begin = first_events[np.searchsorted(first_events, cases, side="right") - 1]  # [N]

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        ends = np.cumsum(length)
        # The events begin, begin + 1, ... of each case in turn.
        event = np.arange(ends[-1]) + np.repeat(begin[chunk] - ends + length, length)
        scores = sparse.csr_array(
            (np.ones(len(event), np.int64), log.item[event], np.append(0, ends)),
            shape=(len(length), log.n_items),
        )
        scores.sum_duplicates()
        scores.data = scores.data * (support.max() + 1) + support[scores.indices]
        return scores

    return _ranks_by_chunk(log, cases, score, cases - begin, ties, candidates)


def item_knn_ranks(
    log: log_lib.EventLog,
    *,
    neighbours: int = 300,
    ties: Ties,
    candidates: np.ndarray | None = None,
) -> np.ndarray:
    """Rank the targets by their similarity to the item before them in the session.

    Returns the rank of each of `log.cases`, [N].
    """
    similarity = item_knn(log.train, neighbours)
    cases = log.cases
    last = log.item[cases - 1]
    costs = np.diff(similarity.indptr)[last]
    return _ranks_by_chunk(
        log, cases, lambda chunk: similarity[last[chunk]], costs, ties, candidates
    )


def item_knn(log: log_lib.EventLog, neighbours: int) -> sparse.csr_array:
    """Return every item's cosine to its nearest `neighbours` other items, as CSR [V, V].

    cosine(i, j) = sessions with both / sqrt(sessions with i * sessions with j). Of equally near
    items at the last place, those with the lower index stay.
    """
    sessions, session = np.unique(log.session, return_inverse=True)
    seen = sparse.csr_array(
        (np.ones(len(log), np.int32), (session, log.item)), shape=(len(sessions), log.n_items)
    )
    seen.data[:] = 1  # an item twice in a session is there once
    item_sessions = seen.T.tocsr()  # [V, sessions]
    n_sessions = np.diff(item_sessions.indptr).astype(np.int64)  # [V]
    products = item_sessions @ np.diff(seen.indptr).astype(np.int64)  # [V], the cost of each row
    blocks = []
    for chunk in _chunks(products):
        both = (item_sessions[chunk] @ seen).tocoo()
        row, column = both.coords
        row, count = row + chunk.start, both.data.astype(np.float64)
        # The root comes last, so that equal cosines are equal numbers too.
        cosine = np.sqrt(count**2 / (n_sessions[row] * n_sessions[column]))
        other = row != column
        blocks.append(_nearest(row[other], column[other], cosine[other], neighbours))
    row, column, cosine = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return sparse.csr_array((cosine, (row, column)), shape=(log.n_items, log.n_items))


def ranks(
    scores: sparse.csr_array,  # [N, V], entries > 0, none twice
    targets: np.ndarray,  # [N]
    *,
    ties: Ties,
    candidates: np.ndarray | None = None,  # items that compete with the target, None for all V
) -> np.ndarray:
    """Return the targets' ranks [N]: 1 + the candidates that score more, an absent one scoring 0.

    A candidate that scores as much as the target counts as more under `ties="against"`: a target
    that scores 0 is then behind every candidate.
    """
    n_cases, n_items = scores.shape  # pyright: ignore[reportGeneralTypeIssues] scipy is untyped
    competes = np.ones(n_items, bool)
    if candidates is not None:
        competes = np.isin(np.arange(n_items), candidates)
    row = np.repeat(np.arange(n_cases), np.diff(scores.indptr))
    is_target = scores.indices == targets[row]
    own = np.zeros(n_cases, scores.dtype)
    own[row[is_target]] = scores.data[is_target]
    above = scores.data > own[row] if ties == "for" else scores.data >= own[row]
    n_above = np.bincount(row[above & competes[scores.indices] & ~is_target], minlength=n_cases)
    if ties == "against":
        n_above = np.where(own > 0, n_above, competes.sum() - competes[targets])
    return 1 + n_above


def _ranks_by_chunk(
    log: log_lib.EventLog,
    cases: np.ndarray,  # [N]
    score: Callable[[slice], sparse.csr_array],  # a slice of the cases -> their rows of scores
    costs: np.ndarray,  # [N], entries of each row of scores
    ties: Ties,
    candidates: np.ndarray | None,
) -> np.ndarray:
    found = [
        ranks(score(chunk), log.item[cases[chunk]], ties=ties, candidates=candidates)
        for chunk in _chunks(costs)
    ]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _chunks(costs: np.ndarray) -> Iterator[slice]:
    """Cut the rows into slices that cost at most `CHUNK_ENTRIES` and one row more."""
    chunk = np.cumsum(costs) // CHUNK_ENTRIES
    edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(costs)]
    return (slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if a < b)


def _nearest(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the entries [n] with each row's `limit` largest values, the lower column at a tie."""
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    keep = place < limit
    return row[keep], column[keep], value[keep]
