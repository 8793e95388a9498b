"""Save and restore the train state of a seed after an epoch."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from hrnn_jax import errors, training

KEPT = 2  # the newest, and the one before in case the newest is damaged


@contextlib.contextmanager
def _manager(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    # Not asynchronous: the next update donates, and so overwrites, the buffers to be written.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,  # of an interrupted save
    )
    handler = ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(
        folder.absolute(), item_handlers=handler, options=options
    ) as manager:
        yield manager


def save(folder: pathlib.Path, state: training.TrainState, *, epochs: int) -> None:
    """Write the state after `epochs` epochs; it appears in `folder` whole or not at all."""
    with _manager(folder) as manager:
        manager.save(epochs, args=ocp.args.StandardSave(state))


def latest(folder: pathlib.Path) -> int:
    """Return after how many epochs the newest checkpoint was saved, 0 if there is none."""
    if not folder.is_dir():
        return 0
    with _manager(folder) as manager:
        return manager.latest_step() or 0


def restore(folder: pathlib.Path, like: training.TrainState, *, epochs: int) -> training.TrainState:
    """Read the state saved after `epochs` epochs; `like` gives its structure, shapes and dtypes.

    Raises InputError where the checkpoint is damaged or of another model.
    """
    with _manager(folder) as manager:
        abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            # The reader passes over weights that it was not asked for.
            if len(jax.tree.leaves(manager.item_metadata(epochs))) != len(jax.tree.leaves(like)):
                raise ValueError("it holds other weights than this model has")
            restored = manager.restore(epochs, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # whatever the reader trips over, the file is what is wrong
            reason = (str(error) or repr(error)).splitlines()[0][:200]
            raise errors.InputError(
                f"cannot read the checkpoint {folder / str(epochs)} ({reason}); "
                "remove that folder to resume from the one before"
            ) from error
    # Restored arrays are bound to a device, which fresh ones are not: the step would be compiled
    # again for each mixture of them.
    return jax.tree.map(lambda array: jax.device_put(np.array(array)), restored)
