"""The most popular items of a window of time before the target.

    score(j) = the training events with item j at times from T - window up to, but not at, T

where T is the time of the target's event. Training events of all users count, at those times alone:
what comes later is not known to the case, and no test event counts. A window of 0 has no beginning.

The windows of some cases, in order of time, differ by the events that enter and leave: the counts
are a running sum of these.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import PopularConfig
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog

HOUR = 3600  # seconds


def scorer(log: EventLog, config: PopularConfig) -> sparse_ranking.Scorer:
    """Return the function that scores test cases, and what each costs.

    Args:
        log: a prepared log with N test cases.
        config: the window.

    Returns:
        A function from a slice of `log.cases` to their scores, CSR [n, V]. And the costs, [N].

    Raises:
        InputError: there is a window, and the log has no times.
    """
    if config.window_hours and not log.has_times:
        raise InputError(
            f"`window_hours`={config.window_hours:g} needs times, and the log has none: give 0, "
            "which counts all training events"
        )
    train = log.train
    order = np.argsort(train.time, kind="stable")
    time, item = train.time[order], train.item[order]
    now = log.time[log.cases]
    end = np.searchsorted(time, now)  # [N] the first event that does not count any more
    begin = np.zeros_like(end)
    if config.window_hours:
        begin = np.searchsorted(time, now - config.window_hours * HOUR)

    def score(chunk: slice) -> sparse.csr_array:
        return sparse.csr_array(_counts(item, begin[chunk], end[chunk], log.n_items))

    return score, np.full(len(now), log.n_items)


def _counts(item: np.ndarray, begin: np.ndarray, end: np.ndarray, n_items: int) -> np.ndarray:
    """Count the items in windows that end later where they begin later, [n, V].

    Args:
        item: of each event, in order of time.
        begin: [n] the first event of each window.
        end: [n] the event behind the last one.
        n_items: V.
    """
    order = np.lexsort((end, begin))

    def at_edge(edge: np.ndarray) -> np.ndarray:
        """Count the events between an edge of each window and that of the one before, [n, V]."""
        moved = edge[order]
        row = np.repeat(np.arange(1, len(moved)), np.diff(moved))
        cells = row * n_items + item[moved[0] : moved[-1]]
        return np.bincount(cells, minlength=len(moved) * n_items).reshape(len(moved), n_items)

    change = at_edge(end) - at_edge(begin)
    change[0] = np.bincount(item[begin[order[0]] : end[order[0]]], minlength=n_items)
    counts = np.empty_like(change)
    counts[order] = np.cumsum(change, axis=0)
    return counts
