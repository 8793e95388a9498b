"""A mixture of counts: the user's past, which fades, and what follows or goes with the last item.

Each part gives the items shares that sum to 1, or none where it knows nothing:

    past(j)   ~ the sum of 2^(-age / half_life) over the user's events with j before the target,
                those of the open session included; the last event has age 0, the one before 1, ...
    markov(j) ~ how often j came right after the last item, in the training sessions
    rules(j)  ~ the weight of the sequential rule from the last item to j, see `counting.rules`
    cosine(j) ~ the cosine of j and the last item, of its `neighbours` most similar items

    score(j)  = past(j) + markov_weight * markov(j) + rules_weight * rules(j)
                + cosine_weight * cosine(j)

Parts that know an item score it above 0; a part without a weight scores none.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import counting, sparse_ranking
from hrnn_jax.config import CountsConfig
from hrnn_jax.event_log import EventLog, begin_of, ranges

MAX_STEPS = 10  # of sequential rules, as of SR


def scorer(log: EventLog, config: CountsConfig) -> sparse_ranking.Scorer:
    """Return the function that scores test cases, and what each costs.

    Args:
        log: a prepared log with N test cases.
        config: the weights, the half-life of the past, and the neighbours of an item.

    Returns:
        A function from a slice of `log.cases` to their scores, CSR [n, V]. And the costs, [N].
    """
    after_last = _after_last(log, config)
    cases = log.cases
    begin = begin_of(cases, log.opens_user)  # [N]
    last = log.item[cases - 1]

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        event = ranges(begin[chunk], length)
        age = np.repeat(cases[chunk], length) - 1 - event
        past = sparse.csr_array(
            (np.exp2(-age / config.half_life), log.item[event], np.append(0, np.cumsum(length))),
            shape=(len(length), log.n_items),
        )
        past.sum_duplicates()
        scores = sparse.csr_array(counting.shares(past) + after_last[last[chunk]])
        scores.eliminate_zeros()  # an age may be beyond the smallest number
        return scores

    return score, cases - begin + np.diff(after_last.indptr)[last]


def _after_last(log: EventLog, config: CountsConfig) -> sparse.csr_array:
    """Return what the parts but the past give all items after each item, weighed, [V, V]."""
    train, total = log.train, sparse.csr_array((log.n_items, log.n_items))
    for weight, part in (
        (config.markov_weight, lambda: counting.rules(train, max_steps=1)),
        (config.rules_weight, lambda: counting.rules(train, max_steps=MAX_STEPS)),
        (config.cosine_weight, lambda: counting.cosines(train, config.neighbours)),
    ):
        if weight:
            total = sparse.csr_array(total + weight * counting.shares(part()))
    return total
