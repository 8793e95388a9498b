"""Data frames: of events, from any library, and those that live recommendation reads and writes."""

from __future__ import annotations

import functools
import pathlib
import time as clock
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import polars as pl
from polars import selectors

from hrnn_jax.errors import InputError, reason
from hrnn_jax.files import atomic
from hrnn_jax.ids_and_times import FLOAT32_TIMES, ID_TYPES, INTEGRAL, id_text, unix_seconds
from hrnn_jax.preprocess import prepared, read_log
from hrnn_jax.preprocess.protocols import TEST

Frame = pl.DataFrame
Row = tuple[Any, ...]
# Columns that are packed bytes in memory and lists of numbers in files, and the type of these.
PACKED = {"carry": (np.float32, pl.List(pl.Float32)), "past": (np.int32, pl.List(pl.Int32))}
USER, ITEM, TIME, SESSION = "user_id", "item_id", "ts", "session_id"
# What polars and pyarrow raise for a frame that they cannot take, or whose file is missing.
_UNREADABLE = (
    pl.exceptions.PolarsError,
    ImportError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)


def as_polars(frame: Any, *, others: str = "", columns: Collection[str] = ()) -> Frame:
    """Return a frame of polars, pandas or arrow as one of polars.

    Args:
        frame: the frame.
        others: what else the caller takes, for the message, as in "a path, or ".
        columns: those that are used. If all are there, the others are left out, and may hold
            anything; a name as "event.item" may be of a field of the column "event".

    Raises:
        InputError: the value is no frame, or holds what polars cannot.
    """
    try:
        if isinstance(frame, pl.LazyFrame):
            names = frame.collect_schema().names()
            return frame.select(compress(names, _used(names, columns))).collect()
        if isinstance(frame, pl.DataFrame):
            return frame.select(compress(frame.columns, _used(frame.columns, columns)))
        of_pandas = type(frame).__module__.split(".")[0] == "pandas"
        if of_pandas and hasattr(frame, "columns"):
            return pl.from_pandas(frame.loc[:, _used(list(frame.columns), columns)])
        if hasattr(frame, "__arrow_c_stream__") and not of_pandas:  # a Series or an index
            return pl.DataFrame(frame)
    except _UNREADABLE as error:
        raise InputError(f"the frame cannot be read: {reason(error)}") from error
    raise InputError(f"{type(frame).__name__}: give {others}a frame of polars, pandas or arrow")


def _used(names: Sequence[object], columns: Collection[str]) -> list[bool]:
    """Tell of each column of a frame whether it is used, see `as_polars`; two may have one name."""
    used = {name if name in names else name.split(".")[0] for name in columns}
    if not (used and used <= {*names}):
        return [True] * len(names)
    return [name in used for name in names]


def prepared_events(folder: pathlib.Path, *, test: bool | None = None) -> Frame:
    """Return the events of a prepared folder.

    Args:
        folder: the prepared folder.
        test: whether to return the test events alone, or without them; all by default.

    Returns:
        Columns user_id, item_id (raw ids), ts (Unix seconds) and session_id (numbers), by user, and
        a user's by time.

    Raises:
        InputError: the folder is missing or damaged.
    """
    prepared.load(folder)  # checks it
    events = prepared.load_table(folder, prepared.EVENTS)
    if test is not None:
        events = events.filter(pl.col(TEST) == test)
    for column, name, file in (
        (read_log.USER, USER, prepared.USERS),
        (read_log.ITEM, ITEM, prepared.ITEMS),
    ):
        raw_ids = prepared.load_table(folder, file)[read_log.RAW_ID]
        events = events.with_columns(raw_ids.gather(events[column]).alias(name))
    return events.select(
        USER, ITEM, pl.col(read_log.TIME).alias(TIME), pl.col(read_log.SESSION).alias(SESSION)
    )


