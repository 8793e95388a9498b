"""The prepared event log as the models see it: flat numpy arrays in replay order."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class EventLog:
    """Hold all events in replay order: by user, a user's sessions by time, a session's events.

    Each user's events and each session's events are contiguous.
    """

    user: np.ndarray  # [E] int32, index of the user
    session: np.ndarray  # [E] int32, index of the session, unique over all users
    item: np.ndarray  # [E] int32, 0..n_items-1
    time: np.ndarray  # [E] int64, Unix seconds
    test: np.ndarray  # [E] bool, whether the event's session is held out
    n_items: int  # V, the items of the training set

    def __len__(self) -> int:
        return len(self.item)

    def where(self, keep: np.ndarray) -> EventLog:
        """Keep only the events at `keep`, a boolean array [E]."""
        return dataclasses.replace(
            self,
            user=self.user[keep],
            session=self.session[keep],
            item=self.item[keep],
            time=self.time[keep],
            test=self.test[keep],
        )

    @property
    def train(self) -> EventLog:
        """The events that are trained on."""
        return self.where(~self.test)

    @property
    def support(self) -> np.ndarray:
        """[V] training events of each item."""
        return np.bincount(self.item[~self.test], minlength=self.n_items)

    def most_supported(self, count: int | None) -> np.ndarray | None:
        """Return the `count` items with most training events, or None for all of them."""
        if count is None or count >= self.n_items:
            return None
        return np.argsort(-self.support, kind="stable")[:count].astype(np.int32)

    @property
    def opens_user(self) -> np.ndarray:
        """[E] bool: whether the event is the first of its user."""
        return ~_repeats(self.user)

    @property
    def follows(self) -> np.ndarray:
        """[E] bool: whether the event follows another one in its session."""
        return _repeats(self.session)

    @property
    def cases(self) -> np.ndarray:
        """[N] index of each test case: an event of a test session after its first (Section 4.3)."""
        return np.flatnonzero(self.test & self.follows)


def _repeats(values: np.ndarray) -> np.ndarray:
    """Tell of each value, [E], whether it is the one before."""
    same = np.zeros(len(values), bool)
    np.equal(values[1:], values[:-1], out=same[1:])
    return same


def ranges(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return begin, begin + 1, ... of each range in turn, `length` numbers of each."""
    ends = np.cumsum(length)
    return np.arange(length.sum()) + np.repeat(begin - ends + length, length)
