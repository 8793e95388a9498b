"""Checkpoints of arrays that lie on the devices of several processes, by orbax.

Each process writes its own shards, to a file system that all of them share. A checkpoint is there
once all have written, so that one that is killed leaves the checkpoint before. It is read by any
number of devices and processes that its arrays can be divided by. Run folders keep the format of
`hrnn_jax.checkpoint`, which one process writes.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Generator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from hrnn_jax.checkpoint import KEPT
from hrnn_jax.errors import InputError, reason

Tree = TypeVar("Tree")
_CHECKSUMS = "sums"  # in the checkpoint's metadata, of each array in the order of the state


@contextlib.contextmanager
def _manager(folder: pathlib.Path) -> Generator[ocp.CheckpointManager]:
    # Not asynchronous: the next update donates, and so overwrites, the buffers to be written.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    made = ocp.CheckpointManager(folder.absolute(), item_handlers=handler, options=options)
    with made as manager:
        yield manager


def save(folder: pathlib.Path, state: Any, *, epochs: int) -> None:
    """Write a checkpoint, whole or not at all; called by all processes.

    Args:
        folder: of the checkpoints, the same one for all processes.
        state: arrays, each on the devices of all processes.
        epochs: after how many epochs the state is.

    Raises:
        InputError: the checkpoint cannot be written; the earlier ones stay.
    """
    metadata: dict[str, Any] = {_CHECKSUMS: checksums(state)}
    try:
        with _manager(folder) as manager:
            manager.save(epochs, args=ocp.args.PyTreeSave(state, custom_metadata=metadata))
    except OSError as error:
        raise InputError(
            f"cannot write the checkpoint {folder / str(epochs)} ({reason(error)}); make room "
            "there, then continue from the one before with `resume`"
        ) from error


def latest(folder: pathlib.Path) -> int:
    """Return after how many epochs the newest checkpoint was saved, 0 without one."""
    with _manager(folder) as manager:
        return manager.latest_step() or 0


def restore(folder: pathlib.Path, like: Tree, *, epochs: int) -> Tree:
    """Read a checkpoint onto the devices; called by all processes, of which each reads its shards.

    Args:
        folder: of the checkpoints.
        like: shapes, dtypes and shardings of the state that is expected. The devices may be others
            than those that it was saved from.
        epochs: after how many epochs the state was saved.

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    with _manager(folder) as manager:
        try:
            metadata: Any = manager.item_metadata(epochs)
            there, expected = (
                [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
                for tree in (metadata.tree, like)
            )
            if there != expected:
                raise ValueError("it holds other weights than this model has")
            shardings = ocp.checkpoint_utils.construct_restore_args(like)
            args = ocp.args.PyTreeRestore(like, restore_args=shardings)
            state: Any = manager.restore(epochs, args=args)
            if metadata.custom_metadata[_CHECKSUMS] != checksums(state):
                raise ValueError("its weights are not those that were saved")
        except Exception as error:  # the reader has no error of its own for a damaged file
            raise InputError(
                f"cannot read the checkpoint {folder / str(epochs)} ({reason(error)}); remove that "
                "folder to go on from the one before"
            ) from error
    return state


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
