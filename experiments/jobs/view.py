"""Show what runs, what is done and the time left: a live view on a terminal, lines in a pipe."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

from rich import console, live, table

from ..common import run_folder
from ..common.text import duration
from . import grid as jobs_grid
from . import pool

START_SECONDS = 5.0  # of a run before its first epoch: imports, compiling


class View:
    """What a terminal shows: a line on the whole, and one for each job under way."""

    def __init__(self, title: str, screen: live.Live | None, out: console.Console) -> None:
        self.title = title
        self._screen = screen
        self._out = out

    def show(self, running: Sequence[pool.Running], told: Sequence[str] = ()) -> None:
        """Draw anew; `told` says of each job how far it is."""
        if self._screen is None:
            return
        grid = table.Table.grid(padding=(0, 2))
        now = time.monotonic()
        for n, job in enumerate(running):
            text = told[n] if told else ""
            grid.add_row("", job.job.name, text, duration(now - job.started))
        whole = table.Table.grid()
        whole.add_row(self.title)
        whole.add_row(grid)
        self._screen.update(whole, refresh=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._out.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def view(title: str) -> Iterator[View]:
    """Open a live view where standard output is a terminal."""
    out = console.Console()
    if not out.is_terminal:
        yield View(title, None, out)
        return
    with live.Live(console=out, auto_refresh=False, transient=True) as screen:
        yield View(title, screen, out)


def progress(run: jobs_grid.Run) -> str:
    """Say how far a run under way is, from its folder."""
    history = [e for e in run_folder.read_history(run.folder) if e["seed"] == run.seed]
    if not run.row.size:
        return "counting"
    if not history:
        return f"epoch 1/{run.epochs}"
    last = history[-1]
    where = "ranking" if last["epoch"] >= run.epochs else f"epoch {last['epoch'] + 1}/{run.epochs}"
    return f"{where}  loss {last['loss']:.4f}  {last['events'] / last['seconds']:,.0f} events/s"


class Clock:
    """Tell the time left from what finished runs took."""

    def __init__(
        self, runs: Sequence[jobs_grid.Run], events: Mapping[str, int], *, side_by_side: int
    ) -> None:
        """Learn from the runs that are done; events: to train on, by column."""
        self._events = events
        self._side_by_side = side_by_side
        self._seconds: dict[tuple[str, jobs_grid.Row], list[float]] = {}
        for run in runs:
            if run_folder.read_metrics(run.folder) is not None:
                self.learn(run)

    def learn(self, run: jobs_grid.Run) -> None:
        """Note what a finished run took."""
        [own] = run_folder.read_metrics(run.folder)["per_seed"]
        ranking = own["cases"] / own["eval_cases_per_second"]
        seconds = START_SECONDS + (own["train_seconds"] or 0.0) + ranking
        self._seconds.setdefault((run.column.key, run.row), []).append(seconds)

    def expected(self, run: jobs_grid.Run) -> float | None:
        """Return a run's seconds: those of its like, else by event those of the nearest kin."""
        if known := self._seconds.get((run.column.key, run.row)):
            return statistics.median(known)
        for kin in (
            lambda row: row.key == run.row.key,
            lambda row: row.size == run.row.size,
        ):
            rates = [
                statistics.median(seconds) / self._events[column]
                for (column, row), seconds in self._seconds.items()
                if kin(row)
            ]
            if rates:
                return statistics.median(rates) * self._events[run.column.key]
        return None

    def left(
        self, todo: Sequence[jobs_grid.Run], started: Mapping[jobs_grid.Run, float]
    ) -> float | None:
        """Return the seconds until all of `todo` has ended, None while nothing is known.

        started: time.monotonic() of those under way.
        """
        expected = {run: self.expected(run) for run in todo}
        if not todo or None in expected.values():
            return None
        now = time.monotonic()
        rest = [
            max(1.0, expected[run] - (now - started[run] if run in started else 0)) for run in todo
        ]
        return max(max(rest), sum(rest) / self._side_by_side)
