"""Run a command of this project in a process of its own, and measure its time and its memory."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Generator
from typing import NamedTuple

import psutil

from hrnn_jax import errors

from ..common import provenance
from ..common.cli import module
from ..jobs import pool

SAMPLE_SECONDS = 0.01  # between two readings of a process's memory


class Cost(NamedTuple):
    """What a command cost."""

    seconds: float  # from the start of its process to its end, or to the line waited for
    peak_bytes: int  # the largest resident memory among all samples


def measure(
    *command: str, cache: pathlib.Path | None = None, until: str = "", share: int = 1
) -> Cost:
    """Run a command, and measure it to its end or to a line that it prints.

    Args:
        command: Arguments of Python; `of_module` makes them of a module's name and flags.
        cache: The folder of compiled programs.
        until: Regular expression of the line at which the process is ended.
        share: How many such commands share the cores.

    Raises:
        InputError: The command failed, or ended before that line; with the last line it printed.
    """
    started, peak, ended = time.perf_counter(), 0, False
    with (
        concurrent.futures.ThreadPoolExecutor(1) as reader,
        running(*command, cache=cache, share=share) as process,
    ):
        reading = reader.submit(wait_for, process, until)
        while not ended:
            ended = bool(concurrent.futures.wait([reading], SAMPLE_SECONDS).done)
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, process.memory_info().rss)
        seconds = time.perf_counter() - started
        reading.result()  # raises where the command failed
    return Cost(seconds, peak)


def of_module(name: str, *flags: str) -> tuple[str, ...]:
    """Return Python's arguments for a command that ends when this process does."""
    return ("-m", module("jobs.worker"), module(name), *flags)


@contextlib.contextmanager
def running(
    *command: str, cache: pathlib.Path | None = None, share: int = 1
) -> Generator[psutil.Popen]:
    """Start Python with these arguments on its share of the cores, and end it after the block."""
    environment = pool.environment(max(1, provenance.cores() // share))
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache.absolute())
    process = psutil.Popen(
        [sys.executable, *command],
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
