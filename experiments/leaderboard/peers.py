"""Rows of other libraries: a plugin of models that processes of their own train and score.

python -m experiments.run --plugin=experiments.leaderboard.peers --model=sasrec

From the scores of all items for all test cases, see `peer_scores`, a row is ranked as each counting
row is: by the same cases, ties and items.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import by_name
from hrnn_jax.baselines.sparse_ranking import Scorer
from hrnn_jax.event_log import EventLog

from . import peer_scores
from .grid import PEERS


def scorer_of(model: str) -> Callable[[EventLog], Scorer]:
    """Return the function that makes the scorer of a peer's model on a log.

    Args:
        model: a key of `PEERS`.
    """

    def scorer(log: EventLog) -> Scorer:
        every = peer_scores.every_case(log)
        scores = np.load(peer_scores.made(model, every), mmap_mode="r")
        row = np.searchsorted(every.cases, log.cases)

        def score(chunk: slice) -> sparse.csr_array:
            part = np.asarray(scores[row[chunk]], np.float64)
            known = np.isfinite(part)
            least = np.where(known, part, np.inf).min(axis=1, keepdims=True)
            return sparse.csr_array(np.where(known, part - least, 0))

        return score, np.full(len(row), log.n_items)

    return scorer


for _model, _title in PEERS.items():
    by_name.register(_model, scorer_of(_model), title=_title)
