"""EASE (Steck, WWW 2019): a linear model of the items that users have.

X is the binary matrix of users and items: 1 where a user has the item in a training session.
The weights B are those of a ridge regression of each item on the others, in closed form:

    P    = (X^T X + l2 I)^-1
    B_ij = -P_ij / P_jj, and B_jj = 0

    score(j) = sum of B_ij over the different items i that the user has before the target, in
               training sessions and in the open session

which is row x of the paper's x B: an item counts once, wherever and however often it comes. Items
that the user has score like all others, also by weights below 0. Steck's rows are users. With
`ease_rows`=sessions the rows of X are the training sessions, and x has the items of the open
session before the target alone.

The inverse is dense: 8 V^2 bytes, and time by V^3. Weights are rounded to multiples of 2^-40, so
that items which have nothing to do with the user's score 0 exactly, and the order of summing
changes nothing.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy import sparse

from hrnn_jax import errors
from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import EaseConfig
from hrnn_jax.event_log import EventLog, begin_of, ranges

MOST_ITEMS = 20_000  # 3.2 GB of weights
UNIT = 1 << 40


def scorer(log: EventLog, config: EaseConfig) -> sparse_ranking.Scorer:
    """Return the function that scores test cases, and what each costs.

    Args:
        log: a prepared log with N test cases.
        config: the regularisation, and what the rows of X are.

    Returns:
        A function from a slice of `log.cases` to their scores, CSR [n, V]: `UNIT` times those of
        the module, from the lowest of the case, which is 0. And the costs, [N].

    Raises:
        InputError: there are more than `MOST_ITEMS` items.
    """
    if log.n_items > MOST_ITEMS:
        raise errors.InputError(
            f"`model`=ease inverts a matrix of items by items: {log.n_items:,} items are more than "
            f"{MOST_ITEMS:,}; give a larger `min_support`, which leaves fewer, or another model"
        )
    b = weights(log.train, config)
    cases = log.cases
    begin = begin_of(cases, _opens_row(log, config))  # [N]

    def score(chunk: slice) -> sparse.csr_array:
        length = cases[chunk] - begin[chunk]
        row = np.repeat(np.arange(len(length)), length)
        has = _binary(row, log.item[ranges(begin[chunk], length)], (len(length), log.n_items))
        scores = np.asarray(has @ b)
        scores -= scores.min(axis=1, keepdims=True)
        return sparse.csr_array(scores)

    return score, cases - begin + log.n_items


def weights(train: EventLog, config: EaseConfig) -> np.ndarray:
    """Return B times `UNIT`, in whole numbers, [V, V] float64.

    Args:
        train: the events to count, all of them.
        config: the regularisation, and what the rows of X are.
    """
    row = np.cumsum(_opens_row(train, config)) - 1
    x = _binary(row, train.item, (int(row.max(initial=-1)) + 1, train.n_items))
    gram = (x.T @ x).toarray()
    diagonal = np.diag_indices(train.n_items)
    gram[diagonal] += config.l2
    b = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    b *= UNIT / -b[diagonal]
    b[diagonal] = 0
    return np.rint(b, out=b)


def _opens_row(log: EventLog, config: EaseConfig) -> np.ndarray:
    """Return whether each event is the first of its user, or of its session, [E]."""
    return log.opens_user if config.ease_rows == "users" else ~log.follows


def _binary(row: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Return the matrix with 1.0 where a row has an item, once or more often."""
    has = sparse.csr_array((np.ones(len(item)), (row, item)), shape=shape)
    has.data[:] = 1
    return has
