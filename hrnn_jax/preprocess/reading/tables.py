"""Text tables: .csv, .tsv, and any other with a given separator."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError

from . import lines
from .table import Table, input_errors
from .text import Text, open_text, unpacked

NAMED_SEPARATORS = {"tab": "\t", r"\t": "\t", "space": " "}
OUR_SEPARATOR = "\x1f"  # stands for one of several characters; no text has it
COMMON = (";", "\t", "|", ",")


class Form(NamedTuple):
    """How the lines of a table are taken apart."""

    separator: str
    quote: str | None
    header: bool
    names: list[str]  # of the columns, no two alike
    strip: bool  # whether a space follows each separator


def open_table(path: pathlib.Path, config: ReadConfig, separator: str) -> Table:
    """Open a text table.

    Args:
        path: of the file.
        config: how to read it.
        separator: what separates its values where `config` does not say.

    Returns:
        The table with all columns as text.

    Raises:
        InputError: it has no header as `config` says, or is no text.
    """
    text = open_text(path, config.encoding)
    given = config.separator or separator
    separator = NAMED_SEPARATORS.get(given, given)
    quote = config.quote_char or None
    if len(separator.encode()) > 1:
        content = text if isinstance(text, bytes) else unpacked(text)
        text = content.replace(separator.encode(), OUR_SEPARATOR.encode())
        separator = OUR_SEPARATOR
    first = _first_line(path, text, separator, quote)
    if config.no_header:
        if len(first) != len(config.columns):
            raise InputError(
                f"{path}, row 1: has {len(first)} values ({', '.join(map(repr, first))}) and "
                f"`columns` {len(config.columns)} names: give a name or _ for each"
            )
        first = list(config.columns)
    strip = len(first) > 1 and all(name.startswith(" ") for name in first[1:])
    names, duplicated = _different([name.strip(" ") if strip else name for name in first])
    form = Form(separator, quote, not config.no_header, names, strip)
    return Table(
        _scanned(text, form),
        names,
        is_text=True,
        duplicated=duplicated,
        n_rows=functools.partial(_count_lines, text, form),
        blank=functools.partial(_blank_rows, text, form),
        by_line=functools.partial(_by_line, path, text, form, duplicated),
    )


def hint(names: Sequence[str], separator: str) -> str:
    """Say which flag mends a table that lacks its columns, "" where none seems to.

    Args:
        names: those of its header.
        separator: by which it was taken apart.
    """
    if len(names) == 1:
        for other in COMMON:
            if other != separator and len(names[0].split(other)) > 2:
                shown = "tab" if other == "\t" else other
                return f"its first line has {shown!r} in it: give `separator`={shown!r}"
    if any(name.strip().lstrip("-").replace(".", "", 1).isdigit() for name in names):
        example = ",".join(["user", "item", "time", *["_"] * (len(names) - 3)])
        return (
            f"its first line is an event: give `no_header` with the {len(names)} names of "
            f"`columns`, as in {example}"
        )
    return ""


def _first_line(path: pathlib.Path, text: Text, separator: str, quote: str | None) -> list[str]:
    """Return the values of the first line that is not blank."""
    with input_errors(path):
        scan = pl.scan_lines(text, glob=False)
        filled = scan.filter(pl.first().str.strip_chars() != "").head(1).collect()
    if filled.is_empty():
        raise InputError(f"{path}: is empty")
    line = filled.item()
    return [value or "" for value in lines.values(line, separator, quote)]


def _different(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names with a number after those that stood before, and the names of several."""
    different: list[str] = []
    for place, name in enumerate(names):
        different.append(f"{name} ({place})" if name in different or name == "_" else name)
    return different, sorted({name for name in names if names.count(name) > 1 and name != "_"})


def _scanned(text: Text, form: Form) -> pl.LazyFrame:
    scan = pl.scan_csv(
        text,
        separator=form.separator,
        quote_char=form.quote,
        has_header=form.header,
        with_column_names=lambda _: form.names,
        infer_schema=False,
        glob=False,
    )
    if form.strip:
        scan = scan.with_columns(pl.all().str.strip_chars_start(" "))
    return scan


def _numbered_lines(text: Text, form: Form) -> pl.LazyFrame:
    """Return the lines, numbered from 1 after the header."""
    start = 0 if form.header else 1
    scan = pl.scan_lines(text, glob=False, name="line")
    return scan.with_row_index("row", start)


def _blank_rows(text: Text, form: Form) -> pl.Series:
    blank = _numbered_lines(text, form).filter(pl.col("line").str.strip_chars() == "")
    return blank.select("row").collect(engine="streaming").to_series()


def _count_lines(text: Text, form: Form) -> int:
    scan = pl.scan_lines(text, glob=False)
    return scan.select(pl.len()).collect(engine="streaming").item() - form.header


def _by_line(path: pathlib.Path, text: Text, form: Form, duplicated: Sequence[str]) -> Table:
    """Read the table anew, each line by itself where it is one row."""
    with input_errors(path):
        numbered = _numbered_lines(text, form).collect()
    numbers, found = (numbered[name] for name in ("row", "line"))
    content, rows, bad = lines.mended_table(
        zip(numbers, found, strict=True),
        form.separator,
        form.quote,
        len(form.names),
        has_header=form.header,
    )
    scan = _scanned(content, form._replace(quote='"'))
    numbers = pl.Series("row", rows, pl.UInt32)
    return Table(scan, form.names, True, duplicated, numbers, bad)
