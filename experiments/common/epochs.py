"""Train one epoch of one or several seeds: what `run` and `tune` share."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import train
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.epoch import epoch_schedule, run_epoch
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours

from . import progress

Tree = TypeVar("Tree")
FIRST_CHUNK = "the first steps are trained"


class Training(NamedTuple):
    """What all epochs of a network's training share."""

    log: EventLog  # the training events
    setup: train.TrainSetup


class EpochResult(NamedTuple):
    """The state after an epoch of one or several seeds, and its figures."""

    state: train.TrainState
    losses: np.ndarray  # [S], each seed's mean
    events: int  # trained on, by all seeds together
    seconds: float


def training_of(log: EventLog, model_config: ModelConfig, train_config: TrainConfig) -> Training:
    """Prepare to train on a log of training events."""
    return Training(log, train.make_setup(log, model_config, train_config))


@functools.cache
def _print_first_chunk() -> None:
    """Print once that all is compiled and training; on a terminal the progress bar shows it."""
    if not sys.stderr.isatty():
        print(FIRST_CHUNK, flush=True)


def train_epoch(
    training: Training, state: train.TrainState, seeds: Sequence[int], epoch: int, *, title: str
) -> EpochResult:
    """Train the seeds of a stacked state for one epoch, numbered from 0, under a progress bar."""
    started = time.perf_counter()
    log, setup = training
    schedules = [
        epoch_schedule(log, setup.model_config, setup.config, seed=seed, epoch=epoch)
        for seed in seeds
    ]
    events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)
    with progress.bar(title, events, "events") as advance:

        def on_chunk(n: int, loss: float) -> None:
            _print_first_chunk()
            advance(n, loss=f"{loss:.4f}")

        state, losses = run_epoch(
            state,
            schedules,
            setup,
            seeds=seeds,
            epoch=epoch,
            on_chunk=on_chunk,
        )
    return EpochResult(state, losses, events, time.perf_counter() - started)


def neighbour_table(log: EventLog, config: ModelConfig) -> item_neighbours.Table | None:
    """Count the nearest items that a network's scores use, if any; log: of training events."""
    if not config.neighbours:
        return None
    return jax.device_put(item_neighbours.count(log, config.neighbours, config.neighbours_weight))


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
