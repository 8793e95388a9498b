"""Numbers and times as text."""

import io
import re

import pytest
from rich.console import Console

from experiments.common import text
from experiments.common.text import duration, short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (60, "1 min 0 s")),
        *((3599, "59 min 59 s"), (3599.6, "1 h 0 min"), (3661, "1 h 1 min")),
        (11520, "3 h 12 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.123"), (1000, "1000"), ("0.05", "0.05"), ("12345", "12345"), ("tied", "tied")],
)
def test_only_fractions_are_shortened(value, text):
    assert short(value) == text


HEADS = ("", "recall@5", "mrr@5", "precision@5", "made by")
ROWS = [
    ("HRNN Init with a long name of seven words", "0.1234 +- 0.0012", "0.1", "0.02", "mine"),
    ("PPOP", "0.5", "0.0123 +- 0.0001", "0.0123 +- 0.0001", "somebody else's"),
]


def printed(monkeypatch, width):
    """Print the table on a terminal of this width, or in a pipe (None); return its lines."""
    out = io.StringIO()

    def console(**given):
        terminal = {"force_terminal": True, "color_system": None, "width": width}
        return Console(file=out, **(terminal if width else {}) | given)

    monkeypatch.setattr(text, "Console", console)
    text.print_table(HEADS, ROWS)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_row_is_one_line_in_a_pipe_however_wide(monkeypatch):
    lines = printed(monkeypatch, None)
    assert len(lines) == 1 + len(ROWS)
    assert re.split(" {3,}", lines[1]) == list(ROWS[0])


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_terminal_shows_every_cell_whole_within_its_width(monkeypatch, width):
    lines = printed(monkeypatch, width)
    assert max(map(len, lines)) <= width
    for cells in (HEADS, *ROWS):
        for cell in cells[1:]:
            assert any(re.search(rf"(^| ){re.escape(cell)}( |$)", line) for line in lines)
    words = {word for line in lines for word in line.split()}
    assert {word for row in ROWS for word in row[0].split()} <= words
    assert (len(lines) == 1 + len(ROWS)) == (width == 200)


def test_columns_that_do_not_fit_go_to_the_next_group():
    assert text.column_groups([10, 5, 5, 5], 34) == (10, [[1, 2, 3]])
    assert text.column_groups([10, 5, 5, 5], 33) == (10, [[1, 2], [3]])
    assert text.column_groups([30, 5, 5, 5], 40) == (20, [[1, 2], [3]])
    assert text.column_groups([10, 50, 5], 40) == (10, [[1], [2]])
    assert text.column_groups([10], 40) == (10, [[]])
