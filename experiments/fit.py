"""What run and tune do alike: train seeds side by side for an epoch, and rank by counting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import models, progress
from hrnn_jax import baselines, model, ranking, session_knn, training
from hrnn_jax import log as log_lib

FLAGS = flags.FLAGS


class Epoch(NamedTuple):
    """What an epoch of some seeds came to."""

    state: training.TrainState
    losses: np.ndarray  # [S], each seed's mean
    events: int  # trained on, by all seeds together
    seconds: float


def stack(states: Sequence[training.TrainState]) -> training.TrainState:
    """Put the states of seeds that train side by side on one axis; a single one stays as it is."""
    if len(states) == 1:
        return states[0]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def unstack(state: training.TrainState, n_seeds: int) -> list[training.TrainState]:
    """Undo `stack`."""
    if n_seeds == 1:
        return [state]
    return [jax.tree.map(lambda a, i=i: a[i], state) for i in range(n_seeds)]


def epoch(
    state: training.TrainState,
    log: log_lib.EventLog,
    *,
    title: str,
    seeds: Sequence[int],
    epoch: int,
    model_config: model.Config,
    config: training.Config,
) -> Epoch:
    """Train the seeds of a stacked state for one epoch, counted from 0, under a progress bar."""
    started = time.perf_counter()
    schedules = [
        training.schedule(log, model_config.variant, config, seed=seed, epoch=epoch)
        for seed in seeds
    ]
    events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)
    with progress.bar(title, events, "events") as advance:
        state, losses = training.run_epoch(
            state,
            schedules,
            seeds=seeds,
            epoch=epoch,
            model_config=model_config,
            config=config,
            on_chunk=lambda n, loss: advance(n, loss=f"{loss:.4f}"),
        )
    return Epoch(state, losses, events, time.perf_counter() - started)


def count(
    log: log_lib.EventLog, *, candidates: np.ndarray | None, cutoffs: Sequence[int]
) -> ranking.Ranking:
    """Rank the cases by the method without a network that the flags name."""
    how: Mapping[str, Any] = {"ties": FLAGS.ties, "candidates": candidates, "cutoffs": cutoffs}
    match FLAGS.model:
        case "ppop":
            return baselines.ppop(log, **how)
        case "item_knn":
            return baselines.item_knn(log, neighbours=models.neighbours(), **how)
        case "markov":
            return baselines.markov(log, **how)
        case "sr":
            return baselines.sequential_rules(log, **how)
        case "vsknn" | "vsknn_br":
            return session_knn.vsknn(log, models.session_knn_config(), **how)
    raise ValueError(f"{FLAGS.model} does not count")
