"""The two baselines without a network: PPOP and Item-KNN.                        Section 4.2

Both give each test case a sparse row of scores, and both are ranked by `ranking.by_chunk`. Nothing
here makes a dense [cases, V] or [V, V] array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from hrnn_jax import log as log_lib
from hrnn_jax import ranking


def ppop(
    log: log_lib.EventLog,
    *,
    ties: ranking.Ties,
    candidates: np.ndarray | None = None,
    cutoffs: Sequence[int],
) -> ranking.Ranking:
    """Rank by Personal Pop: "the largest number of interactions by the user".

    The interactions are all of the user's events before the target, those of the test session
    among them: what the recurrent models have been shown. Of two items with as many, the one with
    the larger support in the training set comes first; an item new to the user scores 0.
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

    return ranking.by_chunk(
        log, cases, score, cases - begin, ties=ties, candidates=candidates, cutoffs=cutoffs
    )


def item_knn(
    log: log_lib.EventLog,
    *,
    neighbours: int = 300,
    ties: ranking.Ties,
    candidates: np.ndarray | None = None,
    cutoffs: Sequence[int],
) -> ranking.Ranking:
    """Rank by the similarity to the item before the target in the session."""
    similarity = cosines(log.train, neighbours)
    cases = log.cases
    last = log.item[cases - 1]
    return ranking.by_chunk(
        log,
        cases,
        lambda chunk: similarity[last[chunk]],
        np.diff(similarity.indptr)[last],
        ties=ties,
        candidates=candidates,
        cutoffs=cutoffs,
    )


def cosines(log: log_lib.EventLog, neighbours: int) -> sparse.csr_array:
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
    for chunk in ranking.chunks(products):
        both = item_sessions[chunk] @ seen  # [chunk, V]
        row = chunk.start + np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        # The root comes last, so that equal cosines are equal numbers too.
        squares = both.data.astype(np.float64) ** 2 / (n_sessions[row] * n_sessions[both.indices])
        cosine = sparse.csr_array(
            (np.where(row != both.indices, np.sqrt(squares), 0), both.indices, both.indptr),
            shape=both.shape,
        )
        cosine.eliminate_zeros()  # an item is not its own neighbour
        blocks.append(ranking.first(cosine, neighbours))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))
