"""What the scripts of all peers share: the log that they read, and the clock of their training.

Like the scripts, it runs in a peer's virtual environment and imports nothing of this project.
"""

import functools
import json
import time
from importlib import metadata

import numpy as np

WARM_UP_SECONDS = 3  # batches that begin sooner after the first one are not counted


class Enough(Exception):  # noqa: N818  it is no error
    """Ends the training: enough was measured."""


class Clock:
    """Counts the events of batches for some seconds after a warm-up."""

    def __init__(self, seconds: float):
        """Measure for at least `seconds`."""
        self.events, self.batches, self.seconds = 0, 0, 0.0
        self._least = seconds
        self._first = self._begin = None

    def next_batch(self, events: int) -> bool:
        """Note that a batch begins, and thus that the one before it is done.

        Args:
            events: How many events it trains on.

        Returns:
            Whether enough was measured: the batch that begins is not counted then.
        """
        now = time.perf_counter()
        self._first = now if self._first is None else self._first
        if self._begin is None and now - self._first >= WARM_UP_SECONDS:
            self._begin = now
        if self._begin is None:
            return False
        self.seconds = now - self._begin
        if self.seconds >= self._least and self.batches:
            return True
        self.events += events
        self.batches += 1
        return False


class Log:
    """The prepared log: flat arrays by user, in order of time."""

    def __init__(self, path: str):
        """Read the npz file."""
        with np.load(path) as file:
            self.user, self.item = file["user"], file["item"]
            self.test, self.session = file["test"], file["session"]
            self.n_items, self.has_times = int(file["n_items"]), bool(file["has_times"])
            time = file["time"]
        begins = np.flatnonzero(np.diff(self.user, prepend=-1))  # of the users
        self.place = np.arange(len(self.user)) - np.repeat(
            begins, np.diff(begins, append=len(self.user))
        )  # of an event in its user's, from 0
        starts = np.flatnonzero(np.diff(self.session, prepend=-1))  # of the sessions
        self.in_session = np.arange(len(self.user)) - np.repeat(
            starts, np.diff(starts, append=len(self.user))
        )  # of an event in its session, from 0
        # Seconds; sessions may overlap, and a peer that sorts by them has to keep the order here.
        first = self.user.astype(np.int64) * (int(time.max()) - int(time.min()) + 1)
        self.time = np.maximum.accumulate(first + time) - first
        # A case is any event of a test session but the first.
        self.is_case = self.test & (self.in_session > 0)

    @functools.cached_property
    def has_repeats(self) -> bool:
        """Whether a session has an item twice."""
        once = np.unique(self.session.astype(np.int64) * self.n_items + self.item)
        return len(once) < len(self.item)


def report(clock: Clock, *, cases: int, rank_seconds: float, settings: str, packages: str) -> None:
    """Print the result as one line of JSON.

    Args:
        clock: The clock of the training.
        cases: How many test cases were ranked.
        rank_seconds: The seconds that this took.
        settings: The model's settings, and what counts as an event.
        packages: The packages whose versions matter, separated by spaces.
    """
    result = {
        "events": clock.events,
        "seconds": clock.seconds,
        "cases": cases,
        "rank_seconds": rank_seconds,
        "settings": f"{settings}; batches timed: {clock.batches}",
        "versions": {name: metadata.version(name) for name in packages.split()},
    }
    print("\n" + json.dumps(result), flush=True)
