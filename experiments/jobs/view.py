"""Show the jobs that run, how many are done, and the time left: bars on a terminal only."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich import console, progress, text

from ..common.text import duration
from .pool import Job
from .time_left import seconds_left


class View(progress.Progress):
    """A bar for all jobs and a line for each that runs; in a pipe, the results' lines alone."""

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
        self._side_by_side = side_by_side
        # Of the jobs that have not ended: time.monotonic() of their start, None before it.
        self._started: dict[Job, float | None] = dict.fromkeys(jobs)
        self._rows: dict[Job, progress.TaskID] = {}
        self._total = done_before + len(jobs)
        self._all = self.add_task(
            title, total=self._total, completed=done_before, detail=self._summary
        )

    def show(self, job: Job) -> None:
        """Show a job that starts; may be called from any thread."""
        self._started[job] = time.monotonic()
        self._rows[job] = self.add_task(f"  {job.name}", total=None, detail=job.progress)

    def end(self, job: Job, line: str) -> None:
        """Remove a job that has ended, and print a line that stays."""
        del self._started[job]
        self.remove_task(self._rows.pop(job))
        self.advance(self._all)
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _summary(self) -> str:
        now = time.monotonic()
        started = dict(self._started)  # a copy, as jobs start in other threads
        seconds = seconds_left(
            [(job.expected(), now - (at or now)) for job, at in started.items()],
            self._side_by_side,
        )
        left = "" if seconds is None else f", about {duration(seconds)} left"
        return f"{self._total - len(started)} of {self._total}{left}"


class _DetailColumn(progress.ProgressColumn):
    """What a task's own function says, at every refresh."""

    def render(self, task: progress.Task) -> text.Text:
        return text.Text(task.fields["detail"]())
