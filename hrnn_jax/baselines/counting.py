"""The baselines that count: the paper's PPOP and Item-KNN (Section 4.2), Markov and SR.

Each gives a test case a sparse row of scores, to be ranked by `ranking.by_chunk`. Nothing here
makes a dense [cases, V] or [V, V] array.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from hrnn_jax import event_log
from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import EvaluationConfig, ItemKnnConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.metrics import Ranking


def ppop(
    log: EventLog,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank by Personal Pop: "the largest number of interactions by the user".

    The interactions are all of the user's events before the target, those of the test session
    among them: what the recurrent models have been shown. Of two items with as many, the one with
    the larger support in the training set comes first; an item new to the user scores 0.
    """
    support = log.support
    first_events = np.flatnonzero(log.opens_user)
    cases = log.cases
    begin = first_events[np.searchsorted(first_events, cases, side="right") - 1]  # [N]

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        event = event_log.ranges(begin[chunk], length)
        scores = sparse.csr_array(
            (np.ones(len(event), np.int64), log.item[event], np.append(0, np.cumsum(length))),
            shape=(len(length), log.n_items),
        )
        scores.sum_duplicates()
        return _supported(scores, support)

    return sparse_ranking.by_chunk(log, cases, score, cases - begin, config, candidates=candidates)


def item_knn(
    log: EventLog,
    knn: ItemKnnConfig = ItemKnnConfig(),
    config: EvaluationConfig = EvaluationConfig(),
    *,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank by the similarity to the item before the target in the session."""
    return _by_last_item(log, cosines(log.train, knn.neighbours), config, candidates)


def markov(
    log: EventLog,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank by how often an item came right after the item before the target: a Markov chain.

    Of two items that came as often, the one with the larger support comes first, as in `ppop`.
    """
    scores = _supported(rules(log.train, max_steps=1), log.support)
    return _by_last_item(log, scores, config, candidates)


def sequential_rules(
    log: EventLog,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    candidates: np.ndarray | None = None,
    max_steps: int = 10,
) -> Ranking:
    """Rank by how often and how soon an item came after the item before the target: SR.

    Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms". Of two items of
    equal weight, the one with the larger support comes first, as in `ppop`.
    """
    scores = _supported(rules(log.train, max_steps=max_steps), log.support)
    return _by_last_item(log, scores, config, candidates)


def _supported(scores: sparse.csr_array, support: np.ndarray) -> sparse.csr_array:
    """Put of equal whole scores [n, V] that of the item with the larger support [V] first."""
    scores.data = scores.data * (support.max(initial=0) + 1) + support[scores.indices]
    return scores


def _by_last_item(
    log: EventLog,
    scores: sparse.csr_array,  # [V, V]
    config: EvaluationConfig,
    candidates: np.ndarray | None,
) -> Ranking:
    """Rank by the row of the item before the target in the session."""
    cases = log.cases
    last = log.item[cases - 1]
    return sparse_ranking.by_chunk(
        log,
        cases,
        lambda chunk: scores[last[chunk]],
        np.diff(scores.indptr)[last],
        config,
        candidates=candidates,
    )


def cosines(log: EventLog, neighbours: int) -> sparse.csr_array:
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
    for chunk in sparse_ranking.chunks(products):
        both = item_sessions[chunk] @ seen  # [chunk, V]
        row = chunk.start + np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        # The root comes last, so that equal cosines are equal numbers too.
        squares = both.data.astype(np.float64) ** 2 / (n_sessions[row] * n_sessions[both.indices])
        cosine = sparse.csr_array(
            (np.where(row != both.indices, np.sqrt(squares), 0), both.indices, both.indptr),
            shape=both.shape,
        )
        cosine.eliminate_zeros()  # an item is not its own neighbour
        blocks.append(sparse_ranking.first(cosine, neighbours))
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def rules(log: EventLog, *, max_steps: int) -> sparse.csr_array:
    """Return how much every item speaks for every other as a later one, as CSR [V, V].

    weight(i, j) = the sum of unit / (y - x) over the places x of i and y of j in a session, with
    0 < y - x <= max_steps; j may be i. unit = lcm(1, .., max_steps), so that the sums are whole:
    added up as fractions, equal ones would differ by rounding. max_steps: 16 at most, for int64 to
    hold the weight of 3 million pairs times the support of 4 million events.
    """
    unit = math.lcm(*range(1, max_steps + 1))
    weights = sparse.csr_array((log.n_items, log.n_items), dtype=np.int64)
    for steps in range(1, max_steps + 1):
        earlier = np.flatnonzero(log.session[steps:] == log.session[:-steps])
        pair = (log.item[earlier], log.item[earlier + steps])
        value = np.full(len(earlier), unit // steps, np.int64)
        weights = weights + sparse.csr_array((value, pair), shape=weights.shape)
    return weights
