"""Train a network for an epoch, one or several seeds side by side, and rank with it."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import evaluation, train
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.epoch import epoch_schedule, run_epoch
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking
from hrnn_jax.model import Params

from . import progress

Tree = TypeVar("Tree")
FIRST_CHUNK = "the first steps are trained"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network on a log."""

    log: EventLog  # its test cases are ranked
    train_log: EventLog  # its training events
    setup: train.TrainSetup
    table: item_neighbours.Table | None  # of a network with `neighbours`
    evaluation_config: EvaluationConfig

    def init_state(self, seed: int) -> train.TrainState:
        """Draw the weights of one seed, and start its optimizer."""
        return train.init_state(seed, self.setup.model_config, self.setup.config)


class EpochResult(NamedTuple):
    """The state after an epoch of one or several seeds, and its figures."""

    state: train.TrainState
    losses: np.ndarray  # [S], each seed's mean
    events: int  # trained on, by all seeds together
    seconds: float


@functools.cache
def _print_first_chunk() -> None:
    """Print once that all is compiled and training; on a terminal the progress bar shows it."""
    if not sys.stderr.isatty():
        print(FIRST_CHUNK, flush=True)


def train_epoch(
    network: Network,
    state: train.TrainState,
    seeds: Sequence[int],
    epoch: int,
    *,
    title: str,
    on_events: Callable[[int, int], None] = lambda n, of: None,
) -> EpochResult:
    """Train the seeds of a stacked state for one epoch, numbered from 0, under a progress bar.

    on_events: called with the events of each chunk of steps, and those of the epoch.
    """
    started = time.perf_counter()
    setup = network.setup
    schedules = [
        epoch_schedule(network.train_log, setup.model_config, setup.config, seed=seed, epoch=epoch)
        for seed in seeds
    ]
    events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)
    with progress.bar(title, events, "events") as advance:

        def on_chunk(n: int, loss: float) -> None:
            _print_first_chunk()
            advance(n, loss=f"{loss:.4f}")
            on_events(n, events)

        state, losses = run_epoch(
            state, schedules, setup, seeds=seeds, epoch=epoch, on_chunk=on_chunk
        )
    return EpochResult(state, losses, events, time.perf_counter() - started)


def rank(network: Network, params: Params, *, title: str) -> Ranking:
    """Rank the test cases with a network's weights, under a progress bar."""
    # Evaluation drops no units: without them, all trials of a study share what is compiled for it.
    config = network.setup.model_config
    dropouts = [name for name in vars(config) if name.startswith("dropout_")]
    with progress.bar(title, len(network.log.cases), "cases") as advance:
        return evaluation.rank(
            params,
            network.log,
            model_config=dataclasses.replace(config, **dict.fromkeys(dropouts, 0.0)),
            table=network.table,
            config=network.evaluation_config,
            on_cases=advance,
        )


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
