"""Rows of other libraries: a plugin of models that processes of their own train and score.

python -m experiments.run --plugin=experiments.leaderboard.peers --model=sasrec

A library gets a virtual environment of its own, as it needs other versions of packages than this
project. Its script reads the log as an npz file, trains on the training events with one thread for
at most `SECONDS`, and writes the scores of all items for all test cases. From these a row is ranked
as each counting row is: by the same cases, ties and items. The scores are kept by log, script and
budget, so that ranking a second time does not train again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable

import numpy as np
from scipy import sparse

from hrnn_jax import atomic, errors
from hrnn_jax.baselines import by_name
from hrnn_jax.baselines.sparse_ranking import Scorer
from hrnn_jax.event_log import EventLog

from ..bench.peers import shared_log
from ..bench.peers.contenders import RECTOOLS, SCRIPTS
from ..bench.peers.install import install
from .grid import PEERS

FOLDER = pathlib.Path("out/peers")  # of the libraries and the scores
SCRIPT = SCRIPTS / "score_rectools.py"
SECONDS = 3600


def scorer_of(model: str) -> Callable[[EventLog], Scorer]:
    """Return the function that makes the scorer of a peer's model on a log.

    Args:
        model: a key of `PEERS`.
    """

    def scorer(log: EventLog) -> Scorer:
        # A peer scores each held-out event that follows another one; a task may predict fewer.
        every = dataclasses.replace(log, target=None)
        scores = np.load(_scores(model, every), mmap_mode="r")
        row = np.searchsorted(every.cases, log.cases)

        def score(chunk: slice) -> sparse.csr_array:
            part = np.asarray(scores[row[chunk]], np.float64)
            known = np.isfinite(part)
            least = np.where(known, part, np.inf).min(axis=1, keepdims=True)
            return sparse.csr_array(np.where(known, part - least, 0))

        return score, np.full(len(row), log.n_items)

    return scorer


def _scores(model: str, log: EventLog) -> pathlib.Path:
    """Return the file of a model's scores on a log; the peer makes it if there is none."""
    content = [array.tobytes() for array in (log.user, log.session, log.item, log.time, log.test)]
    content += [SCRIPT.read_bytes(), RECTOOLS.requirements.read_bytes(), str(SECONDS).encode()]
    digest = hashlib.sha256(b"".join(content)).hexdigest()[:12]
    path = FOLDER / "scores" / f"{model}-{digest}.npy"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    python = install(RECTOOLS, FOLDER)
    with tempfile.TemporaryDirectory() as scratch, atomic.writing(path) as partial:
        shared = pathlib.Path(scratch, "log.npz")
        written = pathlib.Path(scratch, "scores.npy")
        shared_log.write(log, shared)
        argv = [python, SCRIPT, model, shared, written, scratch, SECONDS]
        done = subprocess.run(
            [*map(str, argv)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
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
        partial.write_bytes(written.read_bytes())
    return path


for _model, _title in PEERS.items():
    by_name.register(_model, scorer_of(_model), title=_title)
