"""A model of your own: the items of the user's past, the most recent ones first.

Run it like experiments.run, with the same flags:

    python -m docs.examples.own_model --flagfile=video.flags --model=recency
"""

import runpy

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import by_name
from hrnn_jax.baselines.sparse_ranking import Scorer
from hrnn_jax.event_log import EventLog, ranges


def recency(log: EventLog) -> Scorer:
    """Score an item by the sum of 1 / age over the user's events with it: 1 for the last event."""
    opens = np.flatnonzero(log.opens_user)  # [U] the users' first events
    case = log.cases  # [N] the events to predict
    begin = opens[
        np.searchsorted(opens, case, side="right") - 1
    ]  # [N] the first of the case's user

    def score(chunk: slice) -> sparse.csr_array:
        length = case[chunk] - begin[chunk]  # [n] events before the one to predict
        event = ranges(begin[chunk], length)
        age = np.repeat(case[chunk], length) - event
        row_ends = np.append(0, np.cumsum(length))
        shape = len(length), log.n_items
        scores = sparse.csr_array((1 / age, log.item[event], row_ends), shape=shape)
        scores.sum_duplicates()
        return scores

    return score, case - begin


by_name.register("recency", recency, title="Recency")

if __name__ == "__main__":  # now that --model knows the name
    runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
