"""A network that is trained and ranks over a mesh."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from hrnn_jax import network
from hrnn_jax.config import TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Params
from hrnn_jax.network import EpochResult, Network, OnChunk, OneDevice
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.repeat_explore import fit, neighbours
from hrnn_jax.repeat_explore.mixture import Mixture, PlaceNetwork
from hrnn_jax.sharding import evaluation, learning, processes, tables, training
from hrnn_jax.training import lane_groups
from hrnn_jax.training.train import TrainState


class OverMesh(OneDevice):
    """Tables and neighbours by row, lanes by device over a mesh; all processes make equal calls."""

    def __init__(self, mesh: Mesh) -> None:
        """Use a mesh of `tables.make_mesh`."""
        self.mesh = mesh

    def own_events(self, log: EventLog, config: TrainConfig) -> EventLog:
        """Return the events of this process' lane groups.

        Raises:
            InputError: the devices cannot share the lane groups.
        """
        group = lane_groups.group_of(log.user, config.lane_groups)
        return log.where(np.isin(group, training.own_groups(config, self.mesh)))

    def put_table(self, table: neighbours.Table) -> neighbours.Table:
        """Put counted neighbours onto the mesh by row, as the item tables."""
        return jax.tree.map(lambda rows: tables.put_rows(rows, self.mesh), table)

    def put(self, state: TrainState, config: TrainConfig) -> TrainState:
        """Put a state of one seed, the same in all processes, onto the mesh."""
        return tables.put_state(state, self.mesh, config)

    def init_state(self, network: Network, seed: int) -> TrainState:
        """Draw the weights of one seed, each device its rows, and start its optimizer."""
        setup = network.setup
        return tables.init_state(seed, setup.model_config, setup.config, self.mesh)

    def train_epoch(
        self,
        network: Network,
        state: TrainState,
        seeds: Sequence[int],
        epoch: int,
        *,
        watch: Callable[[int], contextlib.AbstractContextManager[OnChunk]] = network.unwatched,
    ) -> EpochResult:
        """Train the one seed of a state for one epoch, see `training.train_epoch`."""
        [seed] = seeds
        return training.train_epoch(network, state, self.mesh, seed=seed, epoch=epoch, watch=watch)

    def learn_mixture(
        self, network: Network, params: Params, seed: int, place: PlaceNetwork | None
    ) -> Mixture:
        """Learn the mixture of a network on the test events of its log.

        Every process does, from the same numbers; that of process 0 counts.
        """
        assert network.table is not None
        config = network.setup.model_config
        reader = learning.Reader(params, network.table, self.mesh, config.n_items)
        mixture = fit.fit(reader, network.log, model_config=config, seed=seed, place=place)
        return processes.of_first(mixture)

    def rank(
        self,
        network: Network,
        params: Params,
        mixture: Mixture | None = None,
        *,
        on_cases: Callable[[int], None] = lambda n_cases: None,
    ) -> Ranking:
        """Rank the test cases, each device among its rows, see `evaluation.rank`."""
        return evaluation.rank(network, params, self.mesh, mixture, on_cases=on_cases)
