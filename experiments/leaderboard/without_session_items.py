"""The runs of a leaderboard once more, ranked without the items that the session has so far.

On a log without repeats a target is none of these items. A row that learns so from the log would
be ahead of the others by this alone, so there all rows are ranked both ways: by the same weights,
in a folder of its own each, as `experiments.run --resume --exclude_session_items` ranks a finished
run anew.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hrnn_jax.files import run_lock

from ..common import run_folder
from ..jobs.grid import Run
from .grid import NAMES

FOLDER = "without_session_items"  # of the runs, in the root; and the name of the CSV file
# Of a run folder, what is written anew.
_OF_RANKING = (run_lock.FILE, run_folder.METRICS, run_folder.RANKS, run_folder.RECOMMENDED)


def logs_without_repeats(data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys of the logs in whose sessions no item comes twice.

    Their recipe drops repeats, and their events have no type: of an item, one event of each type is
    kept.

    Args:
        data: by column, what `experiments.describe` wrote.
    """
    return [
        key
        for key, of in data.items()
        if of["recipe"]["drop_repeats"] and of["columns"]["type"] is None
    ]


def ranked_anew(root: pathlib.Path, runs: Sequence[Run], columns: Collection[str]) -> list[Run]:
    """Return the runs that rank the models on some logs without the items of the session.

    Args:
        root: the folder of the leaderboard.
        runs: all runs, see `ordered_runs`.
        columns: the keys of the logs.
    """
    return [
        dataclasses.replace(
            run,
            exclude_session_items=True,
            folder=root / FOLDER / run.folder.relative_to(root / "runs"),
        )
        for run in runs
        if run.column.key in columns and run.row.key in NAMES
    ]


def copy_weights(root: pathlib.Path, runs: Sequence[Run]) -> None:
    """Copy what was trained into the folders of runs that have none yet; all of it, or nothing.

    Args:
        root: the folder of the leaderboard.
        runs: of `ranked_anew`, whose own runs are complete.
    """
    for run in runs:
        if run.row.size and not run.folder.exists():
            partial = run.folder.with_name(run.folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(
                root / "runs" / run.folder.relative_to(root / FOLDER),
                partial,
                ignore=shutil.ignore_patterns(*_OF_RANKING),
            )
            partial.rename(run.folder)
