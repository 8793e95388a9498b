"""Show the jobs that run, how many are done, and the time left: bars on a terminal only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich import console, progress, text

from ..common.text import duration
from .pool import Job
from .time_left import seconds_left


class Rows(progress.Progress):
    """A bar for all and a row for each that runs; in a pipe, the results' lines alone."""

    def __init__(
        self, title: str, total: int, *, done_before: int, summary: Callable[[], str]
    ) -> None:
        """Make a view in which nothing runs; `with` draws it.

        Args:
            title: What is counted, in the plural.
            total: How many there are.
            done_before: How many of them were done before.
            summary: Returns, at every refresh, the text next to the bar.
        """
        screen = console.Console()
        super().__init__(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            _DetailColumn(),
            progress.TimeElapsedColumn(),
            console=screen,
            disable=not screen.is_terminal,
            transient=True,
            refresh_per_second=2,
        )
        self._all = self.add_task(title, total=total, completed=done_before, detail=summary)

    def add_row(
        self, name: str, detail: Callable[[], str], total: float | None = None
    ) -> progress.TaskID:
        """Add the row of one that runs; may be called from any thread.

        total: of its bar; without one the bar moves to and fro.
        """
        return self.add_task(f"  {name}", total=total, detail=detail)

    def count(self) -> None:
        """Count one more as done."""
        self.advance(self._all)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class View(Rows):
    """The rows of jobs, with the time left for all of them."""

    def __init__(
        self, title: str, jobs: Sequence[Job], *, done_before: int, side_by_side: int
    ) -> None:
        """Make a view of jobs of which none has started; `with` draws it.

        Args:
            title: What the jobs are, in the plural.
            jobs: The jobs, with distinct names.
            done_before: How many more were done before.
            side_by_side: How many run at a time.
        """
        self._side_by_side = side_by_side
        # Of the jobs that have not ended: time.monotonic() of their start, None before it.
        self._started: dict[Job, float | None] = dict.fromkeys(jobs)
        self._rows: dict[Job, progress.TaskID] = {}
        self._total = done_before + len(jobs)
        super().__init__(title, self._total, done_before=done_before, summary=self._summary)

    def show(self, job: Job) -> None:
        """Show a job that starts; may be called from any thread."""
        self._started[job] = time.monotonic()
        self._rows[job] = self.add_row(job.name, job.progress)

    def end(self, job: Job, line: str) -> None:
        """Remove a job that has ended, and print a line that stays."""
        del self._started[job]
        self.remove_task(self._rows.pop(job))
        self.count()
        self.say(line)

    def _summary(self) -> str:
        now = time.monotonic()
        started = dict(self._started)  # a copy, as jobs start in other threads
        seconds = seconds_left(
            [job.left(now - (at or now)) for job, at in started.items()], self._side_by_side
        )
        left = "" if seconds is None else f", about {duration(seconds)} left"
        return f"{self._total - len(started)} of {self._total}{left}"


class _DetailColumn(progress.ProgressColumn):
    """What a task's own function says, at every refresh."""

    def render(self, task: progress.Task) -> text.Text:
        return text.Text(task.fields["detail"]())
