"""Make what an evaluation of many runs needs: prepared logs first, then the runs.

Shared by the commands that make many runs, reproduce and comparison, and so are their flags.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import setting
from hrnn_jax.files.file_lock import FileLock

from ..common import config_flags, run_folder
from ..common.cli import module
from ..common.text import duration, stopped_text
from . import pool, side_by_side
from .grid import CUTOFF, CUTOFFS, Column, Run
from .time_left import Durations, LogSize, shipped_speeds
from .view import View


@dataclasses.dataclass(frozen=True)
class JobFlags:
    """The flags of a command that makes many runs.

    Attributes:
        n_seeds: How many seeds, 0, 1, ..., each network is trained with.
        rows: The rows, separated by commas; all by default. An unknown one is answered by the list.
        run: Whether to run what is missing; --norun reports on what is done so far.
        root: The folder of all that the command writes.
        prepared_root: The folder that keeps prepared logs.
    """

    n_seeds: int = setting(1, least=1)
    rows: tuple[str, ...] | None = setting(None)
    run: bool = setting(True)
    root: str = setting("out", is_path=True)
    prepared_root: str = setting("out/prepared", is_path=True)


FLAGS = flags.FLAGS
config_flags.define_command(JobFlags, "runs")


def make_runner() -> Runner:
    """Return the runner that the flags describe."""
    return Runner(pathlib.Path(FLAGS.root), FLAGS.prepared_root, side_by_side.number())


def print_summary(
    done: Sequence[Run], wanted: Sequence[Run], report: str, failed: Mapping[str, str]
) -> None:
    """Print how many runs are done and what failed; exit code 1 after a failure.

    Args:
        done: The runs that are complete.
        wanted: All runs.
        report: Where the report is, as a sentence; it exists where a run is done.
        failed: The errors by name.
    """
    print(f"\n{len(done)} of {len(wanted)} runs are done" + (f"; {report}" if done else ""))
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if failed:
        sys.exit(1)


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs the jobs of one evaluation."""

    root: pathlib.Path  # where it writes
    prepared_root: str  # the folder of prepared logs
    side_by_side: int  # how many jobs run at a time

    @contextlib.contextmanager
    def lock(self, kind: str) -> Generator[None]:
        """Keep other processes from working in the root folder.

        Args:
            kind: What works there, for the message to the second process.

        Raises:
            InputError: Another process works there.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / "lock")
        try:
            if not lock.acquire(wait=False):
                raise errors.InputError(
                    f"another {kind} works in {self.root}: wait for it, or give another `root`"
                )
            yield
        finally:
            lock.close()

    def prepare(
        self, columns: Sequence[Column]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Prepare all logs.

        Returns:
            The metadata of each prepared log by column, and the errors of the others.
        """
        data: dict[str, dict[str, Any]] = {}

        def job(column: Column) -> pool.Job:
            described = self.root / "data" / column.key
            path = described.with_name(column.key + ".json")
            given = (f"--json={path}", f"--prepared_dir={self.prepared_root}")

            def result() -> str:
                data[column.key] = json.loads(path.read_text())
                return f"{data[column.key]['table1']['train_events']:,} training events"

            argv = (module("describe"), *column.flags, *given)
            return pool.Job(column.key, argv, described, result=result)

        failed = self.run_jobs([job(column) for column in columns], "logs")
        return {column.key: data[column.key] for column in columns if column.key in data}, failed

    def run_missing(
        self, runs: Sequence[Run], data: Mapping[str, Mapping[str, Any]], title: str
    ) -> dict[Run, str]:
        """Run what is not yet complete.

        Args:
            runs: All runs of a kind.
            data: The metadata of the prepared logs, by column.
            title: What the runs are called, in the plural.

        Returns:
            The errors of the runs that failed.
        """
        missing = {run.name: run for run in runs if not is_complete(run)}
        logs = {key: LogSize.of(meta) for key, meta in data.items()}
        durations = Durations(runs, logs, shipped_speeds())

        def job(run: Run) -> pool.Job:
            def result() -> str:
                durations.learn(run)
                metrics = run_folder.read_metrics(run.folder) or {}
                result = f"Recall@{CUTOFF} {metrics['mean'][f'recall@{CUTOFF}']:.4f}"
                stopped = stopped_text(metrics)
                return f"{result}, stopped: {stopped}" if stopped else result

            return pool.Job(
                run.name,
                run.argv(self.prepared_root),
                run.folder,
                progress=lambda: _progress(run),
                result=result,
                left=functools.partial(durations.left, run),
            )

        jobs = [job(run) for run in missing.values()]
        failed = self.run_jobs(jobs, title, done_before=len(runs) - len(missing))
        return {missing[name]: error for name, error in failed.items()}

    def run_jobs(
        self, jobs: Sequence[pool.Job], title: str, *, done_before: int = 0
    ) -> dict[str, str]:
        """Run jobs, show how far they are, and print a line for each that ends.

        Args:
            jobs: With distinct names.
            title: What they are, in the plural.
            done_before: How many more of them were done earlier.

        Returns:
            The errors of the jobs that failed, by name.
        """
        failed: dict[str, str] = {}
        total = done_before + len(jobs)
        if done_before:
            print(f"{done_before} of {total} {title} were done before", flush=True)
        with (
            View(title, jobs, done_before=done_before, side_by_side=self.side_by_side) as view,
            contextlib.closing(
                pool.run(jobs, side_by_side=self.side_by_side, on_start=view.show)
            ) as outcomes,
        ):
            for number, outcome in enumerate(outcomes, start=done_before + 1):
                job = outcome.job
                if outcome.error:
                    failed[job.name] = outcome.error
                    result = f"FAILED: {outcome.error} (see {job.log})"
                else:
                    result = job.result()
                took = duration(outcome.seconds)
                view.end(job, f"[{number}/{total}] {job.name}: {result}, {took}")
        return failed


def is_complete(run: Run) -> bool:
    """Say whether a run has ended, with all metrics that the tables need."""
    metrics = run_folder.read_metrics(run.folder)
    return metrics is not None and metrics["cutoffs"] == list(CUTOFFS)


def _progress(run: Run) -> str:
    """Say how far a run is, from its folder."""
    if not run.row.size:
        return "counting"
    history = [entry for entry in run_folder.read_history(run.folder) if entry["seed"] == run.seed]
    if not history:
        return f"epoch 1/{run.epochs}"
    last = history[-1]
    where = "ranking" if last["epoch"] >= run.epochs else f"epoch {last['epoch'] + 1}/{run.epochs}"
    rate = last.get("events_per_second") or last["events"] / last["seconds"]
    return f"{where}  loss {last['loss']:.4f}  {rate:,.0f} events/s"
