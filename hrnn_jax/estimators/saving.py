"""Write a fitted model as a run folder."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from typing import Any

from hrnn_jax import compile_time, errors
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.estimators import run_files
from hrnn_jax.files import atomic, run_lock
from hrnn_jax.files.recipe_formats import RECIPE_FORMAT
from hrnn_jax.presets import NAMES
from hrnn_jax.ranking import metrics


def save(model: Any, folder: pathlib.Path, *, overwrite: bool) -> pathlib.Path:
    """Write a model as a run folder, see `Model.save`.

    Args:
        model: A fitted `Model`.
        folder: A folder that does not exist yet, or is empty.
        overwrite: Whether a run in the folder is replaced.
    """
    part, config = model.train_, EvaluationConfig()
    _check_free(folder, overwrite=overwrite)
    with run_lock.locked(folder, "folder"), atomic.writing(folder, replaces=True) as partial:
        _check_free(folder, overwrite=overwrite)  # another process may have ended just before
        partial.mkdir()
        with contextlib.suppress(OSError):  # one file, so one lock, in both; some drives cannot
            (partial / run_lock.FILE).hardlink_to(folder / run_lock.FILE)
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
        with compile_time.timing() as took:
            ranking = model.ranking(config)
        figures = metrics.figures(ranking, config.cutoffs, part.events.support)
        figures |= metrics.speed(figures["cases"], took)
        result = run_files.SeedResult({"seed": seed, **figures, **training}, ranking)
        run_files.write_results(partial, part.events, about, [result])
    return folder


def _check_free(folder: pathlib.Path, *, overwrite: bool) -> None:
    """Raise InputError for a folder that holds anything; with `overwrite`, anything but a run."""
    try:
        exists = folder.exists()
    except OSError as error:  # its name is too long, say
        raise errors.InputError(
            f"cannot write `folder`={folder}: {errors.reason(error)}; choose another folder"
        ) from error
    if not exists:
        return
    if not folder.is_dir():
        raise errors.InputError(f"{folder} is a file: choose another folder for `save`")
    names = {path.name for path in folder.iterdir()} - {run_lock.FILE}
    if names and not overwrite:
        raise errors.InputError(
            f"{folder} is not empty: choose another folder for `save`, or replace the run in it "
            "with `overwrite`=True"
        )
    if not names:
        return
    try:
        recipe = run_files.read_recipe(folder)
        _, data = recipe["model"], recipe["data"]  # a study has neither
        known = {*run_files.FILES, data}
    except (OSError, errors.InputError, KeyError, TypeError):
        raise errors.InputError(
            f"{folder} holds no run, and `overwrite` replaces nothing else: choose another folder"
        ) from None
    if strange := sorted(name for name in names if name.removesuffix(atomic.PARTIAL) not in known):
        raise errors.InputError(
            f"{folder} holds {strange[0]}, which `overwrite` would remove with the run: move it "
            "away, or choose another folder"
        )
