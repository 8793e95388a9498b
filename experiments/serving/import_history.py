"""Import of the users' history at the first start: the sessions of the run, or those of a log."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.errors import InputError
from hrnn_jax.estimators import run_files
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.live.recommender import Recommender, RecommenderConfig
from hrnn_jax.live.store.state_file import writing_new
from hrnn_jax.model import Params
from hrnn_jax.preprocess import past_sessions, prepared
from hrnn_jax.preprocess.reading import files

from ..common import progress

_OTHERS = "--history=LOG with another --states imports all users of a log"


def of_run(run: pathlib.Path, about: Mapping[str, Any]) -> tuple[pl.DataFrame | None, list[str]]:
    """Return the sessions that a run was trained and tested on, and those of all other users.

    The others are the users whom the filters of the run's recipe dropped: their sessions are cut
    from the run's log, if it is at hand.

    Args:
        run: the run folder.
        about: its data.json.

    Returns:
        The sessions, see `past_sessions`; None where the prepared folder does not exist any more.
        And lines that say what was found.

    Raises:
        InputError: the prepared folder is damaged.
    """
    folder = run_files.prepared_folder(run)
    if folder is None:
        return None, [f"the run's prepared log is gone, so no history is imported: {_OTHERS}"]
    lines = []
    if not prepared.has_ends(folder):
        lines = [
            f"{folder} is of an earlier version, without the ids and the ends of sessions: an "
            "event that goes on with a user's last session may open a new one (remove the folder "
            "and repeat the run's command with --resume to have them)"
        ]
    trained_on = past_sessions.of_folder(folder)
    users = trained_on[past_sessions.USER].unique()
    try:
        others = _of_other_users(about, users)
    except InputError as error:
        return trained_on, [*lines, f"only users whom the filters kept are known ({error})"]
    n_others = others[past_sessions.USER].n_unique()
    if n_others:
        path = about["source"]["path"]
        lines.append(f"with {n_others:,} users whom the filters dropped, from {path}")
    return past_sessions.joined([trained_on, others]), lines


def _of_other_users(about: Mapping[str, Any], users: pl.Series) -> pl.DataFrame:
    """Return the sessions of the log's other users; raises InputError where it is not at hand."""
    source = prepared.source_of(about)
    if not files.exist(source.path):
        raise InputError(f"{source.path} is not here any more: {_OTHERS}")
    if files.digest(source.path) != about["source"]["sha256"]:
        raise InputError(f"{source.path} has changed since: {_OTHERS}")
    return past_sessions.of_log(source, recipe(about), without=users)


def read(path: pathlib.Path, about: Mapping[str, Any]) -> pl.DataFrame:
    """Read the sessions of a log or a prepared folder.

    Args:
        path: of the log, which is read and cut as the run's log was, or of the prepared folder.
        about: the run's data.json.

    Returns:
        The sessions, see `past_sessions`.

    Raises:
        InputError: the log or folder is missing, damaged, or has other columns.
    """
    if path.is_dir():
        return past_sessions.of_folder(path)
    return past_sessions.of_log(prepared.source_of(about, path), recipe(about))


def recipe(about: Mapping[str, Any]) -> DataConfig:
    """Return the recipe in a run's data.json."""
    given = about["recipe"]
    return DataConfig(**given | {"drop_types": tuple(given["drop_types"])})


def write_states(
    path: pathlib.Path,
    network: tuple[TrainedRun, Params],
    past: pl.DataFrame,
    config: RecommenderConfig,
) -> str:
    """Write a new state file, with the states after all events: the whole file or nothing.

    Args:
        path: of the state file.
        network: the trained network.
        past: as `read` returns them.
        config: of the recommender.

    Returns:
        A line that says how many users and events were imported.

    Raises:
        InputError: the file cannot be written, or another process wrote one meanwhile.
    """
    without_index = dataclasses.replace(config, index="exact")
    with (
        writing_new(path) as partial,
        Recommender(*network, partial, config=without_index) as recommender,
    ):
        return _take(recommender, past)


def add_states(recommender: Recommender, past: pl.DataFrame) -> str:
    """Write the states after all events into a database without states: all or nothing.

    Args:
        recommender: of the database; no other process writes to it meanwhile.
        past: as `read` returns them.

    Returns:
        A line that says how many users and events were imported, or that another service has
        imported them meanwhile.

    Raises:
        StorageError: another service takes longer for that than this one waits.
    """
    with recommender.alone():
        if len(recommender):  # all of a history, which is one transaction
            return "another service, which started together with this one, has imported the history"
        line = _take(recommender, past)
    recommender.counts.clear()  # they count what comes from now on
    return line


def _take(recommender: Recommender, past: pl.DataFrame) -> str:
    """Take over past sessions; say in a line how many users and events there were."""
    with progress.bar("importing the history", len(past), "events") as advance:
        counts = recommender.take_sessions(past, on_events=advance)
    outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items()))
    return f"imported the history of {len(recommender):,} users: events {outcomes}"
