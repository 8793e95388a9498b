"""How the benchmark measures: its settings, the turns, the clock, and XLA's profiler."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import jax

from hrnn_jax.files import provenance

from .record import Row

_T = TypeVar("_T")
# Environment variables that set the number of threads; the record keeps them.
THREAD_VARIABLES = ("NPROC", "OMP_NUM_THREADS", "POLARS_MAX_THREADS", "XLA_FLAGS")
AROUND_OTHERS = ("while", "call", "conditional")  # operations whose time is that of others
LONG_TURN = 10  # seconds, from which on each turn prints a line of progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured, and in which folders."""

    repeats: int  # turns, after one to warm up
    long_repeats: int  # turns of a command that takes minutes
    scale: float  # share of the users of the large logs
    steps: int  # of an epoch of HRNN Init small; larger steps are fewer
    prepared: pathlib.Path  # keeps simulated logs between calls
    scratch: pathlib.Path  # temporary folders are made in it

    def print(self, line: str) -> None:
        """Print a line of progress."""
        print(f"    {line}", flush=True)

    @contextlib.contextmanager
    def folder(self) -> Generator[pathlib.Path]:
        """Make a folder in `scratch` and remove it at the end."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            yield pathlib.Path(folder)

    def turns(
        self, *functions: Callable[[], _T], long: bool = False, warm_up: bool = True
    ) -> list[list[_T]]:
        """Call each function once to warm up, then all of them in each turn.

        Args:
            functions: What is compared; noise of the machine then affects all alike.
            long: Whether they take minutes: they then have `long_repeats` turns.
            warm_up: Whether to call each function once before the turns.

        Returns:
            For each function what its calls returned, without the warm-up.
        """
        if warm_up:
            for function in functions:
                function()
        repeats = self.long_repeats if long else self.repeats
        results: list[list[_T]] = [[] for _ in functions]
        started = time.perf_counter()
        for turn in range(1, repeats + 1):
            for function, values in zip(functions, results, strict=True):
                values.append(function())
            mean = (time.perf_counter() - started) / turn
            if mean > LONG_TURN and turn < repeats:
                self.print(f"turn {turn} of {repeats}, {(repeats - turn) * mean:.0f} s left")
        return results

    def row(
        self,
        what: str,
        function: Callable[[], float],
        floor: Callable[[], float],
        floor_name: str,
        limit: float | None = None,
    ) -> Row:
        """Measure a function next to its floor, both in the seconds that they return."""
        measured, of_floor = self.turns(function, floor)
        return Row(what, measured, of_floor, floor_name, limit)


def seconds(function: Callable[[], object]) -> float:
    """Call a function and return the seconds that it took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def operations(settings: Settings, function: Callable[[], object]) -> collections.Counter[str]:
    """Call a function under XLA's profiler.

    Args:
        settings: Where to write the profile for the moment.
        function: What to call.

    Returns:
        The seconds of each operation by its name: of a kernel on a GPU, of an instruction of the
        compiled program on a CPU.
    """
    durations = collections.Counter[str]()
    with settings.folder() as folder:
        with jax.profiler.trace(str(folder)):
            function()
        [path] = folder.rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                if plane.name.startswith("/device:"):
                    # A line for each stream; others, if any, are sums of these.
                    events = line.events if line.name.startswith("Stream") else ()
                else:
                    events = (event for event in line.events if _is_operation(event))
                for event in events:
                    durations[event.name] += event.duration_ns / 1e9
    return durations


def _is_operation(event: Any) -> bool:
    """Tell whether an event of the host is an operation that a compiled program ran on it."""
    return not event.name.startswith(AROUND_OTHERS) and "hlo_op" in dict(event.stats)


def made() -> dict[str, Any]:
    """Return commit, machine, time, cores, threads and load of a measurement that begins now."""
    threads = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {**provenance.made(), "cores": provenance.cores(), "threads": threads, "load": load}
