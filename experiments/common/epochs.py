"""What run and tune do alike: train seeds side by side for an epoch, and rank by counting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from hrnn_jax import train
from hrnn_jax.baselines import counting, session_knn
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours, negatives
from hrnn_jax.metrics import Ranking

from . import model_flags, progress

FLAGS = flags.FLAGS
Tree = TypeVar("Tree")


class Epoch(NamedTuple):
    """What an epoch of some seeds came to."""

    state: train.TrainState
    losses: np.ndarray  # [S], each seed's mean
    events: int  # trained on, by all seeds together
    seconds: float


def stack(states: list[train.TrainState]) -> train.TrainState:
    """Put the states of seeds that train side by side on one axis; a single one stays as it is.

    Takes them out of the list, array by array, so that none is held twice.
    """
    if len(states) == 1:
        return states.pop()
    structure = jax.tree.structure(states[0])
    columns = [list(column) for column in zip(*map(jax.tree.leaves, states), strict=True)]
    states.clear()
    leaves = []
    for column in columns:
        leaves.append(jax.block_until_ready(jnp.stack(column)))
        column.clear()
    return jax.tree.unflatten(structure, leaves)


def unstack(stacked: Tree, n_seeds: int) -> Iterator[Tree]:
    """Undo `stack`, also of a part of the state, one seed at a time."""
    for i in range(n_seeds):
        yield stacked if n_seeds == 1 else jax.tree.map(lambda a, i=i: a[i], stacked)


def epoch(
    state: train.TrainState,
    log: EventLog,
    *,
    title: str,
    seeds: Sequence[int],
    epoch: int,
    sampler: negatives.Sampler | None,
    model_config: ModelConfig,
    config: TrainConfig,
) -> Epoch:
    """Train the seeds of a stacked state for one epoch, numbered from 0, under a progress bar."""
    started = time.perf_counter()
    schedules = [
        train.epoch_schedule(log, model_config, config, seed=seed, epoch=epoch) for seed in seeds
    ]
    events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)
    with progress.bar(title, events, "events") as advance:
        state, losses = train.run_epoch(
            state,
            schedules,
            seeds=seeds,
            epoch=epoch,
            model_config=model_config,
            config=config,
            sampler=sampler,
            on_chunk=lambda n, loss: advance(n, loss=f"{loss:.4f}"),
        )
    return Epoch(state, losses, events, time.perf_counter() - started)


def table(log: EventLog, model_config: ModelConfig) -> item_neighbours.Table | None:
    """Count the neighbours that a network looks at, if any; log: of training events."""
    if not model_config.neighbours:
        return None
    return jax.device_put(
        item_neighbours.count(log, model_config.neighbours, model_config.neighbours_weight)
    )


def count(log: EventLog) -> Ranking:
    """Rank the cases by the method without a network that the flags name."""
    config = model_flags.evaluation_config()
    match FLAGS.model:
        case "ppop":
            return counting.ppop(log, config)
        case "item_knn":
            return counting.item_knn(log, model_flags.item_knn_config(), config)
        case "markov":
            return counting.markov(log, config)
        case "sr":
            return counting.sequential_rules(log, config)
        case _:
            return session_knn.vsknn(log, model_flags.session_knn_config(), config)
