"""Run a command of this project in a process of its own, and measure its time and its memory."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import psutil

from hrnn_jax import errors
from hrnn_jax.files import provenance

from ..common.cli import module
from ..jobs import pool

SAMPLE_SECONDS = 0.01  # between two readings of a process's memory


class Cost(NamedTuple):
    """What a command cost."""

    seconds: float  # from the start of its process to its end, or to the line waited for
    peak_bytes: int  # the largest resident memory among all samples
    last_line: str  # that was read


def measure(*command: str, until: str = "", **how: Any) -> Cost:
    """Run a command, and measure it to its end or to a line that it prints.

    Args:
        command: Arguments of Python; `of_module` makes them of a module's name and flags.
        until: Regular expression of the line at which the process is ended.
        how: Keyword arguments of `running`.

    Raises:
        InputError: The command failed, or ended before that line; with the last line it printed.
    """
    started, peak, ended = time.perf_counter(), 0, False
    with (
        concurrent.futures.ThreadPoolExecutor(1) as reader,
        running(*command, **how) as process,
    ):
        reading = reader.submit(wait_for, process, until)
        while not ended:
            ended = bool(concurrent.futures.wait([reading], SAMPLE_SECONDS).done)
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, process.memory_info().rss)
        seconds = time.perf_counter() - started
        last_line = reading.result()  # raises where the command failed
    return Cost(seconds, peak, last_line)


def of_module(name: str, *flags: str) -> tuple[str, ...]:
    """Return Python's arguments for a command that ends when this process does."""
    return ("-m", module("jobs.worker"), module(name), *flags)


@contextlib.contextmanager
def running(
    *command: str,
    cache: pathlib.Path | None = None,
    share: int = 1,
    python: pathlib.Path | None = None,
    core: int | None = None,
) -> Generator[psutil.Popen]:
    """Start Python with these arguments, and end it after the block.

    Args:
        command: Arguments of Python.
        cache: The folder of compiled programs.
        share: How many such commands share the cores.
        python: The Python to start, by default that of this process.
        core: Bind it to this one of the cores, counted from the last, with one thread; where the
            system cannot bind, one thread.
    """
    threads = 1 if core is not None else max(1, provenance.cores() // share)
    environment = pool.environment(threads)
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache.absolute())
    with contextlib.nullcontext() if core is None else _bound_to(core):
        process = psutil.Popen(
            [str(python or sys.executable), *command],
            stdin=subprocess.PIPE,  # closed when this process ends, which ends the worker
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        process.communicate()


@contextlib.contextmanager
def _bound_to(core: int) -> Generator[None]:
    """Bind this thread to a core for the block, and with it the processes that it starts."""
    if not hasattr(os, "sched_setaffinity"):  # not Linux
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores, reverse=True)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def wait_for(process: psutil.Popen, pattern: str) -> str:
    """Read what a process prints, up to a line that matches, or to its end without a pattern.

    Returns:
        The last line that was read.

    Raises:
        InputError: The process failed, or ended before such a line.
    """
    line = ""
    for line in process.stdout:
        if pattern and re.search(pattern, line):
            return line
    if pattern or process.wait():
        text = line.strip().removeprefix("error: ")
        raise errors.InputError(text or "a command ended without output; was it killed?")
    return line
