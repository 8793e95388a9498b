"""The searches behind the tuned rows of Table 3, and these rows with the settings that they found.

Table 2's settings were tuned on XING. On other logs the large networks that have a tuned row are
searched as in Section 4.2: at random, on the validation split. The best settings are then run as
those of all other rows: on the whole log, for as many epochs.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from ..common import cli
from ..jobs.grid import Column, is_tuned
from ..jobs.paper_rows import Row
from ..tuning.study_job import StudyJob, tuned_flags

TRIALS, EPOCHS, USER_SHARE = 12, 3, 0.25
NOTE = (
    f"Tuned: random search on the validation split as in Section 4.2, {TRIALS} trials of at most "
    f"{EPOCHS} epochs on a share of {USER_SHARE:g} of the users, by Recall@5 after a trial's best "
    "epoch. The settings of the best trial, see Table 2 and chosen.csv, are then trained and "
    "tested as those of the other rows, on all users."
)
Cells = Sequence[tuple[Column, Row]]


def make_studies(root: pathlib.Path, cells: Cells, prepared: Mapping[str, str]) -> list[StudyJob]:
    """Return the study of each tuned row of each column.

    Args:
        root: The folder of the reproduction.
        cells: All pairs of data and model; those of other rows have no study.
        prepared: The prepared folder's name, by column.
    """
    return [
        StudyJob(
            column=column,
            row=row.key,
            folder=root / "tune" / column.key / row.key,
            flags=(*column.flags, *row.flags),
            prepared=prepared[column.key],
            trials=TRIALS,
            epochs=EPOCHS,
            training=(f"--user_share={USER_SHARE}",),
        )
        for column, row in cells
        if is_tuned(row)
    ]


def with_best_settings(cells: Cells, studies: Sequence[StudyJob]) -> list[tuple[Column, Row]]:
    """Return all cells, the tuned rows with the settings that were found.

    Args:
        cells: All pairs of data and model.
        studies: The searches; a tuned row whose search has no best trial is left out.
    """
    tuned = tuned_flags(studies)
    found: list[tuple[Column, Row]] = []
    for column, row in cells:
        if is_tuned(row):
            flags = tuned.get((column.key, row.key))
            if flags is None:
                continue
            # Not the best trial's epochs: it saw a part of the users.
            epochs = [flag for flag in cli.expand(row.flags) if flag.startswith("--epochs=")]
            row = dataclasses.replace(row, flags=(*flags, *epochs))
        found.append((column, row))
    return found
