"""The formats of a run folder's recipe.json; recipes of earlier versions in the present one.

Nothing here imports jax or polars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hrnn_jax import errors
from hrnn_jax.config import ModelConfig

# Format 1 of a run folder's recipe.json left out settings at their defaults, so the defaults of
# then are kept here: a later change of a default must not change an old run. Format 2 has all
# settings of its time.
RECIPE_FORMAT = 4
_SINCE_FORMAT_3 = {"leak": "equation"}
_SINCE_FORMAT_4 = ("places", "neighbours")
# To format 4, which some runs were written in without them.
_ADDED_TO_MODEL = {"residual": False, "recurrent_dropout": True}
_ADDED_TO_TRAINING = {"lane_groups": 1, "held_out_patience": 0}
UNTIL_FORMAT_4 = ("neighbours_weight",)
_FORMAT_1_MODEL = {
    "embedding": "none",
    "dropout_embedding": 0.0,
    "idle_gap": False,
    "past": 0,
    "neighbours": 0,
    "neighbours_weight": 0.4,
}
_FORMAT_1_TRAINING = {
    "activation": None,
    "regularisation": 0.0,
    "extra_negatives": 0,
    "negative_alpha": 0.75,
    "mask_false_negatives": False,
    "negative_hours": 0.0,
    "log_q": False,
    "schedule": "constant",
    "schedule_epochs": 0,
    "mean_over": "valid",
}
# Settings of former versions, with the one value under which a run does not need them.
REMOVED = {
    "past": 0,
    "init_gate": False,
    "warmup": 0.0,
    "clip": 0.0,
    "weight_decay": 0.0,
}


def upgrade_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's recipe in the present format, whatever version wrote it.

    Raises InputError for a run that needs a removed setting or has a later format; KeyError or
    TypeError for what is no run's recipe.
    """
    written_in = recipe.get("format", 1)
    if written_in > RECIPE_FORMAT:
        raise errors.InputError(
            f"the run's recipe is in format {written_in}, and this version reads up to "
            f"{RECIPE_FORMAT}: use the version that made the run"
        )
    if "training" not in recipe:
        return {**recipe, "format": RECIPE_FORMAT}
    model = {**_ADDED_TO_MODEL, **recipe["model"]}
    training = {**_ADDED_TO_TRAINING, **recipe["training"]}
    if written_in == RECIPE_FORMAT:
        return {**recipe, "model": model, "training": training}
    if written_in == 1:
        model = {**_FORMAT_1_MODEL, **model}
        training = {**_FORMAT_1_TRAINING, **training}
        model["feed_last_item"] = training.pop("feed_last_item")
    if written_in < 3:
        model = {**_SINCE_FORMAT_3, **model}
    for part in (model, training):
        for name in REMOVED.keys() & part.keys():
            if part[name] != REMOVED[name]:
                raise errors.InputError(
                    f"the run was made with {name}={part[name]}, which this version no longer "
                    "has: use the version that made it, or train a new run"
                )
            del part[name]
    model |= {name: ModelConfig.__dataclass_fields__[name].default for name in _SINCE_FORMAT_4}
    for name in UNTIL_FORMAT_4:  # they had no effect without a past
        model.pop(name, None)
    return {**recipe, "format": RECIPE_FORMAT, "model": model, "training": training}
