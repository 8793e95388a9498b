"""The hyper-parameter searches of the tuned comparison."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Mapping, Sequence

from ..jobs.grid import Column
from ..tuning.study_job import StudyJob
from .grid import NETWORKS, SEARCHED, TUNED_PLUS, row_flags

PATIENCE = 3  # epochs


def make_studies(
    root: pathlib.Path,
    columns: Sequence[Column],
    keys: Sequence[str],
    prepared: Mapping[str, str],
    *,
    trials: Mapping[str, int],
    epochs: Mapping[str, int],
    without_repeats: Collection[str] = (),
) -> list[StudyJob]:
    """Return a study for each row that is tuned.

    Args:
        root: the folder of the comparison.
        columns: the logs.
        keys: the rows that are wanted.
        prepared: the prepared folder's name by log.
        trials: by log.
        epochs: the most that a trial trains, by log.
        without_repeats: the logs on which trials are ranked without the items of the session.
    """
    return [
        StudyJob(
            column=column,
            row=key,
            folder=root / "tune" / column.key / key.replace(" ", "_"),
            flags=(
                *column.flags,
                *row_flags(key),
                *(("--exclude_session_items",) if column.key in without_repeats else ()),
            ),
            prepared=prepared[column.key],
            trials=trials[column.key],
            epochs=epochs[column.key] if key in (*NETWORKS, TUNED_PLUS) else None,
            training=(f"--patience={PATIENCE}",),
        )
        for column in columns
        for key in SEARCHED
        if key in keys
    ]
