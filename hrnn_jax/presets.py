"""What the models are called, and hrnn_plus: HRNN Init with extensions that go well together.

Nothing here imports jax or polars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hrnn_jax.config import BASELINES, NETWORKS

# hrnn_plus: a softmax over the items on offer at the time, the idle time as an input, and a mixture
# of two probabilities: to repeat an item of the user's past, or to explore the others, with what
# others had next to the last items. Not in the paper. The settings
# of `ModelConfig` and `TrainConfig` that it has.
HRNN_PLUS: Mapping[str, Any] = {
    "hidden_units": 100,
    "batch_size": 50,
    "places": 256,
    "neighbours": 100,
    "idle_gap": True,
    "dropout_user": 0.0,
    "dropout_session": 0.3,
    "dropout_init": 0.0,
    "loss": "softmax",
    "extra_negatives": 2048,
    "negative_hours": 24.0,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "momentum": 0.0,
    "held_out_patience": 2,
}
# Models that are a network with settings: by name the network, and its settings.
PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"hrnn_plus": ("hrnn_init", HRNN_PLUS)}

NAMES = {
    "rnn": "RNN",
    "rnn_concat": "RNN Concat",
    "hrnn_init": "HRNN Init",
    "hrnn_all": "HRNN All",
    "ppop": "PPOP",
    "item_knn": "Item-KNN",
    "markov": "Markov",
    "sr": "SR",
    "vsknn": "V-SKNN",
    "vsknn_br": "V-SKNN_BR",
    "stan": "STAN",
    "vstan": "VSTAN",
    "u_vstan": "U-VSTAN",
    "ease": "EASE",
    "popular": "Popular",
    "counts": "Counts",
    "hrnn_plus": "hrnn_plus",
}
assert list(NAMES) == [*NETWORKS, *BASELINES, *PRESETS]


def network_of(model: str) -> str:
    """Return the network that a preset is of, and any other model itself."""
    return PRESETS[model][0] if model in PRESETS else model
