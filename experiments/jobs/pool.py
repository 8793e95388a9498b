"""Run commands side by side, each a process with its share of the cores."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from ..common import machine
from ..common.package import module


@dataclasses.dataclass(frozen=True)
class Job:
    """A command of this project, to be run in a process of its own."""

    name: str
    argv: tuple[str, ...]  # the full name of its module, then its flags
    folder: pathlib.Path  # where it writes
    progress: Callable[[], str] = str  # returns how far it is, while it runs
    result: Callable[[], str] = str  # returns its result in a few words, after it succeeded

    @property
    def log(self) -> pathlib.Path:
        """The file that receives what the command prints: the folder's name and .log."""
        return self.folder.with_name(self.folder.name + ".log")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A job that has ended."""

    job: Job
    seconds: float
    error: str | None  # the last line it printed, if it failed


def run(
    jobs: Sequence[Job], *, side_by_side: int, on_start: Callable[[Job], None] = lambda job: None
) -> Generator[Outcome, None, None]:
    """Run all jobs; one that fails does not stop the others.

    If the caller leaves early, by an exception or ctrl-C, the running jobs are ended first.

    Args:
        jobs: In the order in which they are started.
        side_by_side: How many run at a time; each gets as large a share of the cores.
        on_start: Called with each job as it starts, by a thread of its own.

    Yields:
        The outcome of each job as it ends.
    """
    children = _Children(environment(max(1, machine.cores() // side_by_side)), on_start)
    with concurrent.futures.ThreadPoolExecutor(side_by_side) as threads:
        futures = [threads.submit(children.run, job) for job in jobs]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            children.end()


def environment(threads: int) -> dict[str, str]:
    """Return environment variables for a child process.

    Args:
        threads: How many threads it may use.

    Returns:
        This process's variables with the limits on threads, and large pages for malloc, which make
        updates of the item tables faster.
    """
    limits = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        **os.environ,
        **dict.fromkeys(limits, str(threads)),  # NPROC is XLA's
    }


def last_line(log: pathlib.Path) -> str:
    """Return the last line that a command printed, which is its error if it failed."""
    lines = log.read_text(errors="replace").split("\n")
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1].removeprefix("error: ") if printed else "ended without a message (killed?)"


class _Children:
    """The running processes; after `end`, no new one is started."""

    def __init__(self, env: Mapping[str, str], on_start: Callable[[Job], None]) -> None:
        self._env = env
        self._on_start = on_start
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, job: Job) -> Outcome:
        """Run a job to its end."""
        started = time.monotonic()
        with self._lock:
            if self._ended:
                raise concurrent.futures.CancelledError
            process = self._start(job)
            self._running.add(process)
        self._on_start(job)
        process.wait()
        with self._lock:
            self._running.remove(process)
            _cut_lifeline(process)
        error = last_line(job.log) if process.returncode else None
        return Outcome(job, time.monotonic() - started, error)

    def end(self) -> None:
        """End all that run; their threads wait for the ends."""
        with self._lock:
            self._ended = True
            for process in self._running:
                _cut_lifeline(process)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module("jobs.worker"), *job.argv],
                stdin=subprocess.PIPE,  # the lifeline: see worker.py
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
            )


def _cut_lifeline(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
