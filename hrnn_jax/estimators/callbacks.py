"""What `fit` calls after each epoch: functions or objects that take an `Epoch`.

    def note(epoch):
        print(epoch.number, epoch.loss, epoch.metrics)

    model.fit(train, epochs=5, callbacks=[note, callbacks.CSV("out/losses.csv")])

A callback that returns True ends the training after the epoch. One with a method `close` is closed
when the training ends.
"""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from hrnn_jax import atomic
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.tensorboard import TensorBoard as TensorBoard
from hrnn_jax.estimators.trained_epoch import Epoch as Epoch
from hrnn_jax.estimators.weights_and_biases import WeightsAndBiases as WeightsAndBiases

Callback = Callable[[Epoch], Any]


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
        """Name the file, which is written anew after each epoch.

        Args:
            path: Of the file; its folder is made.
        """
        self.path = pathlib.Path(path)
        self._rows: list[dict[str, Any]] = []

    def __call__(self, epoch: Epoch) -> None:
        """Add the epoch's row."""
        self._rows.append(epoch.entry())
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(n for row in self._rows for n in row)))
        writer.writeheader()
        writer.writerows(self._rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(self.path, text.getvalue())


class EarlyStopping:
    """End the training when a metric of the validation part has not grown for some epochs.

    The model keeps the weights of the last epoch.
    """

    def __init__(self, metric: str = "mrr@5", *, patience: int = 2):
        """Choose what is watched.

        Args:
            metric: A metric of `validation`, as in "mrr@5".
            patience: The epochs in a row without a new best value after which training ends.
        """
        self.metric, self.patience = metric, patience
        self.best, self.best_epoch = float("-inf"), 0

    def __call__(self, epoch: Epoch) -> bool:
        """Return whether to end.

        Raises:
            InputError: The metric is not measured.
        """
        if self.metric not in epoch.metrics:
            known = ", ".join(epoch.metrics) or "none: give `fit` a `validation` part"
            raise InputError(f"`metric`={self.metric} is not measured; what is: {known}")
        if epoch.metrics[self.metric] > self.best:
            self.best, self.best_epoch = epoch.metrics[self.metric], epoch.number
        return epoch.number - self.best_epoch >= self.patience


def close(callbacks: Sequence[Callback]) -> None:
    """Close the callbacks that can be closed."""
    for callback in callbacks:
        if hasattr(callback, "close"):
            callback.close()  # pyright: ignore[reportFunctionMemberAccess]