def raw_events(log: read_log.Events) -> Frame:
    """Return the events of a log that was read, with raw ids.

    Returns:
        Columns user_id, item_id, ts (UTC) and, where the log has sessions, session_id.
    """
    names = {read_log.USER: USER, read_log.ITEM: ITEM, read_log.SESSION: SESSION}
    raw = {
        name: log.raw_ids[column].gather(log.frame[column])
        for column, name in names.items()
        if column in log.raw_ids
    }
    return pl.DataFrame(raw | {TIME: log.frame[read_log.TIME]})


def histories(
    events: Any, *, users: int, any_year: bool, check_item: Callable[[str], object]
) -> Iterator[list[Row]]:
    """Check all events, and yield those of some users at a time.

    Args:
        events: a frame of polars, pandas or arrow: columns user_id, item_id, ts (Unix seconds or a
            type of dates) and maybe session_id.
        users: see `by_users`.
        any_year: whether times before 1990 and after tomorrow are taken too.
        check_item: raises InputError for the text of an item that is refused.

    Yields:
        Rows (user, item, Unix seconds, session or None), a user's by time, and those of the same
        time in their order in `events`. The events of a session id follow each other, at the place
        of their first one, as in training. Ids of equal texts, as "42" and "42.0", are one.

    Raises:
        InputError: a column or a value is missing or invalid, before anything is yielded; the
            message names the row.
    """
    events = as_polars(events)
    for name in (USER, ITEM, TIME):
        if name not in events.columns:
            others = ", ".join(events.columns)
            todo = f"rename one of {others}" if others else "they have none at all"
            raise InputError(f"the events have no column {name!r}: {todo}")
        if (nulls := events[name].is_null().arg_true()).len():
            raise InputError(f"row {nulls[0] + 1} of the events has no {name}: drop it")
    time = pl.col(TIME)
    if isinstance(events.schema[TIME], pl.Date | pl.Datetime):
        time = time.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    elif not events.schema[TIME].is_numeric():
        raise InputError(f"{TIME} holds {events.schema[TIME]}: give Unix seconds")
    elif isinstance(events.schema[TIME], pl.Float32):
        raise InputError(f"{TIME} holds Float32, {FLOAT32_TIMES}")
    elif events.schema[TIME].is_decimal():
        time = time.cast(pl.Float64)
    session = pl.col(SESSION) if SESSION in events.columns else pl.lit(None, pl.String)
    chosen = events.select(USER, ITEM, time.alias(TIME), session.alias(SESSION))
    for name in (USER, ITEM, SESSION):
        check_ids(chosen[name], name.removesuffix("_id"), "the events")
    check_times(chosen[TIME], "the events", any_year=any_year)
    _check_values(chosen[ITEM], lambda item: check_item(id_text("item", item)), "the events")
    texts = selectors.string(include_categorical=True) | selectors.enum()
    chosen = chosen.with_columns(texts.cast(pl.String).str.replace(INTEGRAL, "$1"))
    place, id_ = pl.col("place"), pl.col(SESSION)
    first = pl.when(id_.is_null()).then(place).otherwise(place.min().over(USER, SESSION))
    ordered = chosen.lazy().sort(TIME, maintain_order=True).with_row_index("place")
    ordered = ordered.sort(first, maintain_order=True).drop("place").collect()
    return by_users(ordered, users=users)


