"""The past of a run's users, to be taken in before the first live event."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from hrnn_jax.preprocess import events, exchange, prepared, sessions


def read(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    """Read a log, or a prepared folder, as `Recommender.bootstrap` takes it.

    about: the run's data.json. Session ids are kept where the run's sessions were given by them.
    Raises InputError, naming the file, for what cannot be read.
    """
    frame = _prepared(path) if path.is_dir() else _log(path, about)
    if about["columns"]["session"] is None:
        return frame.drop(exchange.SESSION, strict=False)
    return frame


def _prepared(folder: pathlib.Path) -> pl.DataFrame:
    prepared.load(folder)  # says what is missing or damaged
    rows = pl.read_parquet(folder / prepared.EVENTS)
    for what, name, file in (
        (events.USER, exchange.USER, prepared.USERS),
        (events.ITEM, exchange.ITEM, prepared.ITEMS),
    ):
        raw_id = pl.read_parquet(folder / file)[events.RAW_ID]
        rows = rows.with_columns(raw_id.gather(rows[what]).alias(name))
    return rows.select(
        exchange.USER,
        exchange.ITEM,
        pl.col(events.TIME).alias(exchange.TIME),
        pl.col(events.SESSION).alias(exchange.SESSION),
    )


def _log(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    columns = events.Columns(**about["columns"])
    read = events.read(events.Source(about["name"], path, columns))
    rows = read.frame
    if dropped := about["recipe"]["drop_types"]:
        rows = rows.lazy().pipe(sessions.drop_types, types=tuple(dropped)).collect()
    names = {events.USER: exchange.USER, events.ITEM: exchange.ITEM}
    if columns.session:
        names[events.SESSION] = exchange.SESSION
    raw = {name: read.raw_ids[what].gather(rows[what]) for what, name in names.items()}
    return pl.DataFrame(raw | {exchange.TIME: rows[events.TIME]})
