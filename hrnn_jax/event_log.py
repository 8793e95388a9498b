"""The prepared event log as the models see it: flat numpy arrays in replay order."""

from __future__ import annotations

import dataclasses

import numpy as np

NO_ITEM = int(np.iinfo(np.int32).max)  # beyond any catalogue: gathers fill it, scatters drop it


@dataclasses.dataclass(frozen=True)
class EventLog:
    """All events in replay order: by user, then by session in order of time, then by event.

    The events of a user are contiguous, and so are those of a session.
    """

    user: np.ndarray  # [E] int32, index of the user
    session: np.ndarray  # [E] int32, index of the session, unique over all users
    item: np.ndarray  # [E] int32, 0..n_items-1
    time: np.ndarray  # [E] int64, Unix seconds
    test: np.ndarray  # [E] bool, whether the event is held out: nothing is trained on it
    n_items: int  # V, the items of the training set
    target: np.ndarray | None = None  # [E] bool, the events that are predicted; None: see `cases`
    held: np.ndarray | None = None  # [E] bool, what `held_out` holds out; None: last sessions
    has_times: bool = True  # whether `time` says when; else it is the event's place in the order

    def __len__(self) -> int:
        """Return the number of events E."""
        return len(self.item)

    def where(self, keep: np.ndarray) -> EventLog:
        """Return a log of the events where `keep` [E] is True."""
        columns = {
            name: column[keep]
            for name, column in vars(self).items()
            if isinstance(column, np.ndarray)
        }
        return dataclasses.replace(self, **columns)

    @property
    def train(self) -> EventLog:
        """The training events."""
        return self.where(~self.test)

    @property
    def in_last_session(self) -> np.ndarray:
        """[E] bool: whether the event's session is the last one of its user."""
        closes_user = np.append(self.opens_user[1:], True)[: len(self)]
        return np.isin(self.session, self.session[closes_user])

    def held_out(self) -> EventLog:
        """Return the training events, of which some are held out: those that `held` marks.

        Without such marks each user's last session is, but for a user's only one. Events of items
        that have no other training event are left out.
        """
        train = self.train
        if not len(train):
            return train
        held = train.held
        if held is None:
            sessions = np.bincount(train.user[~train.follows])
            held = train.in_last_session & (sessions[train.user] > 1)
        split = dataclasses.replace(train, test=held, target=None, held=None)
        return split.where(~held | (split.support > 0)[split.item])

    @property
    def support(self) -> np.ndarray:
        """[V] how many training events each item has."""
        return np.bincount(self.item[~self.test], minlength=self.n_items)

    def most_supported(self, count: int | None) -> np.ndarray:
        """Return the `count` items with the most training events, all items without a count."""
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
        """[N] index of each test case.

        It is a held-out event that follows another one in its session (Section 4.3), and one of
        `target`, if there is that.
        """
        is_target = self.test if self.target is None else self.test & self.target
        return np.flatnonzero(is_target & self.follows)

    def session_items(self, events: np.ndarray) -> np.ndarray:
        """Return the items that the session of each event has before it.

        Args:
            events: [n] of the log.

        Returns:
            [n, S] for the longest, the last one first, NO_ITEM where a session has fewer.
        """
        begin = begin_of(events, ~self.follows)
        longest = (events - begin).max(initial=0)
        at = events[:, None] - 1 - np.arange(longest)
        return np.where(at >= begin[:, None], self.item[at], NO_ITEM).astype(np.int32)


def _repeats(values: np.ndarray) -> np.ndarray:
    """Return whether each value equals the one before it, [E] bool."""
    same = np.zeros(len(values), bool)
    np.equal(values[1:], values[:-1], out=same[1:])
    return same


def begin_of(events: np.ndarray, opens: np.ndarray) -> np.ndarray:
    """Return the first event of the user's or the session's events that each event is among.

    Args:
        events: [n] of a log.
        opens: [E] bool, the events that are the first of their user, or of their session.

    Returns:
        [n] events.
    """
    first = np.flatnonzero(opens)
    return first[np.searchsorted(first, events, side="right") - 1]


def ranges(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Concatenate ranges.

    Args:
        begin: [N] first number of each range.
        length: [N] how many numbers each has.

    Returns:
        begin[0], begin[0] + 1, ..., begin[1], ...
    """
    ends = np.cumsum(length)
    return np.arange(length.sum()) + np.repeat(begin - ends + length, length)
