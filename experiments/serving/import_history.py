"""Import of the users' history, the events of the training log, at the first start."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from hrnn_jax import atomic
from hrnn_jax.checkpoint import TrainedRun
from hrnn_jax.errors import InputError
from hrnn_jax.live.recommender import Recommender, RecommenderConfig
from hrnn_jax.model import Params
from hrnn_jax.preprocess import frames, read_log, sessions

from ..common import progress


def read(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    """Read the events of a log or a prepared folder.

    Args:
        path: of the log, with the columns of the run's log, or of the prepared folder.
        about: the run's data.json.

    Returns:
        The events as `Recommender.bootstrap` takes them; with session ids if those of the run came
        from a column.

    Raises:
        InputError: the log or folder is missing, damaged, or has other columns.
    """
    events = frames.prepared_events(path) if path.is_dir() else _read_log(path, about)
    if about["columns"]["session"] is None:
        return events.drop(frames.SESSION, strict=False)
    return events


def write_states(
    path: pathlib.Path,
    network: tuple[TrainedRun, Params],
    events: pl.DataFrame,
    config: RecommenderConfig,
) -> str:
    """Write a new state file, with the states after all events: the whole file or nothing.

    Args:
        path: of the state file.
        network: the trained network.
        events: as `read` returns them.
        config: of the recommender.

    Returns:
        A line that says how many users and events were imported.

    Raises:
        InputError: the file cannot be written, or another process wrote one meanwhile.
    """
    with atomic.writing(path) as partial:
        with (
            Recommender(*network, partial, config=config) as recommender,
            progress.bar("importing the history", len(events), "events") as advance,
        ):
            counts = recommender.bootstrap(events, on_events=advance)
            users = len(recommender)
        if path.exists():
            raise InputError(f"{path} was made meanwhile: is another service starting?")
    outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items()))
    return f"imported the history of {users:,} users: events {outcomes}"


def _read_log(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    columns = read_log.Columns.of(about["columns"])
    log = read_log.read(read_log.Source(about["name"], path, columns))
    if dropped := about["recipe"]["drop_types"]:
        kept = log.frame.lazy().pipe(sessions.drop_types, types=tuple(dropped)).collect()
        log = dataclasses.replace(log, frame=kept)
    return frames.raw_events(log)
