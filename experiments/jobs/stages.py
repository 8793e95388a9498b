"""What an evaluation of many runs goes through: one at a time in its folder, logs, then jobs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hrnn_jax import errors

from ..common import run_folder
from ..common.package import module
from ..common.text import duration
from . import grid, pool
from . import view as jobs_view


@contextlib.contextmanager
def alone(root: pathlib.Path, what: str) -> Iterator[None]:
    """Keep a second one, of what people call `what`, out of the same folder."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.InputError(
                f"another {what} is at work in {root}: wait for it, or give another --root"
            ) from error
        yield


def prepare(
    root: pathlib.Path, columns: Sequence[grid.Column], *, prepared_root: str, side_by_side: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Prepare all logs; return what each holds, by column, and why others could not be."""
    jobs = []
    for column in columns:
        described = root / "data" / column.key
        flags_ = (f"--json={described}.json", f"--prepared_dir={prepared_root}")
        jobs.append(pool.Job(column.key, (module("describe"), *column.flags, *flags_), described))
    data, failed = {}, {}
    with jobs_view.view(f"preparing {len(jobs)} logs") as view:
        for outcome in _outcomes(jobs, side_by_side, view.show):
            if outcome.error:
                failed[outcome.job.name] = outcome.error
            else:
                path = outcome.job.folder.with_name(outcome.job.folder.name + ".json")
                data[outcome.job.name] = json.loads(path.read_text())
    return {c.key: data[c.key] for c in columns if c.key in data}, failed


def work(
    jobs: Sequence[pool.Job],
    *,
    what: str,
    before: int,
    side_by_side: int,
    told: Callable[[pool.Running], str],
    ended: Callable[[pool.Job], str],
    left: Callable[..., float | None] = lambda rest, running: None,
) -> dict[str, str]:
    """Do jobs, and show how far they are; return why some failed, by name.

    what: they are, in the plural. before: how many more were done before. told: says how far a
    job under way is; ended: notes a job that succeeded, and says what it came to. left: the
    seconds to the end of all, of the names of those that have not ended and of those under way.
    """
    failed: dict[str, str] = {}
    done, total = before, before + len(jobs)
    rest = dict.fromkeys(job.name for job in jobs)
    if before:
        print(f"{before} of {total} {what} were done before", flush=True)
    with jobs_view.view("") as view:

        def show(running: list[pool.Running]) -> None:
            seconds = left(rest, running)
            text = f"{done} of {total} {what} done"
            text += f", {len(failed)} failed" if failed else ""
            text += f", about {duration(seconds)} left" if seconds is not None else ""
            view.title = text
            view.show(running, [told(job) for job in running])

        for outcome in _outcomes(jobs, side_by_side, show):
            job = outcome.job
            del rest[job.name]
            if outcome.error:
                failed[job.name] = outcome.error
                said = f"FAILED: {outcome.error} (see {pool.log_of(job)})"
            else:
                done += 1
                said = ended(job)
            place = f"[{done + len(failed)}/{total}]"
            view.say(f"{place} {job.name}: {said}, {duration(outcome.seconds)}")
    return failed


def make(
    runs: Sequence[grid.Run],
    data: Mapping[str, Mapping[str, Any]],
    *,
    what: str,
    prepared_root: str,
    side_by_side: int,
) -> dict[grid.Run, str]:
    """Make the runs that are not yet done; return why some failed. what: see `work`."""
    todo = {run.name: run for run in runs if not is_done(run)}
    events = {key: meta["table1"]["train_events"] for key, meta in data.items()}
    clock = jobs_view.Clock(runs, events, side_by_side=side_by_side)

    def ended(job: pool.Job) -> str:
        run = todo[job.name]
        clock.learn(run)
        recall = run_folder.read_metrics(run.folder)["mean"][f"recall@{grid.CUTOFF}"]
        return f"Recall@{grid.CUTOFF} {recall:.4f}"

    failed = work(
        [pool.Job(run.name, run.argv(prepared_root), run.folder) for run in todo.values()],
        what=what,
        before=len(runs) - len(todo),
        side_by_side=side_by_side,
        told=lambda job: jobs_view.progress(todo[job.job.name]),
        ended=ended,
        left=lambda rest, running: clock.left(
            [todo[name] for name in rest], {todo[job.job.name]: job.started for job in running}
        ),
    )
    return {todo[name]: why for name, why in failed.items()}


def is_done(run: grid.Run) -> bool:
    """Say whether a run has ended, and measured what the tables need."""
    metrics = run_folder.read_metrics(run.folder)
    return metrics is not None and metrics["cutoffs"] == list(grid.CUTOFFS)


def _outcomes(jobs: Sequence[pool.Job], side_by_side: int, show: Any) -> Iterator[pool.Outcome]:
    outcomes = pool.run(jobs, side_by_side=side_by_side, on_poll=show)
    with contextlib.closing(outcomes):
        yield from outcomes
