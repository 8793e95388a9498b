"""Where a run trains: on one device, or over the mesh of all devices of all its processes."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from hrnn_jax import checkpoint, lane_groups, train
from hrnn_jax.metrics import Ranking
from hrnn_jax.model import Params
from hrnn_jax.network import EpochResult, Network, unstack
from hrnn_jax.repeat_explore.mixture import Mixture
from hrnn_jax.sharding import checkpoints, evaluation, processes, tables, training

from . import distributed, epochs

FLAGS = flags.FLAGS


class OneDevice:
    """All of a run is on one device of one process."""

    def __init__(self, folder: pathlib.Path, network: Network) -> None:
        """Place a run in its folder."""
        self.folder, self.network = folder, network

    def trained(self, seed: int) -> int:
        """Return after how many epochs the newest checkpoint of a seed was saved."""
        return max(map(checkpoint.latest, self._folders(seed)))

    def restore(self, seed: int, epochs: int) -> train.TrainState:
        """Read a checkpoint of a seed, also one of several devices."""
        like = jax.eval_shape(self.network.init_state, 0)
        of_one, of_many = self._folders(seed)
        if checkpoint.latest(of_one) >= epochs:
            return checkpoint.restore(of_one, like, epochs=epochs)
        config = self.network.setup.config
        state = checkpoints.restore_whole(of_many, like, config, epochs=epochs)
        return jax.tree.map(jax.device_put, state)

    def put(self, state: train.TrainState) -> train.TrainState:
        """Put a state of one seed, as it was drawn, where it is trained."""
        return state

    def train_epoch(
        self, state: train.TrainState, seeds: Sequence[int], epoch: int, **shown: Any
    ) -> EpochResult:
        """Train the seeds of a stacked state for one epoch, see `epochs.train_epoch`."""
        return epochs.train_epoch(self.network, state, seeds, epoch, **shown)

    def save(self, state: train.TrainState, seeds: Sequence[int], epochs: int) -> None:
        """Write a checkpoint of each seed of a stacked state."""
        for seed, own in zip(seeds, unstack(state, len(seeds)), strict=True):
            checkpoint.save(self._folders(seed)[0], own, epochs=epochs)

    def finish(self, state: train.TrainState, seeds: Sequence[int]) -> None:
        """End the training of some seeds: leave checkpoints of one device alone."""
        for seed, own in zip(seeds, unstack(state, len(seeds)), strict=True):
            of_one, of_many = self._folders(seed)
            if checkpoint.latest(of_one) < (trained := checkpoint.latest(of_many)):
                checkpoint.save(of_one, own, epochs=trained)
            _remove(of_many)

    def rank(self, params: Params, mixture: Mixture | None, *, title: str) -> Ranking:
        """Rank the test cases with the weights of one seed, see `epochs.rank`."""
        return epochs.rank(self.network, params, mixture, title=title)

    def _folders(self, seed: int) -> tuple[pathlib.Path, pathlib.Path]:
        return checkpoint.folder(self.folder, seed), checkpoints.folder(self.folder, seed)


class OverMesh(OneDevice):
    """Tables by row and lanes by device over a mesh; all processes make the same calls.

    A checkpoint of one device follows the last epoch of a seed, for all that reads run folders.
    """

    def __init__(self, folder: pathlib.Path, network: Network, mesh: Mesh) -> None:
        """Place a run. Raises InputError where the devices cannot share its lane groups."""
        super().__init__(folder, network)
        config, self.mesh = network.setup.config, mesh
        groups = training.own_groups(config, mesh)
        group = lane_groups.group_of(network.train_log.user, config.lane_groups)
        own = network.train_log.where(np.isin(group, groups))
        self._own = dataclasses.replace(network, train_log=own)

    def trained(self, seed: int) -> int:
        """Return after how many epochs process 0 finds the newest checkpoint of a seed."""
        return processes.of_first(super().trained(seed) if processes.is_first() else 0)

    def restore(self, seed: int, epochs: int) -> train.TrainState:
        """Read a checkpoint of a seed, of any number of devices."""
        like = jax.eval_shape(self.network.init_state, 0)
        of_one, of_many = self._folders(seed)
        config = self.network.setup.config
        if processes.of_first(processes.is_first() and checkpoint.latest(of_one) >= epochs):
            return self.put(checkpoint.restore(of_one, like, epochs=epochs))
        return checkpoints.restore_state(of_many, like, self.mesh, config, epochs=epochs)

    def put(self, state: train.TrainState) -> train.TrainState:
        """Put a state, the same in all processes, onto the mesh."""
        return tables.put_state(state, self.mesh, self.network.setup.config)

    def train_epoch(
        self, state: train.TrainState, seeds: Sequence[int], epoch: int, **shown: Any
    ) -> EpochResult:
        """Train the one seed of a state for one epoch."""

        def train_it(
            network: Network,
            state: train.TrainState,
            seeds: Sequence[int],
            epoch: int,
            *,
            watch: Callable[[int], contextlib.AbstractContextManager[Any]],
        ) -> EpochResult:
            [seed] = seeds
            return training.train_epoch(
                network, state, self.mesh, seed=seed, epoch=epoch, watch=watch
            )

        return epochs.train_epoch(self._own, state, seeds, epoch, train_it=train_it, **shown)

    def save(self, state: train.TrainState, seeds: Sequence[int], epochs: int) -> None:
        """Write a checkpoint, each process its shards."""
        [seed] = seeds
        _, of_many = self._folders(seed)
        checkpoints.save_state(of_many, state, self.mesh, epochs=epochs)

    def finish(self, state: train.TrainState, seeds: Sequence[int]) -> None:
        """Write the checkpoint of one device in place of those by shard."""
        setup = self.network.setup
        n_items = setup.model_config.n_items
        whole = tables.take_state(state, self.mesh, setup.config, n_items)
        if processes.is_first():
            super().finish(whole, seeds)
        distributed.wait()

    def rank(self, params: Params, mixture: Mixture | None, *, title: str) -> Ranking:
        """Rank the test cases with the weights of one seed, each device among its rows."""
        assert mixture is None  # `distributed.refuse_for_mesh` refuses `places`

        def rank_it(
            network: Network, params: Params, mixture: None, *, on_cases: Callable[[int], None]
        ) -> Ranking:
            return evaluation.rank(network, params, self.mesh, on_cases=on_cases)

        return epochs.rank(self.network, params, title=title, rank_it=rank_it)


def place(folder: pathlib.Path, network: Network) -> OneDevice:
    """Place a run: over a mesh where it has several processes, or lane groups and devices.

    Raises:
        InputError: What it trains is not trained over several devices, or they cannot share it.
    """
    devices, config = jax.devices(), network.setup.config
    alone = jax.process_count() == 1
    if alone and (len(devices) == 1 or config.lane_groups == 1):
        if len(devices) > 1:
            print(
                f"1 of {len(devices)} devices trains: --lane_groups={len(devices)}, or a multiple, "
                "trains over all"
            )
        return OneDevice(folder, network)
    if alone:
        distributed.refuse_for_mesh(f"--lane_groups={config.lane_groups} on {len(devices)} devices")
    placed = OverMesh(folder, network, tables.make_mesh(devices))
    of_processes = "" if alone else f" of {jax.process_count()} processes"
    print(f"training over {len(devices)} devices{of_processes}", flush=True)
    return placed


def _remove(of_many: pathlib.Path) -> None:
    """Remove the checkpoints by shard of a seed, and their folder with those of the last seed."""
    if of_many.is_dir():
        shutil.rmtree(of_many)
        with contextlib.suppress(OSError):  # another seed has some
            of_many.parent.rmdir()
