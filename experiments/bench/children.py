"""Run one command of this project, and tell what it took: for the benchmark."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hrnn_jax import errors

from ..common import machine
from ..common.package import module
from ..jobs import pool


class Taken(NamedTuple):
    """What a command took."""

    seconds: float  # from the start of its process
    peak_bytes: int | None  # resident


def command(
    name: str, *flags: str, folder: pathlib.Path, cache: pathlib.Path, until: str = "end"
) -> Taken:
    """Run a module of this project with all cores, until its end or the first trained chunk."""
    record = folder / "record.json"
    record.unlink(missing_ok=True)
    started = time.time()
    run(
        [
            "-m",
            module("jobs.worker"),
            module("bench.probe"),
            str(record),
            until,
            name,
            *flags,
        ],
        log=folder / "log",
        environment={
            **pool.environment(machine.cores()),
            "JAX_COMPILATION_CACHE_DIR": str(cache.absolute()),
        },
    )
    try:
        noted = json.loads(record.read_text())
    except FileNotFoundError as error:
        raise errors.InputError(f"{name} has trained no chunk of steps") from error
    return Taken(noted["at"] - started, noted["peak_bytes"])


def run(
    arguments: Sequence[str],
    *,
    log: pathlib.Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run this Python to its end. Raises InputError with the last line it printed if it fails."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,  # a worker's lifeline
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            process.wait()
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
    if process.returncode:
        raise errors.InputError(pool.last_line(log))


@contextlib.contextmanager
def scratch(within: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a folder of its own, removed in the end."""
    within.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=within) as folder:
        yield pathlib.Path(folder)
