"""A study folder: a search that several processes share and continue.

recipe.json   what the trials measure; a study goes on only with the same recipe
journal.log   Optuna's record of all trials
trials.csv    a row per trial
best.flags    the best trial so far, for experiments.run
lock          locked by the process that draws or ends a trial
running/N     locked by the process that runs trial N
processes/    what each process of a command prints; kept where it failed

lock and running/N are locks of the operating system (flock), which releases them when a process
ends, however it ends: a trial that is recorded as running and whose lock is free was cut off. So no
process waits for a dead one, and no clock or process id has to be trusted. Machines that share a
folder can share a study, if the file system has locks.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import optuna
import polars as pl
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from hrnn_jax import errors
from hrnn_jax.files import atomic
from hrnn_jax.files.file_lock import FileLock

from ..common import run_folder
from . import sampling
from .search_spaces import Search

PROCESSES = "processes"
FILES = ("recipe.json", "journal.log", "trials.csv", "best.flags", "lock", "running", PROCESSES)
SPEED = ("compile_seconds", "events_per_second")
_SEED = "seed"  # of a trial's draw, among its attributes
_MOST_DRAWS = 3  # of a trial whose process ends each time
FACTS = ("best_epoch", "seconds", *SPEED)  # of a trial, in trials.csv

optuna.logging.set_verbosity(optuna.logging.ERROR)  # tune prints a line for each trial itself


class Counts(NamedTuple):
    """The number of a study's trials."""

    done: int  # complete, pruned or diverged, but not cut off
    running: int  # in all living processes
    seconds: float  # that a trial takes, the mean


