"""Save and restore the train state of a seed after an epoch."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from hrnn_jax import errors, model, train

KEPT = 2  # the newest, and the one before in case the newest is damaged
_CHECKSUMS = "crc32"  # in the checkpoint's metadata, of each array in the order of the state


@contextlib.contextmanager
def _manager(folder: pathlib.Path, *, saves: bool = False) -> Iterator[ocp.CheckpointManager]:
    # Not asynchronous: the next update donates, and so overwrites, the buffers to be written.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=saves,  # of an interrupted save; to a reader it may be under way
    )
    # Compressed, weights lose a tenth of their size, but are all held once more to be written.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    with ocp.CheckpointManager(
        folder.absolute(), item_handlers=handler, options=options
    ) as manager:
        yield manager


def folder(run: pathlib.Path, seed: int) -> pathlib.Path:
    """Return where a run folder keeps the checkpoints of a seed."""
    return run / "checkpoint" / f"seed_{seed}"


def seeds(run: pathlib.Path) -> list[int]:
    """List the seeds that a run folder has checkpoints of."""
    names = [path.name.removeprefix("seed_") for path in (run / "checkpoint").glob("seed_*")]
    return sorted(int(name) for name in names if name.isdecimal())


def save(folder: pathlib.Path, state: train.TrainState, *, epochs: int) -> None:
    """Write the state after `epochs` epochs; it appears in `folder` whole or not at all.

    Raises InputError where it cannot be written; the checkpoints that are there stay.
    """
    about: dict[str, Any] = {_CHECKSUMS: [_checksum(leaf) for leaf in jax.tree.leaves(state)]}
    try:
        with _manager(folder, saves=True) as manager:
            manager.save(epochs, args=ocp.args.PyTreeSave(state, custom_metadata=about))
    except Exception as error:  # the writer has errors of its own for a full disk
        raise errors.InputError(
            f"cannot write the checkpoint {folder / str(epochs)} ({errors.reason(error)}); "
            "make room there, then --resume goes on from the one before"
        ) from error


def latest(folder: pathlib.Path) -> int:
    """Return after how many epochs the newest checkpoint was saved, 0 if there is none."""
    if not folder.is_dir():
        return 0
    with _manager(folder) as manager:
        return manager.latest_step() or 0


def restore(folder: pathlib.Path, like: train.TrainState, *, epochs: int) -> train.TrainState:
    """Read the state saved after `epochs` epochs; `like` gives its structure, shapes and dtypes.

    Raises InputError where the checkpoint is damaged or of another model.
    """
    expected, structure = jax.tree.flatten(like)
    with _manager(folder) as manager:
        try:
            metadata = manager.item_metadata(epochs)
            # The reader passes over weights that it was not asked for.
            if len(jax.tree.leaves(metadata)) != len(expected):
                raise ValueError("it holds other weights than this model has")
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
            # Partial, for what a later version has and this network does not is None.
            args = ocp.args.PyTreeRestore(like, restore_args=as_numpy, partial_restore=True)
            leaves = jax.tree.leaves(manager.restore(epochs, args=args))
            checksums = (metadata.custom_metadata or {}).get(_CHECKSUMS)
            for leaf, one in zip(leaves, expected, strict=True):
                if (leaf.shape, leaf.dtype) != (one.shape, one.dtype):
                    raise ValueError("its weights have other shapes than this model's")
            if checksums is not None and checksums != [_checksum(leaf) for leaf in leaves]:
                raise ValueError("its weights are not those that were saved")
        except Exception as error:  # whatever the reader trips over, the file is what is wrong
            raise errors.InputError(
                f"cannot read the checkpoint {folder / str(epochs)} ({errors.reason(error)}); "
                "remove that folder to resume from the one before"
            ) from error
    # One by one, so that no second state is held. Arrays that the reader makes are bound to a
    # device, which fresh ones are not: the step would be compiled again for each mixture of them.
    for i, leaf in enumerate(leaves):
        leaves[i] = jax.device_put(leaf)
    return jax.tree.unflatten(structure, leaves)


def fingerprint(params: model.Params) -> str:
    """Return what tells these weights from any others: 16 hexadecimal digits."""
    parts = [(_checksum(leaf), leaf.shape) for leaf in jax.tree.leaves(params)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _checksum(leaf: jax.Array | np.ndarray) -> int:
    """Return the CRC-32 of an array, which plain weights need: any bytes are some weights."""
    return zlib.crc32(np.ascontiguousarray(leaf).data)
