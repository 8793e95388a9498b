"""Baselines that count: the paper's PPOP and Item-KNN (Section 4.2), a Markov chain and SR.

Each scores a test case by a sparse row, see `sparse_ranking`. No dense array [cases, V] or [V, V]
is made. They learn from the training events of the log only, except PPOP.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.baselines.sparse_ranking import Scorer
from hrnn_jax.config import ItemKnnConfig
from hrnn_jax.event_log import EventLog, begin_of, ranges


def ppop_scorer(log: EventLog) -> Scorer:
    """Score by Personal Pop (Section 4.2): "the largest number of interactions by the user".

    score(j) = the user's events with item j before the target, those of the test session included:
    the same events that the recurrent models are shown. Of equal scores, the item with the larger
    support in the training set comes first; an item new to the user scores 0.

    Args:
        log: a prepared log.
    """
    support = log.support
    cases = log.cases
    begin = begin_of(cases, log.opens_user)  # [N]

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        event = ranges(begin[chunk], length)
        scores = sparse.csr_array(
            (np.ones(len(event), np.int64), log.item[event], np.append(0, np.cumsum(length))),
            shape=(len(length), log.n_items),
        )
        scores.sum_duplicates()
        return _supported(scores, support)

    return score, cases - begin


def item_knn_scorer(log: EventLog, knn: ItemKnnConfig) -> Scorer:
    """Score by Item-KNN (Section 4.2): the similarity to the item before the target.

    score(j) = the cosine of j and the last item of the session so far, see `cosines`.

    Args:
        log: a prepared log.
        knn: the number of neighbours of an item that score.
    """
    return _last_item_scorer(log, cosines(log.train, knn.neighbours))


def rules_scorer(log: EventLog, *, max_steps: int = 10) -> Scorer:
    """Score by sequential rules (SR): how often and how soon an item came after another.

    Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms". With one step
    it is a Markov chain of first order.

    score(j) = the sum of 1 / steps over the training sessions in which j came that many steps after
    the item before the target, see `rules`. Of equal scores the item with the larger support comes
    first.

    Args:
        log: a prepared log.
        max_steps: the largest distance that counts, 1 to 16.
    """
    return _last_item_scorer(log, _supported(rules(log.train, max_steps=max_steps), log.support))


def _supported(scores: sparse.csr_array, support: np.ndarray) -> sparse.csr_array:
    """Break the ties of whole-number scores [n, V] by the items' support [V]."""
    scores.data = scores.data * (support.max(initial=0) + 1) + support[scores.indices]
    return scores


def _last_item_scorer(log: EventLog, scores: sparse.csr_array) -> Scorer:
    """Score each case by the row, of scores [V, V], of the item before the target."""
    last = log.item[log.cases - 1]
    return (lambda chunk: scores[last[chunk]]), np.diff(scores.indptr)[last]


def cosines(log: EventLog, neighbours: int) -> sparse.csr_array:
    """Return the similarity of every item to its most similar other items.

    cosine(i, j) = sessions with both / sqrt(sessions with i * sessions with j)

    Args:
        log: the events to count, all of them.
        neighbours: how many are kept of each item; of equal cosines the lower item is.

    Returns:
        CSR [V, V].
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
    for chunk in sparse_ranking.row_chunks(products):
        both = item_sessions[chunk] @ seen  # [chunk, V]
        row = chunk.start + np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        # The root comes last, so that equal cosines are equal numbers too.
        squares = both.data.astype(np.float64) ** 2 / (n_sessions[row] * n_sessions[both.indices])
        cosine = sparse.csr_array(
            (np.where(row != both.indices, np.sqrt(squares), 0), both.indices, both.indptr),
            shape=both.shape,
        )
        cosine.eliminate_zeros()  # an item is not its own neighbour
        blocks.append(sparse_ranking.largest(cosine, neighbours))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def rules(log: EventLog, *, max_steps: int) -> sparse.csr_array:
    """Return the weight of the rule "after item i comes item j" for all pairs of items.

    weight(i, j) = the sum of unit / (y - x) over the places x of i and y of j in a session, with
    0 < y - x <= max_steps; j may be i. unit = lcm(1, .., max_steps), so that the sums are whole
    numbers: equal sums of fractions could differ by rounding.

    Args:
        log: the events to count, all of them.
        max_steps: 16 at most, so that int64 holds the weight of 3 million pairs times the support
            of 4 million events.

    Returns:
        CSR [V, V] int64.
    """
    unit = math.lcm(*range(1, max_steps + 1))
    weights = sparse.csr_array((log.n_items, log.n_items), dtype=np.int64)
    for steps in range(1, max_steps + 1):
        earlier = np.flatnonzero(log.session[steps:] == log.session[:-steps])
        pair = (log.item[earlier], log.item[earlier + steps])
        value = np.full(len(earlier), unit // steps, np.int64)
        weights = weights + sparse.csr_array((value, pair), shape=weights.shape)
    return weights


def shares(counts: sparse.csr_array) -> sparse.csr_array:
    """Divide each row by its sum; a row without entries has none.

    Args:
        counts: [n, m], no column twice in a row.
    """
    total: Any = counts.sum(axis=1)
    values = counts.data / np.repeat(total, np.diff(counts.indptr))
    return sparse.csr_array((values, counts.indices, counts.indptr), shape=counts.shape)
