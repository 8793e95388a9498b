"""A study folder: a search that several processes share, and that outlives each of them.

recipe.json   what the study compares; a folder takes up only trials of its own recipe
journal.log   Optuna's record of all trials
trials.csv    a row per trial
best.flags    the best trial so far, for experiments.run
lock          held by the process that draws or ends a trial
running/N     held by the process that runs trial N

The last two are locks of the operating system (flock), which lets go when a process ends, however
it ends: a trial that is recorded as running and whose lock is free was cut off. So nobody waits
for a dead process, and no clock or process id has to be trusted. They work between the machines
that share a folder, if its file system has locks.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import optuna
import polars as pl
from optuna.trial import FrozenTrial, Trial, TrialState

from hrnn_jax import atomic, errors

from ..common import run_folder
from . import search_spaces

FILES = ("recipe.json", "journal.log", "trials.csv", "best.flags", "lock", "running")
SAMPLERS = ("random", "tpe")
PRUNERS = ("median", "none")
FACTS = ("best_epoch", "seconds", "events_per_second")  # of a trial, in trials.csv
FIRST_PRUNED = 2  # the epoch; after one, a low learning rate only looks bad

optuna.logging.set_verbosity(optuna.logging.ERROR)  # tune has a line for each trial itself


class Counts(NamedTuple):
    """How far a study is."""

    done: int  # trials that ended by themselves: complete, pruned or diverged
    running: int  # by other living processes as well
    seconds: float  # of a trial, in the mean


class Study:
    """One process's hold on a study folder. Raises InputError where the folder is another's."""

    def __init__(
        self,
        folder: pathlib.Path,
        recipe: Mapping[str, Any],
        *,
        searched: search_spaces.Space,
        sampler: str,
        pruner: str,
        startup_trials: int,
        best_flags: Callable[[FrozenTrial], str],
    ) -> None:
        """searched: flags to draw. best_flags: writes the best trial as a flag file."""
        self.folder = folder
        self._searched = searched
        self._sampler = sampler
        self._startup_trials = startup_trials
        self._best_flags = best_flags
        self._held: int | None = None  # the file that says that a trial of ours is running
        fresh = not (folder / "lock").exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _Lock(folder / "lock")
        except OSError as error:
            raise errors.InputError(
                f"cannot write --study_dir={folder}: {error.strerror}; choose another folder"
            ) from error
        try:
            with self._lock:
                run_folder.open_folder(
                    folder, recipe, resume=True, flag="study_dir", kind="study", files=FILES
                )
                (folder / "running").mkdir(exist_ok=True)
                storage = _storage(folder / "journal.log", self._lock)
                if not storage.get_all_studies():
                    optuna.create_study(storage=storage, study_name="study", direction="maximize")
                self._study = optuna.load_study(
                    storage=storage,
                    study_name="study",
                    pruner=_pruner(pruner, startup_trials),
                )
        except BaseException:
            if fresh:  # leave nothing in a folder that is not ours
                (folder / "lock").unlink()
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        self._lock.close()

    def begin(self, wanted: int) -> Trial | None:
        """Draw a trial, or return None if `wanted` have ended or are running elsewhere.

        The seed of a draw is the trial's number, so processes do not repeat each other.
        """
        with self._lock:
            self._fail_dead()
            counts = self.counts()
            if counts.done + counts.running >= wanted:
                self._publish()
                return None
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._make_sampler(number)
            self._held = os.open(self._mark(number), os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._held, fcntl.LOCK_EX)
            trial = self._study.ask(self._searched)
            assert trial.number == number
            return trial

    def end(self, trial: Trial, value: float | None, **facts: Any) -> None:
        """Record a trial's end, by its value or (None) by its not having reached one."""
        with self._lock:
            for name, fact in facts.items():
                trial.set_user_attr(name, fact)
            # To Optuna a diverged trial is a pruned one: TPE then keeps away from it.
            state = TrialState.PRUNED if value is None else TrialState.COMPLETE
            self._study.tell(trial, value, state=state)
            self._mark(trial.number).unlink()
            self._let_go()
            self._publish()

    def best(self) -> FrozenTrial | None:
        """Return the best complete trial, the first of equally good ones."""
        complete = [t for t in self._trials() if t.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: trial.value or 0.0, default=None)

    def counts(self) -> Counts:
        """Count the trials."""
        states = [trial.state for trial in self._trials()]
        seconds = [
            trial.user_attrs["seconds"] for trial in self._trials() if "seconds" in trial.user_attrs
        ]
        return Counts(
            done=states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED),
            running=states.count(TrialState.RUNNING),
            seconds=sum(seconds) / max(1, len(seconds)),
        )

    def _trials(self) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _fail_dead(self) -> None:
        """Mark as failed what is recorded as running and held by nobody."""
        for trial in self._trials():
            if trial.state != TrialState.RUNNING:
                continue
            mark = self._mark(trial.number)
            file = os.open(mark, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(file)
            self._study.tell(trial.number, state=TrialState.FAIL)
            mark.unlink()

    def _mark(self, number: int) -> pathlib.Path:
        return self.folder / "running" / str(number)

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        if self._sampler == "random":
            return optuna.samplers.RandomSampler(seed=number)
        # constant_liar: keep away from what other processes are trying.
        return optuna.samplers.TPESampler(
            seed=number, n_startup_trials=self._startup_trials, constant_liar=True
        )

    def _publish(self) -> None:
        """Write trials.csv and best.flags, unless they say this already."""
        rows = [
            {
                "number": trial.number,
                "state": _state(trial),
                "value": None if "diverged" in trial.user_attrs else trial.value,
                **{name: trial.params.get(name) for name in self._searched},
                "epochs": len(trial.intermediate_values),
                **{name: trial.user_attrs.get(name) for name in FACTS},
            }
            for trial in self._trials()
        ]
        texts = {"trials.csv": pl.DataFrame(rows, infer_schema_length=None).write_csv()}
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


def _pruner(name: str, startup_trials: int) -> optuna.pruners.BasePruner:
    if name == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=FIRST_PRUNED)


def _storage(journal: pathlib.Path, lock: _Lock) -> optuna.storages.JournalStorage:
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a full disk cut the last line short: Optuna would stop at it
            os.truncate(journal, whole)
    try:
        return optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(journal), lock)
        )
    except (ValueError, KeyError) as error:
        raise errors.InputError(
            f"{journal} is damaged: remove {journal.parent} and start again"
        ) from error


class _Lock:
    """A lock between processes, also for Optuna's journal; its holder may take it again.

    Optuna's own is a file that a killed process leaves behind: the others wait for it 30 s.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._depth = 0

    def acquire(self) -> bool:
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
