"""Data frames: of events, from any library, and those that live recommendation reads and writes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax import atomic
from hrnn_jax.errors import InputError, reason
from hrnn_jax.preprocess import prepared, read_log
from hrnn_jax.preprocess.sessions import TEST

Frame = pl.DataFrame
Row = tuple[Any, ...]
# Columns that are packed bytes in memory and lists of numbers in files, and the type of these.
PACKED = {"carry": (np.float32, pl.List(pl.Float32)), "past": (np.int32, pl.List(pl.Int32))}
USER, ITEM, TIME, SESSION = "user_id", "item_id", "ts", "session_id"


def as_polars(frame: Any) -> Frame:
    """Return a frame of polars, pandas or arrow as one of polars.

    Raises:
        InputError: the value is no frame, or holds what polars cannot.
    """
    try:
        if isinstance(frame, pl.LazyFrame):
            return frame.collect()
        if type(frame).__module__.startswith("pandas."):
            return pl.from_pandas(frame)
        if isinstance(frame, pl.DataFrame) or hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
    except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:
        raise InputError(f"the frame cannot be read: {reason(error)}") from error
    raise InputError(f"{type(frame).__name__}: give a frame of polars, pandas or arrow, or a path")


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
    events = pl.read_parquet(folder / prepared.EVENTS)
    if test is not None:
        events = events.filter(pl.col(TEST) == test)
    for column, name, file in (
        (read_log.USER, USER, prepared.USERS),
        (read_log.ITEM, ITEM, prepared.ITEMS),
    ):
        raw_ids = pl.read_parquet(folder / file)[read_log.RAW_ID]
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


def histories(events: Frame, *, users: int) -> Iterator[list[Row]]:
    """Yield the events of some users at a time.

    Args:
        events: columns user_id, item_id, ts (Unix seconds or Datetime) and maybe session_id.
        users: how many users at a time. Those with most events come first, so that those of a
            part have about as many.

    Yields:
        Rows (user, item, Unix seconds, session or None), by user, a user's by time, and those of
        the same time in their order in `events`.

    Raises:
        InputError: a column or a value is missing.
    """
    for name in (USER, ITEM, TIME):
        if name not in events.columns:
            raise InputError(
                f"the events have no column {name!r}: rename one of {', '.join(events.columns)}"
            )
        if (nulls := events[name].is_null().arg_true()).len():
            raise InputError(f"row {nulls[0] + 1} of the events has no {name}: drop it")
    time = pl.col(TIME)
    if events.schema[TIME].is_temporal():
        time = time.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    elif not events.schema[TIME].is_numeric():
        raise InputError(f"{TIME} holds {events.schema[TIME]}: give Unix seconds")
    session = pl.col(SESSION) if SESSION in events.columns else pl.lit(None).alias(SESSION)
    ordered = (
        events.lazy()
        .select(USER, ITEM, time.alias(TIME), session, pl.len().over(USER).alias("events"))
        .sort(
            [pl.col("events"), pl.col(USER), pl.col(TIME)],
            descending=[True, False, False],
            maintain_order=True,
        )
        .with_columns((pl.col(USER).rle_id() // users).alias("part"))
        .collect()
    )
    for part in ordered.partition_by("part", maintain_order=True):
        yield part.select(USER, ITEM, TIME, SESSION).rows()


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        frame = pl.DataFrame(rows, schema=columns[name], orient="row", infer_schema_length=None)
        for column in PACKED.keys() & frame.columns:
            number, dtype = PACKED[column]
            numbers = [np.frombuffer(value, number).tolist() for value in frame[column]]
            frame = frame.with_columns(pl.Series(column, numbers, dtype))
        atomic.write(folder / f"{name}.parquet", frame.write_parquet)


def read_tables(folder: pathlib.Path, columns: Mapping[str, Sequence[str]]) -> dict[str, list[Row]]:
    """Read the rows of tables that `write_tables` wrote.

    Args:
        folder: with a file for each table.
        columns: the columns of each table, by name.

    Raises:
        InputError: a file is missing, damaged or has other columns; the message names it.
    """
    tables = {}
    for name, names in columns.items():
        path = folder / f"{name}.parquet"
        try:
            frame = pl.read_parquet(path).select(names)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(
                f"{path} is missing or damaged ({reason(error)}): export it again"
            ) from error
        for column in PACKED.keys() & frame.columns:
            packed = [np.array(value, PACKED[column][0]).tobytes() for value in frame[column]]
            frame = frame.with_columns(pl.Series(column, packed, pl.Binary))
        tables[name] = frame.rows()
    return tables
