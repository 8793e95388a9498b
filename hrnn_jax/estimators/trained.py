"""The network of a fitted model: its weights, its epochs and its mixture."""

from __future__ import annotations

import dataclasses
from typing import Any

from hrnn_jax import network
from hrnn_jax.errors import InputError
from hrnn_jax.repeat_explore.mixture import FittedMixture, Mixture
from hrnn_jax.training import train
from hrnn_jax.training.held_out import HeldOut


@dataclasses.dataclass
class Trained:
    """A network and what training changes of it."""

    network: network.Network
    state: train.TrainState
    seed: int
    epochs: int = 0  # on this log
    lineage: tuple[str, ...] = ()  # fingerprints of the weights that these continue
    held_out: HeldOut | None = None  # of a network with `places`
    mixture: Mixture | None = None
    mixture_epochs: int = -1  # of the network that the mixture was learnt with
    # A line of history.jsonl for each epoch.
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def fitted(self) -> FittedMixture | None:
        """The mixture with the neighbours of the log."""
        return network.fitted(self.network, self.present_mixture())

    def choose_epochs(self, most: int) -> int:
        """Return how many further epochs to train: `most`, or fewer by `held_out_patience`."""
        if self.held_out is None or self.epochs:
            return most
        chosen = self.held_out.choose_epochs(most)
        if chosen.mixture is not None:
            self.mixture, self.mixture_epochs = chosen.mixture, chosen.epochs
        return chosen.epochs

    def check_further(self, epochs: int) -> None:
        """Raise InputError unless the network can be trained for further epochs on its log."""
        config = self.network.setup.config
        if config.schedule != "constant" and self.epochs + epochs > config.schedule_epochs:
            raise InputError(
                f"`epochs`={epochs}: by `schedule_epochs`={config.schedule_epochs} the learning "
                f"rate is 0 after so many epochs, and {self.epochs} are trained; give a new model "
                "as many as it is to have in all"
            )
        if self.network.table is not None and self.held_out is None and epochs:
            raise InputError(
                "a loaded model with `places` that continued another one has no longer what its "
                "mixture is learnt from: train on before it is saved, or give a new log"
            )

    def hold_out(self, start: train.TrainState | None) -> None:
        """Prepare to learn the mixture of a network with `places`."""
        if self.network.table is not None:
            self.held_out = HeldOut(self.network, start, self.seed)

    def present_mixture(self) -> Mixture | None:
        """Return the mixture of the present epochs, learnt if need be; None without `places`."""
        if self.held_out is not None and self.mixture_epochs != self.epochs:
            self.mixture = self.held_out.mixture(self.epochs)
            self.mixture_epochs = self.epochs
        return self.mixture
