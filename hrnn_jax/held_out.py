"""A network trained beside another one, on its log without each user's last session.

The weights of the other one's mixture are learnt with it, see repeat_explore/fit.py.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from hrnn_jax import network as networks
from hrnn_jax.network import EpochResult, Network
from hrnn_jax.repeat_explore import fit
from hrnn_jax.repeat_explore.mixture import Mixture
from hrnn_jax.train import TrainState


class HeldOut:
    """The network on the shorter log; it is trained when a mixture is asked for."""

    def __init__(self, network: Network, start: TrainState | None, seed: int):
        """Leave out the last sessions.

        Args:
            network: the other one, which has `places`.
            start: what its training started from, of one seed; None for drawn weights.
            seed: of both networks.
        """
        setup = network.setup
        self.network = networks.make_network(
            network.train_log.held_out(),
            setup.model_config,
            setup.config,
            network.evaluation_config,
        )
        self._seed, self._epochs = seed, 0
        # A copy, as training gives the memory of its state away.
        self._state = None if start is None else jax.tree.map(jnp.array, start)

    def mixture(
        self, epochs: int, train_epoch: Callable[..., EpochResult] = networks.train_epoch
    ) -> Mixture:
        """Learn the mixture of the other network after some epochs.

        Args:
            epochs: at least those of the last call.
            train_epoch: trains an epoch of the shorter log, as `network.train_epoch` does.
        """
        state = self.network.init_state(self._seed) if self._state is None else self._state
        while self._epochs < epochs:
            state = train_epoch(self.network, state, [self._seed], self._epochs).state
            self._epochs += 1
        self._state = state
        table = self.network.table
        assert table is not None
        return fit.fit(
            state.params,
            self.network.log,
            table,
            model_config=self.network.setup.model_config,
            seed=self._seed,
        )
