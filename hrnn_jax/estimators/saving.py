"""Write a fitted model as a run folder."""

from __future__ import annotations

import pathlib
import shutil
import time
from typing import Any

from hrnn_jax import atomic, errors, metrics
from hrnn_jax.config import RECIPE_FORMAT, EvaluationConfig
from hrnn_jax.estimators import run_files
from hrnn_jax.presets import NAMES


def save(model: Any, folder: pathlib.Path) -> pathlib.Path:
    """Write a model as a run folder, see `Model.save`.

    Args:
        model: A fitted `Model`.
        folder: A folder that does not exist yet, or is empty.
    """
    part, config = model.train_, EvaluationConfig()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.InputError(f"{folder} is not empty: choose another folder for `save`")
    with atomic.writing(folder) as partial:
        partial.mkdir()
        key = next(key for key, name in NAMES.items() if name == model.name)
        training = model.write_weights(partial)
        shutil.copytree(part.folder, partial / part.folder.name)
        recipe = {
            "format": RECIPE_FORMAT,
            "data": part.folder.name,
            **run_files.recipe(model.key, *model.recipe_configs()),
            **model.continued_from(),
        }
        run_files.write_recipe(partial, recipe)
        seed, epochs = training.pop("seed"), training.pop("epochs")
        about = run_files.about(key, part.meta, part.title, config, [seed])
        about |= {"epochs": epochs}
        started = time.perf_counter()
        ranking = model.ranking(config)
        seconds = time.perf_counter() - started
        figures = metrics.figures(ranking, config.cutoffs, part.events.support)
        figures["eval_cases_per_second"] = figures["cases"] / seconds
        result = run_files.SeedResult({"seed": seed, **figures, **training}, ranking)
        run_files.write_results(partial, part.events, about, [result])
    return folder
