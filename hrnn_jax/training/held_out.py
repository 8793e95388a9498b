"""A network trained beside another one, on its log without each user's last session.

The weights of the other one's mixture are learnt with it, see repeat_explore/fit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from hrnn_jax import network as networks
from hrnn_jax.network import EpochResult, Network, OneDevice
from hrnn_jax.repeat_explore.mixture import Mixture, PlaceNetwork
from hrnn_jax.training.train import TrainState


class Chosen(NamedTuple):
    """How many epochs the held-out sessions are best after."""

    epochs: int
    mixture: Mixture | None  # after so many; None where none was trained to choose
    scores: tuple[float, ...]  # the mean reciprocal rank of the held-out events by epoch


def best_epoch(scores: Sequence[float], *, most: int, patience: int) -> int | None:
    """Return after which epoch to stop, or None if a further one has to be tried.

    Args:
        scores: of the epochs so far; those after `most` do not count.
        most: epochs that are trained at most.
        patience: the epochs in a row without a new best score after which the search ends; 0 if
            all are trained.
    """
    if not patience:
        return most
    scores = scores[:most]
    best = max(range(len(scores)), key=scores.__getitem__, default=-1) + 1
    return best if len(scores) >= min(most, best + patience) else None


class HeldOut:
    """The network on the shorter log; it is trained when a mixture is asked for."""

    def __init__(self, network: Network, start: TrainState | None, seed: int):
        """Leave out the last sessions.

        Args:
            network: the other one, which has `places`.
            start: what its training started from, whole arrays of one seed; None for drawn
                weights.
            seed: of both networks.
        """
        setup = network.setup
        self.network = networks.make_network(
            network.log.held_out(),
            setup.model_config,
            setup.config,
            network.evaluation_config.of_all_items(),
            devices=network.devices,
        )
        self._seed, self._epochs = seed, 0
        self._place: PlaceNetwork | None = None
        self._start = None if start is None else jax.device_get(start)
        self._state: TrainState | None = None

    def mixture(
        self, epochs: int, train_epoch: Callable[..., EpochResult] | None = None
    ) -> Mixture:
        """Learn the mixture of the other network after some epochs.

        Args:
            epochs: fewer than those of an earlier call are trained anew.
            train_epoch: trains an epoch of the shorter log, as `OneDevice.train_epoch` does.
        """
        train_epoch = train_epoch or self._devices.train_epoch
        state, self._state = self._state, None
        if state is None or epochs < self._epochs:
            state, self._epochs = self._initial_state(), 0
        while self._epochs < epochs:
            state = train_epoch(self.network, state, [self._seed], self._epochs).state
            self._epochs += 1
        self._state = state
        mixture = self._devices.learn_mixture(self.network, state.params, self._seed, self._place)
        self._place = mixture.place
        return mixture

    def _initial_state(self) -> TrainState:
        if self._start is None:
            return self._devices.init_state(self.network, self._seed)
        return self._devices.put(self._start, self.network.setup.config)

    @property
    def _devices(self) -> OneDevice:
        return self.network.devices

    def choose_epochs(
        self, most: int, train_epoch: Callable[..., EpochResult] | None = None
    ) -> Chosen:
        """Train until `held_out_patience` epochs in a row have not improved the held-out lists.

        Where no event can be held out, as of users with one session each, nothing tells which
        number of epochs is best, and `most` it is.

        Args:
            most: the epochs to train at most.
            train_epoch: as of `mixture`.
        """
        if not len(self.network.log.cases):
            return Chosen(most, None, ())
        patience = self.network.setup.config.held_out_patience
        scores: list[float] = []
        mixture: Mixture | None = None
        while (chosen := best_epoch(scores, most=most, patience=patience)) is None:
            latest = self.mixture(len(scores) + 1, train_epoch)
            assert self._state is not None
            ranks = self._devices.rank(self.network, self._state.params, latest).rank
            scores.append(float(np.mean(1 / ranks)))
            if scores[-1] > max(scores[:-1], default=-1.0):
                mixture = latest
        return Chosen(chosen, mixture, tuple(scores))