class Study:
    """A study folder as one process uses it."""

    def __init__(
        self,
        folder: pathlib.Path,
        recipe: Mapping[str, Any],
        search: Search,
        best_flags: Callable[[FrozenTrial], str],
    ) -> None:
        """Make a study folder, or open one.

        Args:
            folder: The folder.
            recipe: What the trials measure.
            search: What is searched, and how.
            best_flags: Returns the flag file of the best trial.

        Raises:
            InputError: The folder cannot be written, or holds a study of another recipe or
                something else.
        """
        self.folder = folder
        self._search = search
        self._best_flags = best_flags
        self._running: FileLock | None = None  # of the trial that this process runs
        fresh = not (folder / "lock").exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / "lock")
        except OSError as error:
            raise errors.InputError(
                f"cannot write `study_dir`={folder}: {error.strerror}; choose another folder"
            ) from error
        try:
            with self._lock:
                run_folder.open_folder(folder, recipe, flag="study_dir", kind="study", files=FILES)
                (folder / "running").mkdir(exist_ok=True)
                storage = _open_storage(folder / "journal.log", self._lock)
                if not storage.get_all_studies():
                    optuna.create_study(storage=storage, study_name="study", direction="maximize")
                pruner = sampling.pruner(search)
                self._study = optuna.load_study(storage=storage, study_name="study", pruner=pruner)
                self._publish()
        except BaseException:
            if fresh:  # leave nothing in a folder that is no study's
                (folder / "lock").unlink()
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the locks."""
        self._unlock_trial()
        self._lock.close()

    def begin(self, wanted: int) -> Trial | None:
        """Draw a trial, unless `wanted` trials have ended or are running.

        Its seed is the first number that no other trial has, but for those that were cut off: what
        a stopped process was trying is drawn again, three times at most, as that may have ended it.

        Returns:
            The trial, or None.
        """
        with self._lock:
            self._fail_dead()
            counts = self.counts()
            if counts.done + counts.running >= wanted:
                self._publish()
                return None
            number = len(self.trials())
            seed = self._next_seed()
            self._study.sampler = sampling.sampler(self._search, seed)
            self._running = FileLock(self._running_file(number))
            self._running.acquire()
            trial = self._study.ask(sampling.distributions(self._search.space))
            assert trial.number == number
            trial.set_user_attr(_SEED, seed)
            self._publish()
            return trial

    def _next_seed(self) -> int:
        taken, cut_off = set[int](), collections.Counter[int]()
        for trial in self.trials():
            # A study of an earlier version notes none.
            seed = trial.user_attrs.get(_SEED, trial.number)
            if trial.state == TrialState.FAIL:
                cut_off[seed] += 1
            else:
                taken.add(seed)
        taken.update(seed for seed, times in cut_off.items() if times == _MOST_DRAWS)
        return next(seed for seed in itertools.count() if seed not in taken)

    def note(self, number: int, epochs: float) -> None:
        """Note how many epochs a trial of this process has trained, for the one that shows it."""
        self._running_file(number).write_text(f"{epochs:.3f}")

    def noted(self, number: int) -> float:
        """Return how many epochs a running trial has trained, 0 where nothing is noted."""
        try:
            return float(self._running_file(number).read_text() or 0)
        except OSError:  # it has just ended
            return 0.0

    def end(self, trial: Trial, value: float | None, **facts: Any) -> None:
        """Record the end of a trial.

        Args:
            trial: The trial.
            value: Its value; None if it was pruned or diverged.
            **facts: Further columns of trials.csv, see FACTS, and why it diverged.
        """
        with self._lock:
            for name, fact in facts.items():
                trial.set_user_attr(name, fact)
            # To Optuna a diverged trial is a pruned one: TPE then keeps away from it.
            state = TrialState.PRUNED if value is None else TrialState.COMPLETE
            self._study.tell(trial, value, state=state)
            self._running_file(trial.number).unlink()
            self._unlock_trial()
            self._publish()

    def best(self) -> FrozenTrial | None:
        """Return the best complete trial, the first of equally good ones, or None."""
        complete = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    def counts(self) -> Counts:
        """Count the trials."""
        trials = self.trials()
        states = [trial.state for trial in trials]
        seconds = [t.user_attrs["seconds"] for t in trials if "seconds" in t.user_attrs]
        return Counts(
            done=states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED),
            running=states.count(TrialState.RUNNING),
            seconds=sum(seconds) / max(1, len(seconds)),
        )

    def trials(self) -> Sequence[FrozenTrial]:
        """Return all trials so far, by their number."""
        return self._study.get_trials(deepcopy=False)

    def fail_dead(self) -> None:
        """Record as failed the trials whose process ended while they ran."""
        with self._lock:
            self._fail_dead()
            self._publish()

    def _fail_dead(self) -> None:
        for trial in self.trials():
            if trial.state == TrialState.RUNNING:
                path = self._running_file(trial.number)
                lock = FileLock(path)
                if lock.acquire(wait=False):
                    self._study.tell(trial.number, state=TrialState.FAIL)
                    path.unlink()
                lock.close()

    def _running_file(self, number: int) -> pathlib.Path:
        return self.folder / "running" / str(number)

    def _unlock_trial(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def _publish(self) -> None:
        """Write trials.csv and best.flags where their content has changed."""
        rows = [
            {
                "number": trial.number,
                "state": _state(trial),
                "value": None if "diverged" in trial.user_attrs else trial.value,
                **{name: trial.params.get(name) for name in self._search.space},
                "epochs": len(trial.intermediate_values),
                **{name: trial.user_attrs.get(name) for name in FACTS},
            }
            for trial in self.trials()
        ]
        heads = ["number", "state", "value", *self._search.space, "epochs", *FACTS]
        table = pl.DataFrame(rows, None if rows else heads, infer_schema_length=None)
        texts = {"trials.csv": table.write_csv()}
        if best := self.best():
            texts["best.flags"] = self._best_flags(best)
        for name, text in texts.items():
            path = self.folder / name
            if not path.exists() or path.read_text() != text:
                atomic.write(path, text)


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return "cut off"
    return "diverged" if "diverged" in trial.user_attrs else trial.state.name.lower()


def _open_storage(journal: pathlib.Path, lock: FileLock) -> JournalStorage:
    """Open Optuna's record of the trials, or make it; the caller holds the lock.

    Optuna's own lock is a file that a killed process leaves behind; the others wait 30 s for it.
    """
    whole = b""
    if journal.exists():  # Optuna cannot read past a last line that a full disk cut short
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        os.truncate(journal, len(whole))
    try:
        # Optuna passes over a last line that is bad, and fails when it reads on.
        if not all(isinstance(json.loads(line), dict) for line in whole.splitlines()):
            raise ValueError
        backend = JournalFileBackend(str(journal), lock)  # pyright: ignore[reportArgumentType]
        return JournalStorage(backend)
    except (ValueError, TypeError, KeyError) as error:
        raise errors.InputError(
            f"{journal} is damaged: remove {journal.parent} and start again"
        ) from error
