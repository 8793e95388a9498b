"""Text line by line, for files in which some line is no row or a quote is only a character.

Slower than polars, and it knows the number of each row. A quote that stands in a line of the right
number of values is a character like any other unless it encloses a value, so that an inch mark does
not swallow the rows up to the next one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from .table import BadRow

MOST_LINES = 1_000  # of one row


def values(line: str, separator: str, quote: str | None) -> list[str]:
    """Take a line apart; quotes that do not enclose a value are characters."""
    found = _quoted(line, separator, quote) if quote and quote in line else None
    return line.split(separator) if found is None else found


def mended_table(
    numbered: Iterable[tuple[int, str]],
    separator: str,
    quote: str | None,
    n_values: int,
    *,
    has_header: bool,
) -> tuple[bytes, list[int], list[BadRow]]:
    """Write the rows of a table anew, so that each quote in it is a quote.

    Args:
        numbered: its lines, with the numbers of their rows; that of a header is 0.
        separator: of its values.
        quote: around its values, if there are quotes.
        n_values: of each row.
        has_header: whether the first line that is not blank is no row.

    Returns:
        The table in UTF-8 with '"' as its quote, the number of each row, and the rows with too many
        values, which are left out.
    """
    content = io.StringIO()
    writer = csv.writer(content, delimiter=separator, lineterminator="\n")
    rows: list[int] = []
    bad: list[BadRow] = []
    filled = [(row, line.removesuffix("\r")) for row, line in numbered if line.strip()]
    place = 0
    while place < len(filled):
        number, line = filled[place]
        if quote and quote in line:
            values_, n_lines = _row(filled, place, separator, quote, n_values)
        else:
            values_, n_lines = line.split(separator), 1
        place += n_lines
        if has_header:
            has_header = False
        elif len(values_) > n_values:
            what = f"has {len(values_)} values, and the table {n_values} columns"
            bad.append(BadRow(number, what))
            continue
        else:
            rows.append(number)
        writer.writerow(values_)
    return content.getvalue().encode(), rows, bad


def _row(
    lines: Sequence[tuple[int, str]], place: int, separator: str, quote: str, n_values: int
) -> tuple[list[str], int]:
    """Return the values of the row that begins at a place, and how many lines it has."""
    text = lines[place][1]
    found = _quoted(text, separator, quote)
    if found is not None and len(found) <= n_values:
        return found, 1
    plain = text.split(separator)
    if found is not None:
        return plain, 1
    # A quote is open at the end of the line: is it closed further down, and not by another row?
    are_rows = len(plain) == n_values
    for at in range(place + 1, min(place + MOST_LINES, len(lines))):
        line = lines[at][1]
        text += "\n" + line
        are_rows = are_rows and line.count(separator) == n_values - 1
        if quote in line and (found := _quoted(text, separator, quote)) is not None:
            is_one = len(found) <= n_values and not are_rows
            return (found, at - place + 1) if is_one else (plain, 1)
    return plain, 1


def _quoted(text: str, separator: str, quote: str) -> list[str] | None:
    """Take a text apart by its quotes; None where one is open at its end or followed by more."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quotechar=quote, strict=True
    )
    try:
        found = list(reader)
    except csv.Error:
        return None
    return found[0] if len(found) == 1 else None


def json_problem(line: str) -> str | None:
    """Say why a line of JSON lines is no event; None where it is one or blank."""
    if not line.strip():
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return "is no JSON"
    return None if isinstance(found, dict) else "is no JSON object"


def json_value(line: str, column: str) -> Any:
    """Return a value of a line of JSON lines, of nested objects where the name has points."""
    found = json.loads(line)
    for part in [column] if column in found else column.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def json_duplicates(line: str) -> list[str]:
    """Return the names that stand several times in a line of JSON lines."""
    names: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in pairs]  # the outermost object is the last one
        return dict(pairs)

    try:
        json.loads(line, object_pairs_hook=collect)
    except ValueError:
        return []
    return sorted({name for name in names if names.count(name) > 1})
