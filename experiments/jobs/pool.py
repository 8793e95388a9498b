"""Run commands side by side, each a process with its share of the cores."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from hrnn_jax.files import provenance

from ..common import plugins
from ..common.cli import module

# Arguments of Python that run another library's modules and scripts: -E, -s and -P, without this
# project's paths and packages of the user's own; and the worker, by its file.
OF_LIBRARY = ("-E", "-s", "-P", str(pathlib.Path(__file__).with_name("worker.py")))


@dataclasses.dataclass(frozen=True)
class Job:
    """A command of this project, to be run in a process of its own."""

    name: str
    argv: tuple[str, ...]  # the full name of its module, then its flags
    folder: pathlib.Path  # where it writes
    progress: Callable[[], str] = str  # returns how far it is, while it runs
    result: Callable[[], str] = str  # returns its result in a few words, after it succeeded
    # Returns the seconds that it will still take, if known, from those since its start.
    left: Callable[[float], float | None] = lambda taken: None

    @property
    def log(self) -> pathlib.Path:
        """The file that receives what the command prints: the folder's name and .log."""
        return self.folder.with_name(self.folder.name + ".log")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A job that has ended."""

    job: Job
    seconds: float
    code: int  # its exit code; negative where a signal ended it
    error: str | None  # the last line it printed, if it failed


def run(
    jobs: Sequence[Job],
    *,
    side_by_side: int,
    on_start: Callable[[Job], None] = lambda job: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[Outcome, None, None]:
    """Run all jobs; one that fails does not stop the others.

    If the caller leaves early, by an exception or ctrl-C, the running jobs are ended first.

    Args:
        jobs: In the order in which they are started.
        side_by_side: How many run at a time; each gets as large a share of the cores.
        on_start: Called with each job as it starts, by a thread of its own.
        meanwhile: Called every second, and when a job has ended, by the caller's thread.

    Yields:
        The outcome of each job as it ends.
    """
    env = environment(max(1, provenance.cores() // side_by_side))
    lifeline, held_open = os.pipe()  # see worker.py; all children read the same one

    def work(job: Job) -> Outcome:
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        on_start(job)
        started = time.monotonic()
        command = [sys.executable, "-m", module("jobs.worker"), *job.argv, *plugins.given()]
        with job.log.open("wb") as log:
            code = subprocess.call(
                command, stdin=lifeline, stdout=log, stderr=subprocess.STDOUT, env=env
            )
        error = last_line(job.log) if code else None
        return Outcome(job, time.monotonic() - started, code, error)

    try:
        with concurrent.futures.ThreadPoolExecutor(side_by_side) as threads:
            pending = {threads.submit(work, job) for job in jobs}
            try:
                while pending:
                    ended, pending = concurrent.futures.wait(
                        pending, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    meanwhile()
                    yield from (future.result() for future in ended)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                os.close(held_open)  # ends the running jobs, and one that a thread starts just now
    finally:
        os.close(lifeline)


def run_of_library(python: str, *command: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a module or a script of another library, no longer than this process.

    Args:
        python: The Python of its virtual environment.
        command: The module, or the path of the script, and then its arguments.
        how: Keyword arguments of `subprocess.run`.
    """
    lifeline, held_open = os.pipe()
    try:
        argv = [python, *OF_LIBRARY, *command]
        return subprocess.run(argv, stdin=lifeline, text=True, check=False, **how)
    finally:
        os.close(held_open)
        os.close(lifeline)


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
