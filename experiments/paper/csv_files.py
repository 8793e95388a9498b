"""Reading of a results folder's CSV files, with messages that name what is wrong in them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from hrnn_jax.errors import InputError

from ..common.text import Spread

Schema = Mapping[str, Any]  # polars' types by column


def read_frames(
    folder: pathlib.Path, files: Mapping[str, tuple[Schema, Schema]]
) -> dict[str, pl.DataFrame]:
    """Read CSV files.

    Args:
        folder: where they are.
        files: by name without ".csv": the columns that identify a line, and the others to read.

    Raises:
        InputError: a file is missing or wrong, or there are no scores.
    """
    frames = {name: _read(folder / f"{name}.csv", *schemas) for name, schemas in files.items()}
    if frames["scores"].is_empty():
        raise InputError(f"{folder / 'scores.csv'} holds no scores: no run has ended")
    return frames


def _read(path: pathlib.Path, key: Schema, rest: Schema) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} is no CSV file with a header: {error}") from error
    schema = {**key, **rest}
    if absent := [name for name in schema if name not in frame.columns]:
        raise InputError(f"{path} has no column {absent[0]!r}")
    for name, kind in schema.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(kind))
        except pl.exceptions.InvalidOperationError as error:
            raise InputError(f"{path}: column {name!r} holds no number: {error}") from error
        if name in key and frame[name].null_count():
            raise InputError(f"{path}: a line has no {name!r}")
    if (twice := frame.filter(frame.select(*key).is_duplicated())).height:
        raise InputError(f"{path} has two lines of {twice.select(*key).row(0)}")
    return frame.select(*schema)


def check_values(
    path: pathlib.Path, frame: pl.DataFrame, known: Mapping[str, Iterable[str]]
) -> None:
    """Raise InputError where a file has a value that is not known in one of its columns."""
    for name, values in known.items():
        if name in frame.columns and (unknown := sorted(set(frame[name]) - set(values))):
            raise InputError(f"{path}: unknown {name} {unknown[0]!r}, not of {[*values]}")


def spreads(frame: pl.DataFrame, by: tuple[str, ...], value: str) -> dict[Any, Spread]:
    """Return the values of all seeds by the columns `by`; those that are no number are left out."""
    numbers = frame.filter(pl.col(value).is_not_nan()).sort(*by, "seed")  # drops nulls as well
    grouped = numbers.group_by(*by, maintain_order=True).agg(value)
    return {tuple(key): Spread(tuple(values)) for *key, values in grouped.iter_rows()}
