"""A progress bar on a terminal; nothing in a pipe, where the commands print lines of their own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator

from rich import console, progress, text


class _Rate(progress.ProgressColumn):
    """The units done per second, as in 12,345 events/s."""

    def render(self, task: progress.Task) -> text.Text:
        speed = task.finished_speed or task.speed
        return text.Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


@contextlib.contextmanager
def bar(title: str, total: int, unit: str) -> Generator[Callable[..., None]]:
    """Show title, share done, rate and time left on standard error while the block runs.

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
        task = shown.add_task(title, total=total, unit=unit, values="")

        def advance(n: int, **values: str) -> None:
            listed = " ".join(f"{name} {value}" for name, value in values.items())
            shown.update(task, advance=n, values=listed)

        yield advance
