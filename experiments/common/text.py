"""Numbers, times, spreads and tables as all output shows them."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import console as rich_console
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 3  # between the columns of a table


def duration(seconds: float) -> str:
    """Format a time in its two largest units, as in 3 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def short(value: Any) -> str:
    """Format a number that is not whole with three digits; whole numbers and words stay as is."""
    text = str(value)
    try:
        return text if text.isdecimal() else f"{float(text):.3g}"
    except ValueError:
        return text


def as_flag(name: str, value: Any) -> str:
    """Write a setting as the flag that sets it."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, list | tuple):
        return f"--{name}={','.join(map(str, value))}"
    return f"--{name}={value}"


def stopped_text(metrics: Mapping[str, Any]) -> str:
    """Say where --stop_above_loss stopped the seeds of a run, "" if nowhere.

    Args:
        metrics: the content of metrics.json.
    """
    stopped = metrics.get("stopped") or ()
    return "; ".join(f"loss {of['loss']:.4f} in epoch {of['epoch']}" for of in stopped)


class Console(rich_console.Console):
    """Leaves it to `cli.run` how a command ends that is read no further."""

    def on_broken_pipe(self) -> None:
        """Raise it again."""
        raise BrokenPipeError


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: plain text in a pipe, with a bold head on a terminal.

    On a terminal that is too narrow for all columns, the first is repeated before groups of others
    that fit, and wraps between words where it takes more than half of the width.

    Args:
        heads: of the columns. The first column is aligned to the left, the others to the right.
        rows: a text for each column.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=100_000)  # no wider than its cells
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    first, groups = column_groups(widths, console.width)
    for number, group in enumerate(groups):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column(heads[0], width=first)
        for n in group:
            table.add_column(heads[n], justify="right", no_wrap=True)
        for row in rows:
            table.add_row(Text(_wrapped(row[0], first)), *(Text(row[n]) for n in group))
        console.print(table)


def _wrapped(text: str, width: int) -> str:
    """Wrap between words, and inside those that are wider behind one of / , = only."""
    lines = [""]
    for word in text.split(" "):
        parts = [word] if cell_len(word) <= width - 2 else re.split(r"(?<=[/,=])", word)
        for number, part in enumerate(parts):
            space = "" if number or not lines[-1].strip() else " "
            if cell_len(lines[-1] + space + part) > width and lines[-1].strip():
                lines.append(f"  {part}")
            else:
                lines[-1] += space + part
    return "\n".join(lines)


def column_groups(widths: Sequence[int], available: int) -> tuple[int, list[list[int]]]:
    """Divide the columns of a table into groups that fit next to its first one.

    Args:
        widths: of all columns.
        available: the width of the terminal.

    Returns:
        The width of the first column, and the numbers of the columns of each group; one that is
        wider than the terminal is a group of its own.
    """
    first, *others = widths
    if first + sum(GAP + width for width in others) > available:
        first = min(first, available // 2)
    groups: list[list[int]] = [[]]
    used = first
    for number, width in enumerate(others, start=1):
        if groups[-1] and used + GAP + width > available:
            groups.append([])
            used = first
        groups[-1].append(number)
        used += GAP + width
    return first, groups


@dataclasses.dataclass(frozen=True)
class Spread:
    """The values of one quantity, one per seed or repetition; at least one."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1); None of a single value."""
        return statistics.stdev(self.values) if self.n > 1 else None
