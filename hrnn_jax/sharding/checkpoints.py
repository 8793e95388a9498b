"""Checkpoints of arrays that lie on the devices of several processes, by orbax.

Each process writes its own shards, to a file system that all of them share. A checkpoint is there
once all have written, so that one that is killed leaves the checkpoint before. It is read by any
number of devices and processes that its arrays can be divided by; the state of a network
(`save_state`) by any number. A run folder keeps them while its training is under way, and at its
end the format of `hrnn_jax.files.checkpoint`, which one process writes.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding

from hrnn_jax.config import TrainConfig
from hrnn_jax.files import checkpoint
from hrnn_jax.sharding import processes, tables
from hrnn_jax.training.train import TrainState

Tree = TypeVar("Tree")
_SHARDS = "shards"  # in the checkpoint's metadata, of a network's state: D
_CHECKSUMS = "sums"  # in the checkpoint's metadata, of each array in the order of the state


@contextlib.contextmanager
def _manager(folder: pathlib.Path) -> Generator[ocp.CheckpointManager]:
    # Not asynchronous: the next update donates, and so overwrites, the buffers to be written.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=checkpoint.KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    made = ocp.CheckpointManager(folder.absolute(), item_handlers=handler, options=options)
    with made as manager:
        yield manager


def folder(run: pathlib.Path, seed: int) -> pathlib.Path:
    """Return the folder of a seed's checkpoints in the folder of a run over several devices."""
    return run / "shards" / f"seed_{seed}"


def save(
    folder: pathlib.Path, state: Any, *, epochs: int, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint, whole or not at all; called by all processes.

    Args:
        folder: of the checkpoints, the same one for all processes.
        state: arrays, each on the devices of all processes.
        epochs: after how many epochs the state is.
        metadata: what else it says.

    Raises:
        InputError: the checkpoint cannot be written; the earlier ones stay.
    """
    said: dict[str, Any] = {_CHECKSUMS: checksums(state), **(metadata or {})}
    try:
        with _manager(folder) as manager:
            manager.save(epochs, args=ocp.args.PyTreeSave(state, custom_metadata=said))
    except Exception as error:  # the writer raises many types for a full disk
        if processes.is_of_another(error):
            raise
        raise checkpoint.cannot_write(folder, epochs, error) from error


def restore(folder: pathlib.Path, like: Tree, *, epochs: int, whole: bool = False) -> Tree:
    """Read a checkpoint onto the devices; called by all processes, of which each reads its shards.

    Args:
        folder: of the checkpoints.
        like: shapes, dtypes and shardings of the state that is expected. The devices may be others
            than those that it was saved from.
        epochs: after how many epochs the state was saved.
        whole: whether each process reads the arrays as a whole, as numpy arrays.

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    with _reported(folder, epochs), _manager(folder) as manager:
        metadata: Any = manager.item_metadata(epochs)
        # Sorted, as the metadata have names in place of the state's classes, in another order.
        there, expected = (
            sorted((tuple(leaf.shape), str(leaf.dtype)) for leaf in jax.tree.leaves(tree))
            for tree in (metadata.tree, like)
        )
        if there != expected:
            raise ValueError("it holds other weights than this model has")
        if whole:
            how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        else:
            how = ocp.checkpoint_utils.construct_restore_args(like)
        state: Any = manager.restore(epochs, args=ocp.args.PyTreeRestore(like, restore_args=how))
        if metadata.custom_metadata[_CHECKSUMS] != checksums(state):
            raise ValueError("its weights are not those that were saved")
    return state


@contextlib.contextmanager
def _reported(folder: pathlib.Path, epochs: int) -> Generator[None]:
    try:
        yield
    except Exception as error:  # the reader has no error of its own for a damaged file
        raise checkpoint.cannot_read(folder, epochs, error) from error


def save_state(folder: pathlib.Path, state: TrainState, mesh: Mesh, *, epochs: int) -> None:
    """Write a checkpoint of a state that `tables.put_state` put onto a mesh, see `save`."""
    save(folder, state, epochs=epochs, metadata={_SHARDS: mesh.size})


def restore_state(
    folder: pathlib.Path, like: TrainState, mesh: Mesh, config: TrainConfig, *, epochs: int
) -> TrainState:
    """Read a checkpoint of `save_state` onto a mesh; called by all processes.

    From another number of shards than the mesh has, each process reads the state as a whole.

    Args:
        folder: of the checkpoints.
        like: shapes and dtypes of the state on one device.
        mesh: of `tables.make_mesh`.
        config: of the training.
        epochs: after how many epochs the state was saved.

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    shards = _shards(folder, epochs)
    if shards != mesh.size:
        whole = _restore_whole(folder, like, config, epochs=epochs, shards=shards)
        return tables.put_state(whole, mesh, config)
    shapes = _by_shard(like, shards, config)
    specs = tables.state_specs(like, config)
    placed = jax.tree.map(
        lambda a, spec: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec)),
        *(shapes, specs),
    )
    return restore(folder, placed, epochs=epochs)


def restore_whole(
    folder: pathlib.Path, like: TrainState, config: TrainConfig, *, epochs: int
) -> TrainState:
    """Read a checkpoint of `save_state` as numpy arrays, rows in the order of the items.

    See `restore_state`.
    """
    shards = _shards(folder, epochs)
    return _restore_whole(folder, like, config, epochs=epochs, shards=shards)


def _restore_whole(
    folder: pathlib.Path, like: TrainState, config: TrainConfig, *, epochs: int, shards: int
) -> TrainState:
    state = restore(folder, _by_shard(like, shards, config), epochs=epochs, whole=True)
    n_items = len(like.params.items.item_bias)

    def take(leaf: np.ndarray, spec: Any) -> np.ndarray:
        return tables.in_order(leaf, shards, n_items) if spec == tables.BY_SHARD else leaf

    return jax.tree.map(take, state, tables.state_specs(like, config))


def _shards(folder: pathlib.Path, epochs: int) -> int:
    """Return the number of shards of a checkpoint of `save_state`."""
    with _reported(folder, epochs), _manager(folder) as manager:
        metadata: Any = manager.item_metadata(epochs)
        return metadata.custom_metadata[_SHARDS]


def _by_shard(like: TrainState, n_shards: int, config: TrainConfig) -> TrainState:
    """Return the shapes of a state, its tables by shard and padded."""

    def shape(leaf: Any, spec: Any) -> Any:
        if spec != tables.BY_SHARD:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        rows = n_shards * tables.n_rows(leaf.shape[0], n_shards)
        return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)

    return jax.tree.map(shape, like, tables.state_specs(like, config))


def checksums(state: Any) -> list[int]:
    """Return a sum over the bits of each array, in which the place of an element counts.

    It is of integers modulo 2**32, so it is the same on any number of devices, none of which has to
    hold a whole array.
    """
    return [int(sum_) for sum_ in jax.device_get(_checksums(jax.tree.leaves(state)))]


@jax.jit
def _checksums(leaves: list[jax.Array]) -> list[jax.Array]:
    def of(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}"))
        bits, place = bits.astype(jnp.uint32), jnp.zeros(leaf.shape, jnp.uint32)
        for axis, size in enumerate(leaf.shape):
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(
                jnp.uint32, leaf.shape, axis
            )
        # An odd factor: a change of any bit changes its term.
        return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)

    return [of(leaf) for leaf in leaves]
