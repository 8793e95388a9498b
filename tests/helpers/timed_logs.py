"""Made logs with times of their own, and their test cases in plain Python."""

import dataclasses

import numpy as np
from hypothesis import strategies

from hrnn_jax.event_log import begin_of
from tests.helpers import logs

N_ITEMS = 6

SESSIONS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 3),  # the time of its first event
        strategies.lists(strategies.integers(0, N_ITEMS - 1), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=4,
)


def of(users, known=0):
    """Make the log of `users`, lists of sessions (start, items); an event is a second long.

    The first `known` events of each user's last session are trained on, the others held out.
    """
    log = logs.of([[items for _, items in sessions] for sessions in users], n_items=N_ITEMS)
    times = [
        start + place
        for sessions in users
        for start, items in sessions
        for place in range(len(items))
    ]
    place = np.arange(len(log)) - begin_of(np.arange(len(log)), ~log.follows)
    return dataclasses.replace(
        log, time=np.array(times, np.int64), test=log.test & (place >= known)
    )


def trained(users, known):
    """Give each training session: its user, whether it goes on held out, its start and items."""
    for user, sessions in enumerate(users):
        for start, items in sessions[:-1]:
            yield user, False, start, items
        start, items = sessions[-1]
        if known:
            yield user, True, start, items[:known]


def cases(users, known=0):
    """Give each test case: its user, its target and its session before that."""
    for user, sessions in enumerate(users):
        _, items = sessions[-1]
        for n in range(max(known, 1), len(items)):
            yield user, items[n], items[:n]
