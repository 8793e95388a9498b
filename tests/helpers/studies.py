"""Studies of tune: opened as another process would, read, and with made trials."""

import pathlib
import types

import numpy as np
import polars as pl

from experiments.training import epochs
from experiments.tuning import search_spaces, study, trials
from hrnn_jax import errors
from hrnn_jax.training import train

ONE = "--fix=batch_size,momentum,dropout_session"  # leaves RNN the learning rate to search


def trial_table(folder="study"):
    """Read the table of a study."""
    return pl.read_csv(pathlib.Path(folder, "trials.csv"))


def open_study(folder="study", *, recipe=None, searched=None, sampler="random", startup_trials=5):
    """Open a study as another process would."""
    return study.Study(
        pathlib.Path(folder),
        recipe or {},
        search_spaces.Search(
            searched or search_spaces.BY_MODEL["hrnn_init"], sampler, "none", startup_trials
        ),
        best_flags=lambda best: f"--neighbours={best.number}\n",
    )


def script(monkeypatch, values):
    """Let trial n measure values[n][e] after epoch e, without training; None diverges."""

    def epoch(network, state, seeds, epoch, *, title, on_events):
        number = int(title.split()[1])
        if values[number][epoch] is None:
            raise errors.DivergedError("the loss of seed 0 is nan")
        measured.append(values[number][epoch])
        return epochs.EpochResult(state, np.zeros(1), events=10, seconds=1.0)

    def init_state(*_):
        return types.SimpleNamespace(params=None)

    measured = []
    monkeypatch.setattr(train, "init_state", init_state)
    monkeypatch.setattr(epochs, "train_epoch", epoch)
    monkeypatch.setattr(epochs, "rank", lambda *_, **__: None)
    monkeypatch.setattr(trials, "measure", lambda *_: measured[-1])
