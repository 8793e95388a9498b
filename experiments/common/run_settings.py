"""The configs that a run is made of, and the names of their settings.

Nothing here defines a flag, so that commands about finished runs can use it.
"""

from __future__ import annotations

from hrnn_jax.config import (
    CountsConfig,
    EaseConfig,
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    PopularConfig,
    SessionKnnConfig,
    StanConfig,
    TrainConfig,
    settings,
)

CONFIGS = {  # and where --help lists their flags
    ModelConfig: "model",
    TrainConfig: "training",
    EvaluationConfig: "evaluation",
    ItemKnnConfig: "model",
    SessionKnnConfig: "model",
    StanConfig: "model",
    EaseConfig: "model",
    PopularConfig: "model",
    CountsConfig: "model",
}


def names(*groups: str) -> tuple[str, ...]:
    """Return the settings of the configs in some groups, each once, in their order; by default all.

    Args:
        groups: of "model", "training" and "evaluation".
    """
    chosen = [config for config, group in CONFIGS.items() if not groups or group in groups]
    return tuple(dict.fromkeys(name for config in chosen for name in settings(config)))
