"""Where a run trains: on one device, or over the mesh of all devices of all its processes."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Sequence

import jax
from absl import flags

from hrnn_jax import network
from hrnn_jax.files import checkpoint
from hrnn_jax.network import Network, unstack
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.sharding import checkpoints, over_mesh, processes, tables
from hrnn_jax.training import train

from . import distributed

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
            if checkpoint.latest(of_one) < (trained := checkpoint.latest(of_many)):
                checkpoint.save(of_one, own, epochs=trained)
            _remove(of_many)

    def _folders(self, seed: int) -> tuple[pathlib.Path, pathlib.Path]:
        return checkpoint.folder(self.folder, seed), checkpoints.folder(self.folder, seed)


class OverMesh(OneDevice):
    """Tables by row and lanes by device over a mesh; all processes make the same calls.

    A checkpoint of one device follows the last epoch of a seed, for all that reads run folders.
    """

    def __init__(self, folder: pathlib.Path, network: Network, devices: over_mesh.OverMesh) -> None:
        """Place a run in its folder."""
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
        if processes.of_first(processes.is_first() and checkpoint.latest(of_one) >= epochs):
            whole = checkpoint.restore(of_one, like, epochs=epochs)
            return self.network.devices.put(whole, config)
        return checkpoints.restore_state(of_many, like, self.mesh, config, epochs=epochs)

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
        checkpoints.save_state(of_many, state, self.mesh, epochs=epochs)

    def finish(self, state: train.TrainState, seeds: Sequence[int]) -> None:
        """Write the checkpoint of one device in place of those by shard."""
        setup = self.network.setup
        n_items = setup.model_config.n_items
        whole = tables.take_state(state, self.mesh, setup.config, n_items)
        if processes.is_first():
            super().finish(whole, seeds)
        distributed.wait()


def devices() -> network.OneDevice:
    """Return where a run trains: over a mesh of several processes, or of lane groups and devices.

    Raises:
        InputError: what it trains is not trained over several devices.
    """
    found, groups = jax.devices(), FLAGS.lane_groups
    alone = jax.process_count() == 1
    if alone and (len(found) == 1 or groups == 1):
        if len(found) > 1:
            print(
                f"1 of {len(found)} devices trains: --lane_groups={len(found)}, or a multiple, "
                "trains over all"
            )
        return network.ONE_DEVICE
    if alone:
        distributed.refuse_for_mesh(f"--lane_groups={groups} on {len(found)} devices")
    return over_mesh.OverMesh(tables.make_mesh(found))


def place(folder: pathlib.Path, network: Network) -> OneDevice:
    """Place a run of a network, which is on the devices that train it."""
    if not isinstance(network.devices, over_mesh.OverMesh):
        return OneDevice(folder, network)
    n_processes = jax.process_count()
    of_processes = f" of {n_processes} processes" if n_processes > 1 else ""
    print(f"training over {network.devices.mesh.size} devices{of_processes}", flush=True)
    return OverMesh(folder, network, network.devices)


def _remove(of_many: pathlib.Path) -> None:
    """Remove the checkpoints by shard of a seed, and their folder with those of the last seed."""
    if of_many.is_dir():
        shutil.rmtree(of_many)
        with contextlib.suppress(OSError):  # another seed has some
            of_many.parent.rmdir()
