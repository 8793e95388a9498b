"""Data frames that live recommendation reads and writes: past events, states and stored events."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax import atomic
from hrnn_jax.errors import InputError, reason

Frame = pl.DataFrame
Row = tuple[Any, ...]
# Columns that are packed bytes in memory and lists of numbers in files, and the type of these.
PACKED = {"carry": (np.float32, pl.List(pl.Float32)), "past": (np.int32, pl.List(pl.Int32))}
USER, ITEM, TIME, SESSION = "user_id", "item_id", "ts", "session_id"


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
