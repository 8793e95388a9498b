"""The checkpoints of a run: of one device, or by shard while it trains over several."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Sequence

import jax

from hrnn_jax.files import checkpoint
from hrnn_jax.network import Network, unstack
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.sharding import checkpoints as by_shard
from hrnn_jax.sharding import over_mesh, processes, tables
from hrnn_jax.training import train

from . import distributed


class Checkpoints:
    """The checkpoints of a run on one device of one process."""

    def __init__(self, folder: pathlib.Path, network: Network) -> None:
        """Keep them in the run's folder."""
        self.folder, self.network = folder, network

    def trained(self, seed: int) -> int:
        """Return after how many epochs the newest checkpoint of a seed was saved, 0 without one."""
        return max(checkpoint.latest(folder) or 0 for folder in self._folders(seed))

    def restore(self, seed: int, epochs: int) -> train.TrainState:
        """Read a checkpoint of a seed, also one of several devices."""
        like = jax.eval_shape(self.network.init_state, 0)
        of_one, of_many = self._folders(seed)
        if checkpoint.latest(of_one) == epochs:
            return checkpoint.restore(of_one, like, epochs=epochs)
        config = self.network.setup.config
        state = by_shard.restore_whole(of_many, like, config, epochs=epochs)
        return jax.tree.map(jax.device_put, state)

    def whole_table(self) -> neighbours.Table | None:
        """Return the neighbours of all items, of a network with `places`."""
        return self.network.table

    def save(self, state: train.TrainState, seeds: Sequence[int], epochs: int) -> None:
        """Write a checkpoint of each seed of a stacked state."""
        for seed, own in zip(seeds, unstack(state, len(seeds)), strict=True):
            checkpoint.save(self._folders(seed)[0], own, epochs=epochs)

    def finish(self, state: train.TrainState, seeds: Sequence[int]) -> None:
        """End the training of some seeds: leave checkpoints of one device alone."""
        for seed, own in zip(seeds, unstack(state, len(seeds)), strict=True):
            of_one, of_many = self._folders(seed)
            trained = checkpoint.latest(of_many)
            if trained is not None and trained > (checkpoint.latest(of_one) or 0):
                checkpoint.save(of_one, own, epochs=trained)
            _remove(of_many)

    def _folders(self, seed: int) -> tuple[pathlib.Path, pathlib.Path]:
        return checkpoint.folder(self.folder, seed), by_shard.folder(self.folder, seed)


class ShardedCheckpoints(Checkpoints):
    """The checkpoints of a run over a mesh, by shard; all processes make the same calls.

    A checkpoint of one device follows the last epoch of a seed, for all that reads run folders.
    """

    def __init__(self, folder: pathlib.Path, network: Network, devices: over_mesh.OverMesh) -> None:
        """Keep them in the run's folder."""
        super().__init__(folder, network)
        self.mesh = devices.mesh

    def trained(self, seed: int) -> int:
        """Return after how many epochs process 0 finds the newest checkpoint of a seed."""
        return processes.of_first(super().trained(seed) if processes.is_first() else 0)

    def restore(self, seed: int, epochs: int) -> train.TrainState:
        """Read a checkpoint of a seed, of any number of devices."""
        like = jax.eval_shape(self.network.init_state, 0)
        of_one, of_many = self._folders(seed)
        config = self.network.setup.config
        if processes.of_first(processes.is_first() and checkpoint.latest(of_one) == epochs):
            whole = checkpoint.restore(of_one, like, epochs=epochs)
            return self.network.devices.put(whole, config)
        return by_shard.restore_state(of_many, like, self.mesh, config, epochs=epochs)

    def whole_table(self) -> neighbours.Table | None:
        """Return the neighbours of all items, in the memory of each process."""
        n_items = self.network.setup.model_config.n_items
        return jax.tree.map(
            lambda rows: tables.in_order(tables.gathered(rows), self.mesh.size, n_items),
            self.network.table,
        )

    def save(self, state: train.TrainState, seeds: Sequence[int], epochs: int) -> None:
        """Write a checkpoint, each process its shards."""
        [seed] = seeds
        _, of_many = self._folders(seed)
        by_shard.save_state(of_many, state, self.mesh, epochs=epochs)

    def finish(self, state: train.TrainState, seeds: Sequence[int]) -> None:
        """Write the checkpoint of one device in place of those by shard."""
        setup = self.network.setup
        n_items = setup.model_config.n_items
        whole = tables.take_state(state, self.mesh, setup.config, n_items)
        if processes.is_first():
            super().finish(whole, seeds)
        distributed.wait()


def make_checkpoints(folder: pathlib.Path, network: Network) -> Checkpoints:
    """Return the checkpoints of a run of a network, which is on the devices that train it."""
    if isinstance(network.devices, over_mesh.OverMesh):
        return ShardedCheckpoints(folder, network, network.devices)
    return Checkpoints(folder, network)


def _remove(of_many: pathlib.Path) -> None:
    """Remove the checkpoints by shard of a seed, and their folder with those of the last seed."""
    if of_many.is_dir():
        shutil.rmtree(of_many)
        with contextlib.suppress(OSError):  # another seed has some
            of_many.parent.rmdir()