def by_users(events: Frame, *, users: int) -> Iterator[list[Row]]:
    """Yield the rows of some users at a time, a user's in their order in `events`.

    Args:
        events: with the column user_id.
        users: how many users at a time. Those with most events come first, so that those of a
            part have about as many.
    """
    counted = events.lazy().with_columns(_events=pl.len().over(USER))
    ordered = counted.sort("_events", USER, descending=[True, False], maintain_order=True)
    parts = ordered.with_columns(_part=pl.col(USER).rle_id() // users).collect()
    for part in parts.partition_by("_part", maintain_order=True):
        yield part.select(events.columns).rows()


def check_ids(ids: pl.Series, name: str, where: object) -> None:
    """Check a column of ids, see `id_text`; missing ones are passed over.

    Args:
        ids: the column.
        name: what the ids are of, for the message.
        where: the file or frame of the column, for the message.

    Raises:
        InputError: names the first row, from 1, whose id is invalid.
    """
    if ids.dtype.is_integer() and not isinstance(ids.dtype, pl.Int128 | pl.UInt128):
        return  # all of them are valid
    if ids.dtype.is_nested() or isinstance(ids.dtype, pl.Object):
        raise InputError(f"{where}: {name} holds {ids.dtype}; {ID_TYPES}")
    _check_values(ids, functools.partial(id_text, name), where)


def _check_values(values: pl.Series, check: Callable[[Any], object], where: object) -> None:
    """Check each value that is not missing; where it is refused, name its first row, from 1."""
    rows = values.arg_unique().sort()
    for row, value in zip(rows, values.gather(rows), strict=True):
        try:
            if value is not None:
                check(value)
        except InputError as error:
            raise InputError(f"{where}, row {row + 1}: {error}") from None


def check_times(times: pl.Series, where: object, *, any_year: bool = True) -> None:
    """Check a column of numbers to be Unix seconds, see `unix_seconds` and `check_ids`."""
    now = clock.time()
    no_numbers = times.filter(times.is_nan()) if times.dtype.is_float() else ()
    for value in (*no_numbers[:1], times.min(), times.max()) if len(times) else ():
        try:
            unix_seconds(value, any_year=any_year, now=now)
        except InputError as error:
            row = 1 + (times.index_of(value) or 0)
            raise InputError(f"{where}, row {row}: {error}") from None


def write_tables(
    folder: pathlib.Path,
    tables: Mapping[str, Sequence[Row]],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Write tables as parquet.

    Args:
        folder: where to write a file for each table.
        tables: the rows of each table, by name.
        columns: the columns of each table, by name.

    Raises:
        InputError: a column has values of several types, or the files cannot be written.
    """
    atomic.make_folder(folder)
    for name, rows in tables.items():
        try:
            frame = pl.DataFrame(rows, schema=columns[name], orient="row", infer_schema_length=None)
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise InputError(
                f"the table {name} is damaged ({reason(error)}): put back a copy of the state file"
            ) from error
        for column in PACKED.keys() & frame.columns:
            number, dtype = PACKED[column]
            numbers = [np.frombuffer(value, number).tolist() for value in frame[column]]
            frame = frame.with_columns(pl.Series(column, numbers, dtype))
        atomic.write(folder / f"{name}.parquet", frame.write_parquet)


def read_tables(
    folder: pathlib.Path, columns: Mapping[str, Mapping[str, tuple[type, bool]]]
) -> dict[str, list[Row]]:
    """Read the rows of tables that `write_tables` wrote.

    Args:
        folder: with a file for each table.
        columns: of each table, by name: the type of each column, and whether values may be missing.

    Raises:
        InputError: a file is missing, damaged, or has other columns or values of other types; the
            message names it.
    """
    tables = {}
    for name, types in columns.items():
        path = folder / f"{name}.parquet"
        try:
            frame = pl.read_parquet(path, glob=False).select(*types)
            for column, (type_, _) in types.items():
                if column in PACKED:
                    number, dtype = PACKED[column]
                    lists = frame[column].cast(dtype)
                    packed = [np.array(value, number).tobytes() for value in lists]
                    frame = frame.with_columns(pl.Series(column, packed, pl.Binary))
                else:
                    frame = frame.with_columns(pl.col(column).cast(type_))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(
                f"{path} is missing or damaged ({reason(error)}): export it again"
            ) from error
        for column, (_, may_be_missing) in types.items():
            if not may_be_missing and (nulls := frame[column].is_null().arg_true()).len():
                raise InputError(f"{path}, row {nulls[0] + 1}: no {column}; export it again")
        tables[name] = frame.rows()
    return tables
