"""Estimate the time until all runs have ended.

A progress bar's own estimate takes all steps for equally long; counting takes seconds and a large
network hours, and the quick runs come first. A run takes a start, then the time of its training
events, then that of its test cases. How fast each row trains and ranks is known from the shipped
runs; how much slower this machine is, from the median over the runs that have ended here, so that
one run on a busy machine does not count. A run that trains is measured by its own epochs.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..common import run_folder
from .grid import Run
from .paper_rows import ROWS

START_SECONDS = 5.0  # of a run before its first epoch: imports, compiling
ENOUGH = 3  # runs of a row on a log, whose median is taken instead of the shipped speed
RESULTS = pathlib.Path(__file__).parents[1] / "results"
SHIPPED = (RESULTS / "runs.csv", RESULTS / "comparison" / "runs.csv")


class Speed(NamedTuple):
    """What a run measured."""

    column: str
    row: str
    size: str | None
    epochs: float
    per_event: float  # seconds, 0 of a method without training
    per_case: float  # seconds


@dataclasses.dataclass(frozen=True)
class LogSize:
    """How much of a log is trained on and ranked."""

    events: int  # an epoch's
    cases: int

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> LogSize:
        """Read it from what experiments.describe wrote."""
        table = described["table1"]
        return cls(table["train_events"] - table["train_sessions"], described["cases"])


class Durations:
    """The seconds that complete runs took, and what others are expected to take."""

    def __init__(
        self, runs: Sequence[Run], logs: Mapping[str, LogSize], shipped: Sequence[Speed]
    ) -> None:
        """Learn from the runs that are complete.

        Args:
            runs: All runs.
            logs: The size of each log, by column.
            shipped: The speeds of the shipped runs, see `shipped_speeds`.
        """
        self._logs = logs
        self._shipped = shipped
        self._measured: list[Speed] = []
        self._ratios: list[tuple[str | None, float]] = []  # to shipped runs, by size
        self._known: dict[tuple[str, str, str | None, int], Speed | None] = {}
        for run in runs:
            self.learn(run)

    def learn(self, run: Run) -> None:
        """Note the speed of a run, if it is complete."""
        metrics = run_folder.read_metrics(run.folder)
        if metrics is not None:
            [own] = metrics["per_seed"]
            rate = own["train_events_per_second"]
            per_event, per_case = 1 / rate if rate else 0.0, 1 / own["eval_cases_per_second"]
            column, row, size = run.column.key, run.row.key, run.row.size
            speed = Speed(column, row, size, metrics["epochs"], per_event, per_case)
            self._measured.append(speed)
            if usual := self._usual(run):
                same = usual._replace(epochs=speed.epochs)
                ratio = self._work(speed, column) / self._work(same, column)
                self._ratios.append((size, ratio))

    def left(self, run: Run, taken: float) -> float | None:
        """Return the seconds until a run ends, None where nothing is known.

        Args:
            run: The run.
            taken: The seconds since it was started; 0 before that.
        """
        expected = self._expected(run)
        if taken and run.row.size:
            own = [e for e in run_folder.read_history(run.folder) if e["seed"] == run.seed]
            if own:
                per_epoch = statistics.fmean(entry["seconds"] for entry in own)
                ranking = expected.per_case * self._logs[run.column.key].cases if expected else 0.0
                return max(1.0, per_epoch * (run.epochs - len(own)) + ranking)
        if expected is None:
            return None
        return max(1.0, START_SECONDS + self._work(expected, run.column.key) - taken)

    def _expected(self, run: Run) -> Speed | None:
        """Return the speed that a run will have."""
        if not self._measured:
            return None
        own = [s for s in self._measured if (s.column, s.row) == (run.column.key, run.row.key)]
        of_row = [s for s in self._measured if s.row == run.row.key]
        is_shipped = any(s.row == run.row.key for s in self._shipped)
        if len(own) >= ENOUGH or (of_row and not is_shipped):
            return _median(own or of_row, run.epochs)
        usual = self._usual(run)
        if usual is None:
            return None
        slower = self._slower(run.row.size)
        return usual._replace(per_event=slower * usual.per_event, per_case=slower * usual.per_case)

    def _usual(self, run: Run) -> Speed | None:
        """Return the shipped speed of a row: on this log, or on others, or of rows of its size."""
        key = (run.column.key, run.row.key, run.row.size, run.epochs)
        if key not in self._known:
            ranked: tuple[Callable[[Speed], bool], ...] = (
                lambda s: (s.column, s.row) == key[:2],
                lambda s: s.row == run.row.key,
                lambda s: s.size == run.row.size,
            )
            found = ([s for s in self._shipped if is_like(s)] for is_like in ranked)
            like = next(filter(None, found), None)
            self._known[key] = _median(like, run.epochs) if like else None
        return self._known[key]

    def _slower(self, size: str | None) -> float:
        """Return how many times longer than the shipped runs those of a size take here."""
        of_size = [ratio for other, ratio in self._ratios if other == size]
        return statistics.median(of_size or [ratio for _, ratio in self._ratios] or [1.0])

    def _work(self, speed: Speed, column: str) -> float:
        """Return the seconds of training and ranking."""
        log = self._logs[column]
        return speed.epochs * log.events * speed.per_event + log.cases * speed.per_case


def _median(speeds: Sequence[Speed], epochs: int) -> Speed:
    """Return the median of some speeds, for a run of so many epochs at most."""
    first = speeds[0]
    columns = {speed.column for speed in speeds}
    stopped = statistics.median(speed.epochs for speed in speeds) if len(columns) == 1 else epochs
    return first._replace(
        epochs=min(epochs, stopped),
        per_event=statistics.median(speed.per_event for speed in speeds),
        per_case=statistics.median(speed.per_case for speed in speeds),
    )


def shipped_speeds(paths: Iterable[pathlib.Path] = SHIPPED) -> list[Speed]:
    """Read the speeds of the shipped runs on processors, or of those in other files of that form.

    Those on a GPU are left out: what a run takes there says nothing of how rows differ elsewhere.
    So are those of other libraries, whose ranking is not timed.
    """
    speeds = []
    for path in paths:
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                if line["device"] != "cpu" or not line["eval_cases_per_second"]:
                    continue
                rate = float(line["train_events_per_second"] or 0)
                row = line["row"]
                size = ROWS[row].size if row in ROWS else ("small" if rate else None)
                per_event = 1 / rate if rate else 0.0
                per_case = 1 / float(line["eval_cases_per_second"])
                speeds.append(
                    Speed(line["column"], row, size, int(line["epochs"]), per_event, per_case)
                )
    return speeds


def seconds_left(left: Sequence[float | None], side_by_side: int) -> float | None:
    """Estimate the seconds until some jobs have ended.

    Args:
        left: The seconds that each will still take, None where that is not known.
        side_by_side: How many run at a time.

    Returns:
        The estimate; None without jobs, or where nothing is known of one.
    """
    known = [seconds for seconds in left if seconds is not None]
    if not known or len(known) < len(left):
        return None
    return max(*known, sum(known) / side_by_side)  # as long as the longest at least
