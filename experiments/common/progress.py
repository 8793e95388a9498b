"""A progress bar on a terminal, and the time that is left.

In a pipe there is no bar: the commands print lines of their own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator

from rich import console, progress, text

from .text import duration


class _Rate(progress.ProgressColumn):
    """The units done per second, as in 12,345 events/s."""

    def render(self, task: progress.Task) -> text.Text:
        speed = task.finished_speed or task.speed
        return text.Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


@contextlib.contextmanager
def bar(title: str, total: int, unit: str, first: str = "") -> Generator[Callable[..., None]]:
    """Show title, share done, rate and time left on standard error while the block runs.

    first: shown until a unit is done.

    Yields:
        advance(n, **values): n more units are done; values are shown beside the bar.
    """
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        _Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[values]}"),
        console=console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as shown:
        task = shown.add_task(title, total=total, unit=unit, values=first)

        def advance(n: int, **values: str) -> None:
            listed = " ".join(f"{name} {value}" for name, value in values.items())
            shown.update(task, advance=n, values=listed)

        yield advance


class Every:
    """Tells whether some seconds have passed since it last said yes, or since it was made."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self._seconds, self._clock, self._since = seconds, clock, clock()

    def passed(self) -> bool:
        """Say whether they have passed, and if so begin to count again."""
        if (now := self._clock()) - self._since < self._seconds:
            return False
        self._since = now
        return True


class Pace:
    """The rate of training after what was compiled for it, and the time left by that rate."""

    SAID_AFTER = 3.0  # seconds in which the rate is measured
    WORTH_SAYING = 10.0  # seconds left

    def __init__(
        self,
        n_epochs: int,
        clock: Callable[[], float] = time.perf_counter,
        compiling: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin to train some epochs of equal size, counted by seed.

        compiling: says whether programs are still compiled beside the steps, which wait for them.
        """
        self._n_epochs, self._clock, self._compiling = n_epochs, clock, compiling
        self._begin: float | None = None  # when the first chunk after compiling was done
        self._waited = False  # for a program, before the last chunk
        self._counted = self._first = 0  # events
        self._of_epoch = 0.0
        self._is_said = False

    def measure_anew(self) -> None:
        """Leave the time until the next chunk out of the rate."""
        self._waited = True

    def leave_out(self, n_epochs: int) -> None:
        """Count some epochs less, as they are not trained."""
        self._n_epochs -= n_epochs

    def count(self, n: int, of_epoch: float) -> None:
        """Count the events of a chunk of steps, and say once how long all epochs will take.

        of_epoch: the events of an epoch of one seed.
        """
        self._counted += n
        self._of_epoch = of_epoch
        compiling = self._compiling()
        if self._begin is None or self._waited or compiling:
            self._begin, self._first = self._clock(), self._counted
        elif not self._is_said and self._clock() - self._begin >= self.SAID_AFTER:
            self._is_said = True
            if (left := self.seconds_left()) >= self.WORTH_SAYING:
                print(f"training will take about {duration(left)} more", flush=True)
        self._waited = compiling

    def seconds_left(self) -> float:
        """Return the seconds that the rest of the epochs takes; 0 before a rate is known."""
        measured = self._counted - self._first
        if self._begin is None or not measured:
            return 0.0
        seconds = self._clock() - self._begin
        return self.events_left() * seconds / measured

    def events_left(self) -> float:
        """Return the events that are still to be trained on."""
        return self._n_epochs * self._of_epoch - self._counted
