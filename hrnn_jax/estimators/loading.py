"""Read a fitted model from a run folder."""

from __future__ import annotations

import pathlib
from typing import Any

from hrnn_jax import errors
from hrnn_jax.arguments import path_of
from hrnn_jax.config import LOSSES, NETWORKS
from hrnn_jax.estimators import counting_models, networks, run_files
from hrnn_jax.estimators.base import Model
from hrnn_jax.estimators.logs import Part
from hrnn_jax.estimators.network_model import NetworkModel
from hrnn_jax.files.recipe_formats import upgrade_recipe
from hrnn_jax.presets import NAMES


def load(folder: str | pathlib.Path, *, seed: int | None = None) -> Model:
    """Read a model from a run folder, whether `save` or `experiments.run` wrote it.

    Args:
        folder: The run folder.
        seed: One of the run's seeds; by default the first that has a checkpoint.

    Returns:
        The fitted model: an `HRNN`, `HRNNPlus`, `RNN`, `RNNConcat`, or one of the counting models.
        It trains further with `partial_fit`.

    Raises:
        InputError: The folder is no run, is damaged, or its prepared log does not exist any more.
    """
    folder = path_of("`folder`", folder)
    try:
        recipe = upgrade_recipe(run_files.read_recipe(folder))
        name, data = recipe["model"]["name"], recipe["data"]
    except OSError:
        raise errors.InputError(
            f"{folder} is no run folder: it has no {run_files.RECIPE}"
        ) from None
    except (KeyError, TypeError):
        raise errors.InputError(f"{folder / run_files.RECIPE} is no run's") from None
    found = run_files.prepared_folder(folder)
    if found is None:
        raise errors.InputError(
            f"{folder}: its prepared log {data} does not exist any more: prepare it again, or use "
            "`hrnn_jax.load_recommender`, which needs no log"
        )
    part = Part(found, is_test=False)
    model = _make(name, folder, recipe)
    if isinstance(model, NetworkModel):
        model.restore(part, folder, seed)
        return model
    if seed not in (None, 0):
        raise errors.InputError(f"`seed`={seed}: {folder} is a run of {name}, which has none but 0")
    return model.fit(part)


def _counting(name: str, folder: pathlib.Path) -> type[Model]:
    """Return the class of a counting model, which may be defined outside this package."""
    classes = [counting_models.CountingModel]
    for one in classes:  # a class comes before those that are made of it
        if one.models == (name,):
            return one
        classes += one.__subclasses__()
    raise errors.InputError(
        f"{folder} is a run of {name}, which is no model here: import the file that defines its "
        f"class, a CountingModel with models = ({name!r},)"
    )


def _make(name: str, folder: pathlib.Path, recipe: dict[str, Any]) -> Any:
    """Make the model of a recipe, not fitted."""
    given = {**recipe["model"], **recipe.get("training", {})}
    if name in NETWORKS and (loss := given["loss"]) not in LOSSES:
        raise errors.InputError(
            f"{folder} was trained with the loss {loss}, which is none here: import the file that "
            f"registers it ({folder / run_files.CODE} is a copy), or use load_recommender"
        )
    metrics_ = run_files.read_metrics(folder) or {}
    cls: type[Model]
    values: dict[str, Any] = {}
    if name not in NETWORKS:
        cls = _counting(name, folder)
    elif metrics_.get("name") == NAMES["hrnn_plus"]:
        cls = networks.HRNNPlus
    elif name in networks.HRNN.models:
        cls, values = networks.HRNN, {"variant": name.removeprefix("hrnn_")}
    else:
        cls = networks.RNN if name == "rnn" else networks.RNNConcat
    return cls(**values, **{key: given[key] for key in cls.defaults if key in given})
