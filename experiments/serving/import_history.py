"""The past of a run's users, to be taken in before the first live event."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from hrnn_jax.preprocess import frames, prepared, read_log, sessions


def read(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    """Read a log, or a prepared folder, as `Recommender.bootstrap` takes it.

    about: the run's data.json. Session ids are kept where the run's sessions were given by them.
    Raises InputError, naming the file, for what cannot be read.
    """
    frame = _prepared(path) if path.is_dir() else _log(path, about)
    if about["columns"]["session"] is None:
        return frame.drop(frames.SESSION, strict=False)
    return frame


def _prepared(folder: pathlib.Path) -> pl.DataFrame:
    prepared.load(folder)  # says what is missing or damaged
    rows = pl.read_parquet(folder / prepared.EVENTS)
    for what, name, file in (
        (read_log.USER, frames.USER, prepared.USERS),
        (read_log.ITEM, frames.ITEM, prepared.ITEMS),
    ):
        raw_id = pl.read_parquet(folder / file)[read_log.RAW_ID]
        rows = rows.with_columns(raw_id.gather(rows[what]).alias(name))
    return rows.select(
        frames.USER,
        frames.ITEM,
        pl.col(read_log.TIME).alias(frames.TIME),
        pl.col(read_log.SESSION).alias(frames.SESSION),
    )


def _log(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    columns = read_log.Columns.of(about["columns"])
    read = read_log.read(read_log.Source(about["name"], path, columns))
    rows = read.frame
    if dropped := about["recipe"]["drop_types"]:
        rows = rows.lazy().pipe(sessions.drop_types, types=tuple(dropped)).collect()
    names = {read_log.USER: frames.USER, read_log.ITEM: frames.ITEM}
    if columns.session_column:
        names[read_log.SESSION] = frames.SESSION
    raw = {name: read.raw_ids[what].gather(rows[what]) for what, name in names.items()}
    return pl.DataFrame(raw | {frames.TIME: rows[read_log.TIME]})
