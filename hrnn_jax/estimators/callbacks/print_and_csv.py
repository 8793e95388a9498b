"""Callbacks that print a line, or write a CSV file."""

from __future__ import annotations

import csv
import io
import pathlib
from typing import Any

from hrnn_jax.arguments import path_of
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch
from hrnn_jax.files import atomic


class Print:
    """Print a line for each epoch: loss, metrics, rate and time left. What `fit` has by default."""

    def __call__(self, epoch: Epoch) -> None:
        """Print the line."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in epoch.values.items())
        line = f"epoch {epoch.number}/{epoch.last}  {values}  "
        if epoch.rate:
            left = (epoch.last - epoch.number) * epoch.events / epoch.rate
            line += f"{epoch.rate:,.0f} events/s  {epoch.seconds:.1f} s"
            line += f", {left:.0f} s left" if round(left) else ""
        else:
            line += f"{epoch.seconds:.1f} s with compiling"
        print(line, flush=True)


class CSV:
    """Write a CSV file with a row for each epoch: epoch, loss, events, seconds and metrics."""

    def __init__(self, path: str | pathlib.Path):
        """Name the file, which is written anew after each epoch and begins anew with epoch 1.

        Args:
            path: Of the file; its folder is made.

        Raises:
            InputError: The folder cannot be made, or a folder has the file's name.
        """
        self.path = path_of("`path`", path)
        atomic.make_folder(self.path.parent)  # here, and not after an epoch
        if self.path.is_dir():
            raise InputError(f"`path`={self.path} is a folder: give the path of a file")
        self._rows: list[dict[str, Any]] = []

    def __call__(self, epoch: Epoch) -> None:
        """Add the epoch's row."""
        self._rows = [*(self._rows if epoch.number > 1 else ()), epoch.entry()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(n for row in self._rows for n in row)))
        writer.writeheader()
        writer.writerows(self._rows)
        atomic.write(self.path, text.getvalue())
