"""A network on a log: made, trained for an epoch, one or several seeds side by side, and ranked."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import errors
from hrnn_jax.config import EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Params
from hrnn_jax.ranking import evaluation
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.repeat_explore import fit, neighbours, replayed
from hrnn_jax.repeat_explore.mixture import FittedMixture, Mixture, PlaceNetwork
from hrnn_jax.training import train, user_batches
from hrnn_jax.training.epoch import epoch_schedule, is_compiling, n_programs, run_epoch

Tree = TypeVar("Tree")
OnChunk = Callable[[int, float], None]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network on a log."""

    log: EventLog  # its test cases are ranked
    train_log: EventLog  # its training events; over a mesh those of this process' lanes
    setup: train.TrainSetup
    table: neighbours.Table | None  # of a network with `places`
    evaluation_config: EvaluationConfig
    devices: OneDevice  # on which it is trained and ranks

    @property
    def ranking_config(self) -> ModelConfig:
        """The network without dropout: all trials of a study share what ranking compiles."""
        return self.setup.model_config.without_dropout()

    def init_state(self, seed: int) -> train.TrainState:
        """Draw the weights of one seed on one device, and start its optimizer."""
        return train.init_state(seed, self.setup.model_config, self.setup.config)

    def check_trainable(self) -> None:
        """Raise InputError where no training event follows another one, in its session."""
        laid = user_batches.layout(self.log.train, self.setup.model_config.variant)
        if not laid.follows.any():
            raise errors.InputError(
                "no training session has two events, so nothing can be trained on: see how "
                "sessions are cut, by `session_gap_minutes` or a column of sessions"
            )


class EpochResult(NamedTuple):
    """The state after an epoch of one or several seeds, and its figures."""

    state: train.TrainState
    losses: np.ndarray  # [S], each seed's mean
    events: int  # trained on, by all seeds together
    seconds: float
    rate: float | None = None  # events per second without compiling; None where it was not measured


@contextlib.contextmanager
def unwatched(events: int) -> Generator[OnChunk]:
    """Tell nobody of the chunks of an epoch."""
    yield lambda events, loss: None


class OneDevice:
    """Where a network is trained and ranks: on one device. `sharding.over_mesh` has others."""

    def own_events(self, log: EventLog, config: TrainConfig) -> EventLog:
        """Return the training events of the lanes here."""
        return log

    def put_table(self, table: neighbours.Table) -> neighbours.Table:
        """Put counted neighbours where they are looked up."""
        return jax.device_put(table)

    def put(self, state: train.TrainState, config: TrainConfig) -> train.TrainState:
        """Put a state of one seed, whole arrays, where it is trained."""
        return jax.tree.map(jnp.asarray, state)

    def init_state(self, network: Network, seed: int) -> train.TrainState:
        """Draw the weights of one seed, and start its optimizer."""
        return network.init_state(seed)

    def train_epoch(
        self,
        network: Network,
        state: train.TrainState,
        seeds: Sequence[int],
        epoch: int,
        *,
        watch: Callable[[int], contextlib.AbstractContextManager[OnChunk]] = unwatched,
    ) -> EpochResult:
        """Train the seeds of a stacked state for one epoch.

        Args:
            network: that is trained.
            state: of the seeds, see `stack`. It is donated.
            seeds: S of them.
            epoch: counted from 0.
            watch: called with the events of the epoch; training runs inside the block of what it
                returns, which yields the `on_chunk` of `run_epoch`.

        Raises:
            DivergedError: a loss is not finite.
        """
        started, compiled = time.perf_counter(), n_programs()
        setup = network.setup
        schedules = [
            epoch_schedule(
                network.train_log, setup.model_config, setup.config, seed=seed, epoch=epoch
            )
            for seed in seeds
        ]
        events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)
        with watch(events) as on_chunk:
            trained = before = 0  # events: so far, and until the last program was compiled
            since, waited = started, None

            def count(n: int, loss: float) -> None:
                nonlocal trained, before, since, waited
                trained += n
                if waited is None:
                    waited = n_programs() > compiled
                compiling = is_compiling()
                if waited or compiling:
                    before, since = trained, time.perf_counter()
                waited = compiling
                on_chunk(n, loss)

            state, losses = run_epoch(
                state, schedules, setup, seeds=seeds, epoch=epoch, on_chunk=count
            )
        ended = time.perf_counter()
        rate = (events - before) / (ended - since) if before < events else None
        return EpochResult(state, losses, events, ended - started, rate)

    def learn_mixture(
        self, network: Network, params: Params, seed: int, place: PlaceNetwork | None
    ) -> Mixture:
        """Learn the mixture of a network on the test events of its log, see `fit.fit`."""
        assert network.table is not None
        return fit.fit(
            replayed.Reader(params, network.table),
            network.log,
            model_config=network.setup.model_config,
            seed=seed,
            place=place,
        )

    def rank(
        self,
        network: Network,
        params: Params,
        mixture: Mixture | None = None,
        *,
        on_cases: Callable[[int], None] = lambda n_cases: None,
    ) -> Ranking:
        """Rank the test cases of the network's log with its weights.

        Args:
            network: that was trained.
            params: of one seed.
            mixture: of a network with `places`.
            on_cases: see `evaluation.rank`.
        """
        return evaluation.rank(
            params,
            network.log,
            model_config=network.ranking_config,
            mixture=fitted(network, mixture),
            config=network.evaluation_config,
            on_cases=on_cases,
        )


ONE_DEVICE = OneDevice()


def make_network(
    log: EventLog,
    model_config: ModelConfig,
    train_config: TrainConfig,
    evaluation_config: EvaluationConfig,
    *,
    devices: OneDevice = ONE_DEVICE,
) -> Network:
    """Combine a log with the settings of a network, and count its neighbours.

    Args:
        log: the training events are trained on, the test cases ranked.
        model_config: of the network.
        train_config: how it is trained.
        evaluation_config: how it ranks.
        devices: on which it is trained and ranks.

    Raises:
        InputError: `held_out_patience` is given without `places`.
    """
    if train_config.held_out_patience and not model_config.places:
        raise errors.InputError(
            f"`held_out_patience`={train_config.held_out_patience} has no effect without `places`"
        )
    events, table = log.train, None
    if model_config.places:
        table = devices.put_table(neighbours.count(events, model_config.neighbours))
    setup = train.make_setup(events, model_config, train_config)
    own = devices.own_events(events, setup.config)
    return Network(log, own, setup, table, evaluation_config, devices)


def fitted(network: Network, mixture: Mixture | None) -> FittedMixture | None:
    """Return a mixture with the neighbours of a network, None without one."""
    if mixture is None or network.table is None:
        return None
    return FittedMixture(jax.device_put(mixture), network.table)


def stack(states: list[train.TrainState]) -> train.TrainState:
    """Put the states of seeds that train side by side on one axis; a single one stays as it is.

    Takes them out of the list, array by array, so that none is held twice.
    """
    if len(states) == 1:
        return states.pop()
    structure = jax.tree.structure(states[0])
    columns = [list(column) for column in zip(*map(jax.tree.leaves, states), strict=True)]
    states.clear()
    leaves: list[jax.Array] = []
    for column in columns:
        leaves.append(jax.block_until_ready(jnp.stack(column)))
        column.clear()
    return jax.tree.unflatten(structure, leaves)


def unstack(stacked: Tree, n_seeds: int) -> Iterator[Tree]:
    """Undo `stack`, also of a part of the state, one seed at a time."""
    for i in range(n_seeds):
        yield stacked if n_seeds == 1 else jax.tree.map(lambda a, i=i: a[i], stacked)
