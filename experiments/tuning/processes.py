"""Run the trials of a study in processes side by side, and show them: rows on a terminal only."""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import os
import statistics
import sys
from collections.abc import Sequence

from absl import flags
from optuna.trial import FrozenTrial, TrialState
from rich.progress import TaskID

from ..common import cli, model_flags, progress
from ..common.cli import module
from ..common.text import duration
from ..jobs import pool
from ..jobs.view import Rows
from . import trials
from .study import PROCESSES, Study

FLAGS = flags.FLAGS


def run_all(study: Study, side_by_side: int) -> None:
    """Run trials in processes until the study has --trials of them.

    A process that is killed leaves its trial to the others. Exits with the code of the last
    process that failed if trials are missing when all have ended.

    Args:
        study: The study.
        side_by_side: How many processes there are.
    """
    argv = (module("tuning.worker"), *sys.argv[1:])
    logs = study.folder / PROCESSES
    jobs = [
        pool.Job(f"process {number}", argv, logs / f"{os.getpid()}_{number}")
        for number in range(1, side_by_side + 1)
    ]
    failed: list[pool.Outcome] = []
    try:
        with (
            _TrialRows(study, side_by_side) as rows,
            contextlib.closing(
                pool.run(jobs, side_by_side=side_by_side, meanwhile=rows.show_trials)
            ) as outcomes,
        ):
            for outcome in outcomes:
                if outcome.error:
                    failed.append(outcome)
                    log = outcome.job.log
                    rows.say(f"{outcome.job.name} failed: {outcome.error} (see {log})")
    finally:
        for log in {job.log for job in jobs} - {outcome.job.log for outcome in failed}:
            log.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            logs.rmdir()  # unless a log is left
    study.fail_dead()
    counts = study.counts()
    if failed and counts.done + counts.running < FLAGS.trials:
        text = f"{counts.done} of {FLAGS.trials} trials are done: {failed[-1].error}"
        cli.fail(RuntimeError(text), code=max(1, failed[-1].code))


class _TrialRows(Rows):
    """A row for each trial that runs, and a line for each that has ended."""

    def __init__(self, study: Study, side_by_side: int) -> None:
        self._study = study
        self._side_by_side = side_by_side
        self._trials: Sequence[FrozenTrial] = study.trials()
        self._ended = {trial.number for trial in self._trials if trial.state.is_finished()}
        self._rows: dict[int, TaskID] = {}
        self._trained: collections.defaultdict[int, float] = collections.defaultdict(float)
        self._every = progress.Every(trials.SAID_EVERY)
        self._counts = study.counts()
        super().__init__(
            "trials", FLAGS.trials, done_before=self._counts.done, summary=self._summary
        )

    def show_trials(self) -> None:
        """Show what the processes have recorded since the last call."""
        self._trials, self._counts = self._study.trials(), self._study.counts()
        for trial in self._trials:
            number = trial.number
            if trial.state == TrialState.RUNNING and number not in self._rows:
                self._rows[number] = self.add_row(
                    f"trial {number}",
                    functools.partial(self._progress, number),
                    FLAGS.epochs if model_flags.is_network() else None,
                )
            elif trial.state.is_finished() and number not in self._ended:
                self._ended.add(number)
                if number in self._rows:
                    self.remove_task(self._rows.pop(number))
                if trial.state != TrialState.FAIL:  # one that was cut off is drawn again
                    self.count()
                    self.say(trials.line(self._study, number, self._side_by_side))
        for number, row in self._rows.items():
            known = (self._trained[number], self._trials[number].last_step or 0)
            self._trained[number] = max(*known, self._study.noted(number))
            if model_flags.is_network():
                self.update(row, completed=self._trained[number])
        if not self.console.is_terminal and self._rows and self._every.passed():
            running = (f"trial {number} {self._progress(number)}" for number in self._rows)
            self.say(f"{self._summary()}; {'; '.join(running)}")

    def _progress(self, number: int) -> str:
        """Say how far a trial is."""
        trial = self._trials[number]
        if not model_flags.is_network():
            return "counting"
        where = trials.epoch_text(self._trained[number])
        if trial.last_step is None:
            return where
        value = trial.intermediate_values[trial.last_step]
        return f"{where}  {FLAGS.objective} {value:.4f}  {trials.rate_text(trial)}"

    def _summary(self) -> str:
        done, _, seconds = self._counts
        seconds = seconds or self._seconds_of_first()
        left = max(0, FLAGS.trials - done) * seconds / self._side_by_side
        return f"{done} of {FLAGS.trials}" + (f", about {duration(left)} left" if left else "")

    def _seconds_of_first(self) -> float:
        """Return the seconds that a trial takes by those that run; 0 before that is known."""
        now = datetime.datetime.now()
        expected = [
            (now - begun).total_seconds() * FLAGS.epochs / trained
            for number, trained in self._trained.items()
            if trained and (begun := self._trials[number].datetime_start)
        ]
        return statistics.median(expected) if expected else 0.0
