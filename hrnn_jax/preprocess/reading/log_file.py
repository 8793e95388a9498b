"""One file of a log -> its events, typed and checked, in the order of the file."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError, reason
from hrnn_jax.ids_and_times import ID_TYPES

from . import checks, fields, files, ids, tables, times
from .faults import Reading
from .files import COMPRESSED, JSON_LINES, PARQUET, SEPARATORS, SUFFIXES, LogFile
from .json_lines import open_json_lines
from .parquet import open_parquet
from .table import IDS, PART, ROW, TIME, TYPE, UNEQUAL, Table, input_errors

Categories = Mapping[str, pl.Categories]  # by role: of the ids that are texts
Derive = Callable[[pl.LazyFrame], pl.LazyFrame]  # adds columns that a file has in another form


class Form(NamedTuple):
    """How the files of a log are read."""

    named: Mapping[str, str]  # the name of the column of each role
    config: ReadConfig
    derive: Derive | None = None


def read_file(
    file: LogFile, form: Form, categories: Categories
) -> tuple[pl.DataFrame, checks.Skipped, str | None]:
    """Read a file.

    Args:
        file: the file.
        form: how to read it.
        categories: of the ids of each role, which all files of a log share.

    Returns:
        The columns by role: ids as integers or categories, times as instants, types as text. Then
        the rows that were dropped, and the form of the times, None without a time column.

    Raises:
        InputError: the file, a column or a row cannot be read; the message names it.
    """
    with input_errors(file.path):
        table = _open(file, form)
        try:
            read = _typed(table, file.path, form, categories)
        except pl.exceptions.PolarsError:
            if table.by_line is None:
                raise
            read = None
        if (read is None or not _has_all_rows(*read)) and table.by_line:
            by_line = _with_columns(table.by_line(), file, form.derive)
            read = _typed(by_line, file.path, form, categories)
        assert read
        frame, skipped = checks.valid_events(*read)
    form_of_times = read[1].form
    return frame, skipped, None if form_of_times is None else form_of_times.name


def time_form(file: LogFile, form: Form) -> str:
    """Return the form in which the times of a file are read.

    Raises:
        InputError: the file, a column or the form of its times cannot be read.
    """
    with input_errors(file.path):
        table = _open(file, form)
        raw = fields.by_role(table, form.named, form.config.explode, file.path)
        found = times.detect(raw, TIME, form.named[TIME], form.config, file.path)
    return found.name


def _open(file: LogFile, form: Form) -> Table:
    """Open a file by its name, and check that it has the columns."""
    (named, config, derive), path, kind = form, file.path, files.suffix(file.path)
    separator = SEPARATORS.get(kind, "")
    is_table = bool(separator or config.separator) and kind not in (*PARQUET, *JSON_LINES)
    if kind not in SUFFIXES and not is_table:
        raise InputError(
            f"{path}: cannot tell the format by its name; it must end in one of "
            f"{' '.join(SUFFIXES)}, optionally followed by {' or '.join(COMPRESSED)}; of another "
            "text table give the `separator`"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    if is_table:
        table = tables.open_table(path, config, separator)
    elif config.no_header:
        raise InputError(f"{path}: has the names of its columns; drop `no_header` and `columns`")
    elif kind in PARQUET:
        table = open_parquet(path)
    else:
        in_file = set(named.values()) - {name for name, _ in file.partition}
        table = open_json_lines(path, config, in_file)
    table = _with_columns(table, file, derive)
    if lacking := fields.missing(table, named):
        advice = f"name {', '.join(f'the {of} column with `{of}_column`' for of in lacking)}"
        hint = tables.hint(table.names, config.separator or separator) if is_table else ""
        raise InputError(
            f"{path}: no column {', '.join(map(repr, lacking.values()))}; {hint or advice}; the "
            f"file has: {', '.join(map(repr, table.names))}"
        )
    return table


def _with_columns(table: Table, file: LogFile, derive: Derive | None) -> Table:
    """Add the columns that the names of the file's folders give, and those that are derived."""
    if not file.partition and derive is None:
        return table
    scan = table.scan.with_columns(
        pl.lit(value, pl.String).alias(name) for name, value in file.partition
    )
    try:
        scan = scan if derive is None else derive(scan)
        names = scan.collect_schema().names()
    except pl.exceptions.ColumnNotFoundError as error:
        raise InputError(
            f"{file.path}: has not the columns of this data set ({reason(error)})"
        ) from error
    return dataclasses.replace(table, scan=scan, names=names)


def _typed(
    table: Table, path: pathlib.Path, form: Form, categories: Categories
) -> tuple[pl.DataFrame, Reading]:
    """Read the columns of a table in their types; null where a value cannot be read."""
    named, config, _ = form
    raw = fields.by_role(table, named, config.explode, path)
    schema = raw.collect_schema()
    time = None
    if TIME in named:
        time = times.detect(raw, TIME, named[TIME], config, path)
    selected = raw.select(
        *([] if time is None else [time.parse(pl.col(TIME)).alias(TIME)]),
        *(
            ids.values(schema[name], name, categories[name], f"{path}: column {column!r}")
            for name, column in named.items()
            if name in IDS
        ),
        *(pl.col(name).cast(pl.String) for name in (TYPE, PART) if name in named),
        *(name for name in (ROW, UNEQUAL) if name in schema),
    )
    # A text row with too many values is only noticed when all its columns are read.
    whole_rows = pl.QueryOptFlags(projection_pushdown=not table.is_text)
    try:
        frame = selected.collect(engine="streaming", optimizations=whole_rows)
    except pl.exceptions.ComputeError as error:
        of_bytes = [named[name] for name in IDS if isinstance(schema.get(name), pl.Binary)]
        if not of_bytes or "utf8" not in str(error):
            raise
        raise InputError(
            f"{path}: column {' or '.join(map(repr, of_bytes))} has bytes that are no text: "
            f"{ID_TYPES}"
        ) from error
    return frame, Reading(path, table, raw, named, time, config)


def _has_all_rows(frame: pl.DataFrame, reading: Reading) -> bool:
    """Tell whether a text table has as many rows as lines: else quotes may have swallowed some."""
    table = reading.table
    if table.n_rows is None:
        return True
    if ROW in frame.columns:
        return table.scan.select(pl.len()).collect(engine="streaming").item() == table.n_rows()
    return len(frame) == table.n_rows()
