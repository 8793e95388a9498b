"""The networks: HRNN, hrnn_plus, RNN and RNN Concat."""

from __future__ import annotations

from typing import Any

from hrnn_jax.config import settings
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.network_model import NetworkModel
from hrnn_jax.presets import HRNN_PLUS


class HRNN(NetworkModel):
    """The hierarchical network of the paper, HRNN Init or HRNN All (Section 3.2).

    Settings: the fields of `ModelConfig` and `TrainConfig`, as in
    `HRNN("all", hidden_units=500, leak="carried")`. `help(HRNN)` lists all with their defaults,
    those of Table 2's small HRNN Init.
    """

    models = ("hrnn_init", "hrnn_all")

    def __init__(self, variant: str = "init", **settings: Any):
        """Make a network that is not fitted.

        Args:
            variant: "init": the user's state begins a session. "all": it enters each step too.
            **settings: See the class.

        Raises:
            InputError: A value is out of bounds, or has no effect next to the others.
        """
        if variant not in ("init", "all"):
            raise InputError(f"`variant`={variant}: give init or all")
        self._variant = variant
        super().__init__(**settings)

    @property
    def key(self) -> str:
        """The key of the model in `presets.NAMES`."""
        return f"hrnn_{self._variant}"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all settings, those at their defaults included.

        Args:
            deep: Ignored; scikit-learn asks so.
        """
        return {"variant": self._variant, **super().get_params(deep)}

    def _of(self, config: type) -> dict[str, Any]:
        found = super()._of(config)
        for name, one in settings(config).items():
            if self.key not in one.models and found[name] != self.defaults[name]:
                raise InputError(
                    f"`{name}`={found[name]} is not used by {self.name}: drop it; models that use "
                    f"it: {', '.join(one.models)}"
                )
        return found


class HRNNPlus(NetworkModel):
    """hrnn_plus: HRNN Init with what the paper does not have, see `hrnn_jax.presets`.

    Settings: the fields of `ModelConfig` and `TrainConfig`, with defaults of its own.
    """

    models, preset = ("hrnn_init",), HRNN_PLUS

    @property
    def name(self) -> str:
        """What tables call the model."""
        return "hrnn_plus"


class RNN(NetworkModel):
    """The network without users: one GRU over the items of a session (Section 3.1).

    Settings: the fields of `ModelConfig` and `TrainConfig` that it uses.
    """

    models = ("rnn",)


class RNNConcat(NetworkModel):
    """RNN over all sessions of a user, one after the other (Section 4.2).

    Settings: the fields of `ModelConfig` and `TrainConfig` that it uses.
    """

    models = ("rnn_concat",)
