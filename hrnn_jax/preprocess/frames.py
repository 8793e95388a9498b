"""What live recommendation takes in and gives away as frames: histories, states and events."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from hrnn_jax import atomic, errors

Frame = pl.DataFrame
NUMBERS = {"carry": np.float32, "past": np.int32}  # columns of bytes, and of what
USER, ITEM, TIME, SESSION = "user_id", "item_id", "ts", "session_id"


def histories(events: Frame, *, users: int) -> Iterator[list[tuple]]:
    """Yield the rows (user, item, Unix seconds, session or None) of so many users at a time.

    events: columns user_id, item_id, ts (Unix seconds or Datetime) and maybe session_id. A user's
    rows come by time, those of the same time as they were. The users with most events come first,
    so that those of a part have about as many. Raises InputError for missing columns and values.
    """
    for name in (USER, ITEM, TIME):
        if name not in events.columns:
            raise errors.InputError(
                f"the events have no column {name!r}: rename one of {', '.join(events.columns)}"
            )
        if (at := events[name].is_null().arg_true()).len():
            raise errors.InputError(f"row {at[0] + 1} of the events has no {name}: drop it")
    time = pl.col(TIME)
    if events.schema[TIME].is_temporal():
        time = time.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    elif not events.schema[TIME].is_numeric():
        raise errors.InputError(f"{TIME} holds {events.schema[TIME]}: give Unix seconds")
    session = pl.col(SESSION) if SESSION in events.columns else pl.lit(None).alias(SESSION)
    ordered = (
        events.lazy()
        .select(USER, ITEM, time.alias(TIME), session, pl.len().over(USER).alias("events"))
        .sort(
            [pl.col("events"), pl.col(USER), pl.col(TIME)],
            descending=[True, False, False],
            maintain_order=True,
        )
        .with_columns(((pl.col(USER).rle_id()) // users).alias("part"))
        .collect()
    )
    for part in ordered.partition_by("part", maintain_order=True):
        yield part.select(USER, ITEM, TIME, SESSION).rows()


def write(
    folder: pathlib.Path,
    tables: Mapping[str, Sequence[tuple]],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """Write the rows of tables, with the columns of each, as parquet; bytes as lists of NUMBERS."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        frame = pl.DataFrame(rows, schema=columns[name], orient="row", infer_schema_length=None)
        for column in NUMBERS.keys() & frame.columns:
            numbers = [np.frombuffer(value, NUMBERS[column]).tolist() for value in frame[column]]
            frame = frame.with_columns(
                pl.Series(column, numbers, pl.List(pl.Float32 if column == "carry" else pl.Int32))
            )
        atomic.write(folder / f"{name}.parquet", frame.write_parquet)


def read(folder: pathlib.Path, columns: Mapping[str, Sequence[str]]) -> dict[str, list[tuple]]:
    """Read the rows of tables that `write` wrote; columns: of each table.

    Raises InputError, naming the file, where one is missing, damaged or has other columns.
    """
    tables = {}
    for name, names in columns.items():
        path = folder / f"{name}.parquet"
        try:
            frame = pl.read_parquet(path).select(names)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise errors.InputError(
                f"{path} is missing or damaged ({str(error).splitlines()[0]}): export it again"
            ) from error
        for column in NUMBERS.keys() & frame.columns:
            packed = [np.array(value, NUMBERS[column]).tobytes() for value in frame[column]]
            frame = frame.with_columns(pl.Series(column, packed, pl.Binary))
        tables[name] = frame.rows()
    return tables
