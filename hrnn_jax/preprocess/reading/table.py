"""What the readers of all formats return, and the names of its columns."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import polars as pl

from hrnn_jax.errors import InputError, reason

from .files import PARQUET, suffix
from .text import not_utf8

USER, ITEM, TIME, SESSION, TYPE = "user", "item", "time", "session", "type"
PART = "part"
IDS = (USER, ITEM, SESSION)
ROW = "row"
UNEQUAL = "unequal"  # whether the lists of a row have different lengths
TRAIN, VALIDATION, TEST = "train", "validation", "test"
PART_WORDS = {  # how a log may call the parts of its split, in lower case
    **dict.fromkeys((TRAIN, "training"), TRAIN),
    **dict.fromkeys((VALIDATION, "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys((TEST, "testing"), TEST),
}


# Of readers of damaged files.
ERRORS = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    EOFError,
    zlib.error,
)


class BadRow(NamedTuple):
    """A row that is no event: its number from 1, without a header, and why."""

    row: int
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A file as its reader found it, a row for each of its rows."""

    scan: pl.LazyFrame
    names: Sequence[str]  # of the columns in the file; a scan may lack some that are not needed
    is_text: bool = False  # its values were text in the file
    duplicated: Sequence[str] = ()  # names of several columns
    rows: pl.Series | None = None  # the number of each row, where it is not 1, 2, ..
    bad: Sequence[BadRow] = ()  # rows that are left out
    # Of a text file, as functions, because each reads the file once more:
    n_rows: Callable[[], int] | None = None  # how many rows there are by line ends
    blank: Callable[[], pl.Series] | None = None  # the numbers of the rows that are blank lines
    numbers: Callable[[], pl.Series] | None = None  # the number of each row
    by_line: Callable[[], Table] | None = None  # the same line by line, which is slower
    lines: Callable[[Sequence[int]], list[str]] | None = None  # the lines with these numbers


@contextlib.contextmanager
def input_errors(path: pathlib.Path) -> Generator[None]:
    """Raise the errors of readers as InputError, in one line."""
    try:
        yield
    except ERRORS as error:
        said = reason(error)
        if "utf-8" in said.lower() or "utf8" in said.lower():
            if suffix(path) in PARQUET:
                raise InputError(
                    f"{path}: has bytes that are no text in a column of ids"
                ) from error
            raise not_utf8(path) from error
        raise InputError(
            f"{path}: cannot be read to its end, it may be truncated or malformed ({said})"
        ) from error


def parts_of(values: pl.Series) -> pl.Series:
    """Return the parts of a split that the words of a column tell; null for other words."""
    words = values.str.strip_chars().str.to_lowercase()
    return words.replace_strict(PART_WORDS, default=None, return_dtype=pl.String)


def has_column(names: Sequence[str], wanted: str) -> bool:
    """Tell whether a column is among others, or a field of one of them as in `events.item`."""
    return any(wanted == name or wanted.startswith(f"{name}.") for name in names)
