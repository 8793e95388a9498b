"""Tables of a command's output."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: plain text in a pipe, with a bold head on a terminal.

    Args:
        heads: of the columns. The first column is aligned to the left, the others to the right.
        rows: a text for each column.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for n, head in enumerate(heads):
        table.add_column(head, justify="right" if n else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=1000).print(table)  # no wider than its cells; none is cut off in a pipe
