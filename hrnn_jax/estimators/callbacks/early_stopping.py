"""A callback that ends the training."""

from __future__ import annotations

from hrnn_jax.arguments import whole_number
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch


class EarlyStopping:
    """End the training when a metric of the validation part has not grown for some epochs.

    The model keeps the weights of the last epoch. Epoch 1 begins anew, so that one object can
    follow several trainings, one after the other.
    """

    def __init__(self, metric: str = "mrr@5", *, patience: int = 2):
        """Choose what is watched.

        Args:
            metric: A metric of `validation`, as in "mrr@5".
            patience: The epochs in a row without a new best value after which training ends, at
                least 1.

        Raises:
            InputError: `patience` is no such number.
        """
        self.metric, self.patience = metric, whole_number("`patience`", patience)
        self.best, self.best_epoch = float("-inf"), 0

    def __call__(self, epoch: Epoch) -> bool:
        """Return whether to end.

        Raises:
            InputError: The metric is not measured.
        """
        if self.metric not in epoch.metrics:
            known = ", ".join(epoch.metrics) or "none: give `fit` a `validation` part"
            raise InputError(f"`metric`={self.metric} is not measured; what is: {known}")
        if epoch.number == 1 or epoch.metrics[self.metric] > self.best:
            self.best, self.best_epoch = epoch.metrics[self.metric], epoch.number
        return epoch.number - self.best_epoch >= self.patience
