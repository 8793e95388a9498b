"""One file of a log -> its events, typed and checked, in the order of the file."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError

from . import checks, fields, files, ids, tables, times
from .faults import Reading
from .files import COMPRESSED, JSON_LINES, PARQUET, SEPARATORS, SUFFIXES, LogFile
from .json_lines import open_json_lines
from .parquet import open_parquet
from .table import IDS, ROW, TIME, TYPE, Table, input_errors

Categories = Mapping[str, pl.Categories]  # by role: of the ids that are texts


def read_file(
    file: LogFile, named: Mapping[str, str], config: ReadConfig, categories: Categories
) -> tuple[pl.DataFrame, checks.Skipped, str]:
    """Read a file.

    Args:
        file: the file.
        named: the name of the column of each role.
        config: how to read it.
        categories: of the ids of each role, which all files of a log share.

    Returns:
        The columns by role: ids as integers or categories, times as instants, types as text. Then
        the rows that were dropped, and the form of the times.

    Raises:
        InputError: the file, a column or a row cannot be read; the message names it.
    """
    with input_errors(file.path):
        table = _open(file, named, config)
        try:
            read = _typed(table, file.path, named, config, categories)
        except pl.exceptions.PolarsError:
            if table.by_line is None:
                raise
            read = None
        if (read is None or not _has_all_rows(*read)) and table.by_line:
            by_line = _with_partition(table.by_line(), file)
            read = _typed(by_line, file.path, named, config, categories)
        assert read
        frame, skipped = checks.valid_events(*read)
    return frame, skipped, read[1].form.name


def form_of(file: LogFile, named: Mapping[str, str], config: ReadConfig) -> str:
    """Return the form in which the times of a file are read.

    Raises:
        InputError: the file, a column or the form of its times cannot be read.
    """
    with input_errors(file.path):
        table = _open(file, named, config)
        raw = fields.by_role(table, {TIME: named[TIME]}, config.explode, file.path)
        form = times.detect(raw, TIME, named[TIME], config.time_format, file.path)
    return form.name


def _open(file: LogFile, named: Mapping[str, str], config: ReadConfig) -> Table:
    """Open a file by its name, and check that it has the columns."""
    path, kind = file.path, files.suffix(file.path)
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
        table = open_json_lines(path, config, named.values())
    table = _with_partition(table, file)
    if lacking := fields.missing(table, named):
        advice = f"name {', '.join(f'the {of} column with `{of}_column`' for of in lacking)}"
        hint = tables.hint(table.names, config.separator or separator) if is_table else ""
        raise InputError(
            f"{path}: no column {', '.join(map(repr, lacking.values()))}; {hint or advice}; the "
            f"file has: {', '.join(map(repr, table.names))}"
        )
    return table


def _with_partition(table: Table, file: LogFile) -> Table:
    """Add the columns that the names of the file's folders give."""
    added = [pl.lit(value, pl.String).alias(name) for name, value in file.partition]
    if not added:
        return table
    names = [*table.names, *(name for name, _ in file.partition)]
    return dataclasses.replace(table, scan=table.scan.with_columns(added), names=names)


def _typed(
    table: Table,
    path: pathlib.Path,
    named: Mapping[str, str],
    config: ReadConfig,
    categories: Categories,
) -> tuple[pl.DataFrame, Reading]:
    """Read the columns of a table in their types; null where a value cannot be read."""
    raw = fields.by_role(table, named, config.explode, path)
    schema = raw.collect_schema()
    form = times.detect(raw, TIME, named[TIME], config.time_format, path)
    selected = raw.select(
        form.parse(pl.col(TIME)).alias(TIME),
        *(
            ids.values(schema[name], name, categories[name], f"{path}: column {column!r}")
            for name, column in named.items()
            if name in IDS
        ),
        *([pl.col(TYPE).cast(pl.String)] if TYPE in named else []),
        *([ROW] if ROW in schema else []),
    )
    # A text row with too many values is only noticed when all its columns are read.
    whole_rows = pl.QueryOptFlags(projection_pushdown=not table.is_text)
    frame = selected.collect(engine="streaming", optimizations=whole_rows)
    return frame, Reading(path, table, raw, named, form, config)


def _has_all_rows(frame: pl.DataFrame, reading: Reading) -> bool:
    """Tell whether a text table has as many rows as lines: else quotes may have swallowed some."""
    table = reading.table
    if table.n_rows is None:
        return True
    if ROW in frame.columns:
        return table.scan.select(pl.len()).collect(engine="streaming").item() == table.n_rows()
    return len(frame) == table.n_rows()
