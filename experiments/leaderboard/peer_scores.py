"""The scores of other libraries' models on a log, made by processes of their own and kept.

A library gets a virtual environment of its own, as it needs other versions of packages than this
project. Its script reads the log as an npz file, searches settings and trains on the training
events, and writes the scores of all items for all test cases, and what it has chosen. Both are kept
by log, script and budget, so that ranking a second time does not train again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrnn_jax import errors
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic
from hrnn_jax.preprocess.prepared import load

from ..bench.peers import shared_log
from ..bench.peers.contenders import RECTOOLS, SCRIPTS
from ..bench.peers.install import install
from ..jobs import pool
from ..jobs.grid import Run
from .grid import PEERS

FOLDER = pathlib.Path("out/peers")  # of the libraries and the scores
SCRIPT = SCRIPTS / "score_rectools.py"
SECONDS = 3600  # of search and training, on one thread or a GPU
TRIALS = 20  # at most, in half of it
ONE_THREAD = "one thread"  # of a search without a GPU


def every_case(log: EventLog) -> EventLog:
    """Return a log whose cases are all that a peer scores.

    These are the held-out events that follow another one; a task may predict fewer.
    """
    return dataclasses.replace(log, target=None)


def made(model: str, log: EventLog) -> pathlib.Path:
    """Return the file of a model's scores on a log; the peer makes it if there is none.

    Args:
        model: a key of `grid.PEERS`.
        log: of `every_case`.

    Raises:
        InputError: the library cannot be installed, or ended without scores.
    """
    path = _file(model, log)
    if path.exists() and _search_file(path).exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    python = install(RECTOOLS, FOLDER)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch, atomic.writing(path) as partial:
        shared = pathlib.Path(scratch, "log.npz")
        written, search = pathlib.Path(scratch, "scores.npy"), pathlib.Path(scratch, "search.json")
        shared_log.write(log, shared)
        argv = [python, SCRIPT, model, shared, written, search, scratch, SECONDS, TRIALS]
        done = pool.run_of_library(
            *map(str, argv),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
        )
        if done.returncode or not written.exists():
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            raise errors.InputError(
                f"`model`={model}: {RECTOOLS.name} ended without scores: {lines[-1].strip()}"
            )
        shape, wanted = np.load(written, mmap_mode="r").shape, (len(log.cases), log.n_items)
        if shape != wanted:
            raise errors.InputError(
                f"{SCRIPT.name} wrote scores of the shape {shape} for `model`={model}, not {wanted}"
                f": {RECTOOLS.name} has left out cases or items"
            )
        atomic.write(_search_file(path), search.read_bytes())
        partial.write_bytes(written.read_bytes())
    return path


def search(model: str, log: EventLog) -> dict[str, Any] | None:
    """Return what a peer has chosen on a log, None if it has not scored it.

    Args:
        model: a key of `grid.PEERS`.
        log: of `every_case`.

    Returns:
        trials: the number of trials; value: the best one's Recall@5 on the validation cases;
        settings: by name; seconds: of search and training; device; versions: by package.
    """
    path = _search_file(_file(model, log))
    return json.loads(path.read_bytes()) if path.exists() else None


def searches(
    runs: Sequence[Run], prepared: Mapping[str, pathlib.Path]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return `search` of the peers' rows among some runs, by column and row.

    Args:
        runs: the finished ones.
        prepared: the prepared folders by column.
    """
    return {
        (run.column.key, run.row.key): found
        for run in runs
        if run.row.key in PEERS
        if (found := search(run.row.key, every_case(load(prepared[run.column.key]))))
    }


def _file(model: str, log: EventLog) -> pathlib.Path:
    content = [array.tobytes() for array in (log.user, log.session, log.item, log.time, log.test)]
    content += [SCRIPT.read_bytes(), RECTOOLS.requirements.read_bytes()]
    content += [f"{SECONDS} {TRIALS}".encode()]
    digest = hashlib.sha256(b"".join(content)).hexdigest()[:12]
    return FOLDER / "scores" / f"{model}-{digest}.npy"


def _search_file(scores: pathlib.Path) -> pathlib.Path:
    return scores.with_suffix(".json")
