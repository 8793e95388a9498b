"""A callback that writes what TensorBoard shows; needs tensorboardX, imported when it is used."""

from __future__ import annotations

import pathlib
import time
from typing import Any, cast

from hrnn_jax.arguments import path_of
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch
from hrnn_jax.files import atomic


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
            InputError: tensorboardX is not installed, or the folder cannot be made.
        """
        try:
            from tensorboardX import event_file_writer
            from tensorboardX.proto import event_pb2, summary_pb2
        except ImportError as error:
            raise InputError(
                "TensorBoard's files need tensorboardX; run: pip install 'hrnn_jax[tensorboard]'"
            ) from error
        # Not its SummaryWriter, which writes some time later, and changes names with an @.
        self._make: Any = event_file_writer.EventsWriter
        events, summaries = cast(Any, event_pb2), cast(Any, summary_pb2)
        self._event, self._summary = events.Event, summaries.Summary
        self._writer: Any = None
        self.folder = path_of("`folder`", folder)
        atomic.make_folder(self.folder)  # here, and not after an epoch

    def __call__(self, epoch: Epoch) -> None:
        """Write the epoch's values; they are on disk when this returns."""
        if self._writer is None:
            self._writer = self._make(str(self.folder / "events"))
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in epoch.values.items()
        ]
        summary = self._summary(value=values)
        self._writer.write_event(
            self._event(wall_time=time.time(), step=epoch.number, summary=summary)
        )
        self._writer.flush()

    def close(self) -> None:
        """Close the file; the next epoch would begin another one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
