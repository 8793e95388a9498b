"""Run a command of this project in a process of its own, and measure its time and its memory."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import pathlib
import re
import subprocess
import sys
import threading
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


def measure(*command: str, cache: pathlib.Path | None = None, until: str | None = None) -> Cost:
    """Run a command on all cores, and measure it to its end or to a line that it prints.

    Args:
        command: Arguments of Python; `of_module` makes them of a module's name and flags.
        cache: The folder of compiled programs.
        until: Regular expression of the line at which the process is ended.

    Raises:
        InputError: The command failed, or ended before that line; with the last line it printed.
    """
    started = time.perf_counter()
    ended = threading.Event()
    with (
        concurrent.futures.ThreadPoolExecutor(1) as sampler,
        running(*command, cache=cache) as process,
    ):
        peak = sampler.submit(_peak_bytes, process, ended)
        try:
            if until is not None:
                wait_for(process, until)
            else:
                last = collections.deque(process.stdout, maxlen=1)
                if process.wait():
                    raise _failed(*last)
            seconds = time.perf_counter() - started
        finally:
            ended.set()
        return Cost(seconds, peak.result())


def of_module(name: str, *flags: str) -> tuple[str, ...]:
    """Return Python's arguments for a command that ends when this process does."""
    return ("-m", module("jobs.worker"), module(name), *flags)


@contextlib.contextmanager
def running(*command: str, cache: pathlib.Path | None = None) -> Generator[psutil.Popen]:
    """Start Python with these arguments on all cores, and end it at the end of the block."""
    environment = pool.environment(provenance.cores())
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


def wait_for(process: psutil.Popen, pattern: str) -> re.Match[str]:
    """Read what a process prints, up to a line that matches.

    Raises:
        InputError: The process ended before such a line.
    """
    line = ""
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
    raise _failed(line)


def _failed(last_line: str = "") -> errors.InputError:
    text = last_line.strip().removeprefix("error: ")
    return errors.InputError(text or "a command ended without output; was it killed?")


def _peak_bytes(process: psutil.Popen, ended: threading.Event) -> int:
    """Sample a process's memory until `ended` is set, and once after that."""
    peak, last = 0, False
    with contextlib.suppress(psutil.NoSuchProcess):
        while not last:
            last = ended.wait(SAMPLE_SECONDS)
            peak = max(peak, process.memory_info().rss)
    return peak
