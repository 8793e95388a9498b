"""Estimate the time until all runs have ended.

A progress bar's own estimate takes all steps for equally long; counting takes seconds and a large
network hours, and the quick runs come first.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ..common import run_folder
from .grid import Row, Run

START_SECONDS = 5.0  # of a run before its first epoch: imports, compiling


class Durations:
    """The seconds that complete runs took, and what others are expected to take."""

    def __init__(self, runs: Sequence[Run], events: Mapping[str, int]) -> None:
        """Learn from the runs that are complete.

        Args:
            runs: All runs.
            events: How many events there are to train on, by column.
        """
        self._events = events
        self._seconds: dict[tuple[str, Row], list[float]] = {}
        for run in runs:
            self.learn(run)

    def learn(self, run: Run) -> None:
        """Note the seconds that a run took, if it is complete."""
        metrics = run_folder.read_metrics(run.folder)
        if metrics is not None:
            [own] = metrics["per_seed"]
            ranking = own["cases"] / own["eval_cases_per_second"]
            seconds = START_SECONDS + (own["train_seconds"] or 0.0) + ranking
            self._seconds.setdefault((run.column.key, run.row), []).append(seconds)

    def expected(self, run: Run) -> float | None:
        """Return the seconds that a run takes, None where nothing is known.

        Its events times the seconds per event of its other seeds; where there are none, of its row
        on other data; or else of all rows of its size.
        """
        own = (run.column.key, run.row)
        for is_like in (
            lambda key: key == own,
            lambda key: key[1].key == run.row.key,
            lambda key: key[1].size == run.row.size,
        ):
            rates = [
                statistics.median(seconds) / self._events[key[0]]
                for key, seconds in self._seconds.items()
                if is_like(key)
            ]
            if rates:
                return statistics.median(rates) * self._events[run.column.key]
        return None


def seconds_left(jobs: Sequence[tuple[float | None, float]], side_by_side: int) -> float | None:
    """Estimate the seconds until some jobs have ended.

    Args:
        jobs: The seconds that each is expected to take, and has taken so far.
        side_by_side: How many run at a time.

    Returns:
        The estimate; None without jobs, or where nothing is known of one.
    """
    left = [max(1.0, expected - taken) for expected, taken in jobs if expected is not None]
    if not left or len(left) < len(jobs):
        return None
    return max(*left, sum(left) / side_by_side)  # as long as the longest at least
