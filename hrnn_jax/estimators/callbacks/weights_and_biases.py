"""A callback that logs to Weights & Biases; needs wandb, imported when it is used."""

from __future__ import annotations

from typing import Any

from hrnn_jax.errors import InputError
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch


class WeightsAndBiases:
    """Log the loss and the metrics of each epoch as a run of Weights & Biases."""

    def __init__(self, **settings: Any):
        """Begin no run yet: it begins with the first epoch.

        Args:
            **settings: Of `wandb.init`, as in `project="hrnn"`, `config=model.get_params()` or
                `mode="offline"`.

        Raises:
            InputError: wandb is not installed.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError(
                "Weights & Biases needs its package; run: pip install 'hrnn_jax[wandb]'"
            ) from error
        self._init: Any = wandb.init
        self._settings, self._run = settings, None

    def __call__(self, epoch: Epoch) -> None:
        """Log the epoch's values."""
        run: Any = self._run or self._init(**self._settings)
        self._run = run
        run.log(epoch.values, step=epoch.number)

    def close(self) -> None:
        """End the run; the next epoch would begin another one."""
        if self._run is not None:
            self._run.finish()
        self._run = None
