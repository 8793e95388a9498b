"""Run commands side by side, each a process with its share of the cores."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from ..common import machine
from ..common.package import module

POLL_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Job:
    """A command of this project."""

    name: str
    argv: tuple[str, ...]  # the module, then its flags
    folder: pathlib.Path  # where it writes; its output goes to a file of that name and .log


@dataclasses.dataclass(frozen=True)
class Running:
    """A job under way."""

    job: Job
    started: float  # time.monotonic()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A job that has ended."""

    job: Job
    seconds: float
    error: str | None  # the last line it printed, if it failed


def environment(threads: int) -> dict[str, str]:
    """Return what gives a worker `threads` threads, and large pages for its tables."""
    numbers = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        **os.environ,
        **dict.fromkeys(numbers, str(threads)),  # NPROC is XLA's
    }


def run(
    jobs: Sequence[Job],
    *,
    side_by_side: int,
    on_poll: Callable[[list[Running]], None] = lambda running: None,
) -> Iterator[Outcome]:
    """Yield each job's outcome as it ends; a job that fails does not stop the others.

    If the caller leaves early, by an exception or ctrl-C, the jobs under way are ended first.
    """
    shared = environment(max(1, machine.cores() // side_by_side))
    waiting = collections.deque(jobs)
    running: dict[subprocess.Popen[bytes], Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                job = waiting.popleft()
                running[_start(job, shared)] = Running(job, time.monotonic())
            on_poll(list(running.values()))
            for process in [process for process in running if process.poll() is not None]:
                ended = running.pop(process)
                _close(process)
                error = last_line(log_of(ended.job)) if process.returncode else None
                yield Outcome(ended.job, time.monotonic() - ended.started, error)
                break  # a free place is filled before anything else is told
            else:
                time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            _close(process)
        for process in running:
            process.wait()


def log_of(job: Job) -> pathlib.Path:
    """Return the file with what a job prints."""
    return job.folder.with_name(job.folder.name + ".log")


def _start(job: Job, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with log_of(job).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module("jobs.worker"), *job.argv],
            stdin=subprocess.PIPE,  # the lifeline
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def _close(process: subprocess.Popen[bytes]) -> None:
    """Cut the lifeline."""
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()


def last_line(log: pathlib.Path) -> str:
    """Return the last that a command printed, which is its error if it failed."""
    lines = log.read_text(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("error: ") if said else "ended without a word (killed?)"
