"""A callback that writes what TensorBoard shows; needs tensorboardX, imported when it is used."""

from __future__ import annotations

import pathlib
from typing import Any

from hrnn_jax.errors import InputError
from hrnn_jax.estimators.trained_epoch import Epoch


class TensorBoard:
    """Write the loss and the metrics of each epoch as scalars, by epoch.

    TensorBoard shows those of several models side by side where their folders are in one that it
    is pointed at.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Name the folder.

        Args:
            folder: Of this model's events; it is made.

        Raises:
            InputError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InputError(
                "TensorBoard's files need tensorboardX; run: pip install 'hrnn_jax[tensorboard]'"
            ) from error
        self._make, self._writer = SummaryWriter, None
        self.folder = pathlib.Path(folder)

    def __call__(self, epoch: Epoch) -> None:
        """Write the epoch's values; they are on disk when this returns."""
        writer: Any = self._writer or self._make(str(self.folder), write_to_disk=True)
        self._writer = writer
        for name, value in epoch.values.items():
            writer.add_scalar(name, value, epoch.number)
        writer.flush()

    def close(self) -> None:
        """Close the file; the next epoch would begin another one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
