"""Studies as jobs of a larger evaluation: run side by side, resumed, not repeated when finished.

Nothing here imports Optuna: an evaluation without a tuned row does not need it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

import polars as pl

from hrnn_jax.files import atomic
from hrnn_jax.presets import network_of

from ..common import cli
from ..common.cli import module
from ..jobs import pool
from ..jobs.grid import Column
from ..jobs.runner import Runner
from . import search_spaces

ENDED = ("complete", "pruned", "diverged")  # states of trials that count
CHOSEN = pl.Schema(
    {
        **{"column": pl.String, "row": pl.String, "trials": pl.Int64},
        **{"value": pl.Float64, "key": pl.String, "setting": pl.String},
    }
)


@dataclasses.dataclass(frozen=True)
class StudyJob:
    """The search of one row on one log, in a folder of its own."""

    column: Column
    row: str
    folder: pathlib.Path
    flags: tuple[str, ...]  # of the log and the row
    prepared: str  # the name of the prepared folder
    trials: int
    epochs: int | None  # the most that a trial trains; None for a method without training
    training: tuple[str, ...] = ()  # further flags of tune on how a network's trials are run

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.column.key} {self.row}"

    @property
    def best_flags(self) -> pathlib.Path:
        """The flag file of the best trial."""
        return self.folder / "best.flags"

    @property
    def trials_csv(self) -> pathlib.Path:
        """The file of the trials."""
        return self.folder / "trials.csv"

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
        """Say whether this search, and not one with other flags, is finished and still there."""
        return (
            all(path.exists() for path in (self.mark, self.best_flags, self.trials_csv))
            and self.mark.read_text() == self.fingerprint()
        )

    def finish(self) -> None:
        """Note that the search is finished."""
        atomic.write(self.mark, self.fingerprint())

    def fingerprint(self) -> str:
        """Return a hash of all that the search depends on; the log may move.

        A changed search space counts as another search. Whether the study can go on is then
        decided by `experiments.tune`.
        """
        given = [flag for flag in cli.expand(self.flags) if not flag.startswith("--events=")]
        # A preset's settings stand there too: its search is the network's.
        given = [
            f"--model={network_of(cli.split(flag)[1])}" if flag.startswith("--model=") else flag
            for flag in given
        ]
        text = json.dumps([self.prepared, given, self._budget(), search_spaces.table()])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def tuned_flags(self) -> tuple[str, ...]:
        """Return the flags of a run with the best trial's values, without those of the log.

        The flag file of a study names the place of the log at that time.
        """
        moved = [flag for flag in cli.expand(self.column.flags) if flag.startswith("--events=")]
        return (f"--flagfile={self.best_flags}", *moved)

    def ended_trials(self) -> pl.DataFrame | None:
        """Return the trials that count, None before the first has ended."""
        if not self.trials_csv.exists():
            return None
        trials = pl.read_csv(self.trials_csv, glob=False, infer_schema_length=None)
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
        training = [] if self.epochs is None else [f"--epochs={self.epochs}", *self.training]
        return [f"--trials={self.trials}", *training]


def run_missing(studies: Sequence[StudyJob], runner: Runner) -> dict[str, str]:
    """Run the studies that are not yet done.

    Args:
        studies: All studies.
        runner: Of the evaluation that they belong to.

    Returns:
        The errors of those that failed, by name.
    """

    def job(study: StudyJob) -> pool.Job:
        def result() -> str:
            study.finish()
            return study.best_value()

        argv = study.argv(runner.prepared_root)
        return pool.Job(study.name, argv, study.folder, study.progress, result)

    missing = [job(study) for study in studies if not study.is_done()]
    failed = runner.run_jobs(missing, "studies", done_before=len(studies) - len(missing))
    return {f"tuning {name}": why for name, why in failed.items()}


def tuned_flags(studies: Sequence[StudyJob]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return `StudyJob.tuned_flags` by column and row, of the studies that have a best trial."""
    return {
        (study.column.key, study.row): study.tuned_flags()
        for study in studies
        if study.best_flags.exists()
    }


def chosen_frame(studies: Sequence[StudyJob]) -> pl.DataFrame:
    """Return column, row, trials, value, key, setting: the best trial of each study.

    trials: the number that ended. value: the best one's metric on the validation split.
    """
    lines = []
    for study in studies:
        trials = study.ended_trials()
        if trials is None or not study.best_flags.exists():
            continue
        value = trials.filter(state="complete")["value"].max()
        given = map(cli.split, cli.expand([f"--flagfile={study.best_flags}"]))
        settings = dict(given)
        first = trials.columns.index("value") + 1
        searched = trials.columns[first : trials.columns.index("epochs")]
        trained = [] if study.epochs is None else ["epochs"]
        lines += [
            (study.column.key, study.row, len(trials), value, key, settings[key])
            for key in (*searched, *trained)
        ]
    return pl.DataFrame(lines, schema=CHOSEN, orient="row")
