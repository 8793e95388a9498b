"""Histories as peers need them: before a case, what a search holds out, and parts to train on.

It runs in a peer's virtual environment and imports nothing of this project.
"""

import numpy as np
from clock import Log


def events_before(cases: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last so many events before each case: the case's place in cases, and the event."""
    of = np.repeat(np.arange(len(cases)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return of, np.repeat(cases - lengths, lengths) + np.arange(lengths.sum()) - first


def last_training_session(log: Log) -> np.ndarray:
    """Say which events are of the last training session of a user who has an earlier one."""
    train = np.flatnonzero(~log.test)
    user, session = log.user[train], log.session[train]
    last = np.zeros(user.max() + 1, session.dtype)
    ends = np.flatnonzero(np.diff(user, append=-1))
    last[user[ends]] = session[ends]
    held_out = np.zeros(len(log.user), bool)
    held_out[train] = (session == last[user]) & (log.place[train] > log.in_session[train])
    return held_out


def parts(user: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the events of each user, in order of time, into parts of at most length + 1.

    Two parts that follow each other share an event, which is a target in the first and an input in
    the second: each event of a user but the first is a target once. The last part is full.

    Returns:
        The part of each row, and the event that the row is, by part and time.
    """
    ends = np.flatnonzero(np.diff(user, append=-1))
    left = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(user))  # until the last
    block = left // length
    shared = np.flatnonzero((left % length == 0) & (left > 0))
    row = np.concatenate([np.arange(len(user)), shared])
    block = np.concatenate([block, block[shared] - 1])
    order = np.lexsort((row, -block, user[row]))
    row, block = row[order], block[order]
    begins = (np.diff(user[row], prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)
    return np.cumsum(begins) - 1, row
