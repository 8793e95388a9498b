"""The hyper-parameter searches of the tuned comparison."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import polars as pl

from ..common import cli
from ..common.cli import module
from ..jobs.grid import Column
from ..tuning import search_spaces
from .grid import ABLATION, NAMES, NETWORKS, PLUS, UNTUNED, row_flags

PATIENCE = 3  # epochs
ENDED = ("complete", "pruned", "diverged")  # states of trials that count


@dataclasses.dataclass(frozen=True)
class Study:
    """The search of one row on one log, in a folder of its own."""

    column: Column
    row: str
    folder: pathlib.Path
    flags: tuple[str, ...]  # of the log and the row
    trials: int
    epochs: int  # the most that a trial trains
    prepared: str  # the name of the prepared folder

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.column.key} {self.row}"

    @property
    def best_flags(self) -> pathlib.Path:
        """The flag file of the best trial."""
        return self.folder / "best.flags"

    @property
    def mark(self) -> pathlib.Path:
        """The file with the fingerprint of the finished search, next to its folder."""
        return self.folder.with_name(self.folder.name + ".done")

    def argv(self, prepared_dir: str) -> tuple[str, ...]:
        """Return the command that runs the search, or resumes it."""
        return (
            module("tune"),
            *self.flags,
            *self._budget(),
            "--jobs=1",  # studies run side by side, one per core
            f"--study_dir={self.folder}",
            f"--prepared_dir={prepared_dir}",
        )

    def is_done(self) -> bool:
        """Say whether this search, and not one with other flags, is finished."""
        return self.mark.exists() and self.mark.read_text() == self.fingerprint()

    def fingerprint(self) -> str:
        """Return a hash of all that the search depends on; the log may move.

        A changed search space counts as another search. Whether the study can go on is then
        decided by `experiments.tune`.
        """
        given = [flag for flag in cli.expand(self.flags) if not flag.startswith("--events=")]
        spaces = pathlib.Path(search_spaces.__file__).read_text()
        text = json.dumps([self.prepared, given, self._budget(), spaces])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def ended_trials(self) -> pl.DataFrame | None:
        """Return the trials that count, None before the first has ended."""
        path = self.folder / "trials.csv"
        if not path.exists():
            return None
        trials = pl.read_csv(path, infer_schema_length=None)
        return trials.filter(pl.col("state").is_in(ENDED)).cast({"value": pl.Float64})

    def progress(self) -> str:
        """Return how far the search is, as text."""
        trials = self.ended_trials()
        number = 1 if trials is None else min(len(trials) + 1, self.trials)
        return f"trial {number}/{self.trials}  {self.best_value()}".rstrip()

    def best_value(self) -> str:
        """Return the metric of the best trial so far, as text; "" before the first has ended."""
        trials = self.ended_trials()
        best = None if trials is None else trials.filter(state="complete")["value"].max()
        return "" if best is None else f"best {best:.4f}"

    def _budget(self) -> list[str]:
        training = [f"--epochs={self.epochs}", f"--patience={PATIENCE}"]
        return [f"--trials={self.trials}", *(training if self.row in NETWORKS else ())]


def make_studies(
    root: pathlib.Path,
    columns: Sequence[Column],
    keys: Sequence[str],
    prepared: Mapping[str, str],
    *,
    trials: Mapping[str, int],
    epochs: Mapping[str, int],
) -> list[Study]:
    """Return a study for each row with hyper-parameters, and for hrnn_plus where its ablation runs.

    Args:
        root: the folder of the comparison.
        columns: the logs.
        keys: the rows that are wanted.
        prepared: the prepared folder's name by log.
        trials: by log.
        epochs: the most that a trial trains, by log.
    """
    wanted = {PLUS if key in ABLATION else key for key in keys} - {*UNTUNED}
    return [
        Study(
            column=column,
            row=key,
            folder=root / "tune" / column.key / key,
            flags=(*column.flags, *row_flags(key), *((f"--space={key}",) if key == PLUS else ())),
            trials=trials[column.key],
            epochs=epochs[column.key],
            prepared=prepared[column.key],
        )
        for column in columns
        for key in NAMES
        if key in wanted
    ]
