"""A run folder: what was asked, the checkpoints, the ranks and recommendations, the metrics."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax import atomic, errors
from hrnn_jax.config import upgrade_recipe
from hrnn_jax.estimators import run_files
from hrnn_jax.estimators.run_files import (
    DATA,
    METRICS,
    RANKS,
    RECOMMENDED,
    TENSORBOARD,
    SeedResult,
    read_history,
    read_metrics,
    read_recipe,
    write_data,
    write_history,
    write_results,
)

from .text import print_table

__all__ = [
    "DATA",
    "FILES",
    "IN_TABLE",
    "METRICS",
    "RANKS",
    "RECOMMENDED",
    "STATES",
    "TENSORBOARD",
    "SeedResult",
    "open_folder",
    "print_metrics",
    "read_finished",
    "read_history",
    "read_metrics",
    "read_recipe",
    "write_data",
    "write_history",
    "write_results",
]
STATES = tuple(f"states.sqlite{suffix}" for suffix in ("", "-wal", "-shm"))  # of live users
FILES = (*run_files.FILES, *STATES)
IN_TABLE = ("recall", "mrr", "precision")  # the metrics of the paper


def open_folder(
    folder: pathlib.Path,
    recipe: Mapping[str, Any],
    *,
    refusal: str | None = None,
    flag: str = "output_dir",
    kind: str = "run",
    files: Sequence[str] = FILES,
) -> None:
    """Make a run folder for `recipe`, or go on in one; `flag`, `kind` and `files` name another's.

    Raises InputError if the folder cannot be written, holds something else, or holds a run of
    another recipe, and with the words of `refusal`, if there are any, where it holds one of this.
    """
    given = f"--{flag}={folder}"
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = read_recipe(folder)
            if kind == "run":
                found = upgrade_recipe(found)
            _check_recipe(given, kind, found, recipe)
            if refusal:
                raise errors.InputError(refusal)
        elif strange := sorted(
            p.name for p in folder.iterdir() if p.name.removesuffix(atomic.PARTIAL) not in files
        ):
            raise errors.InputError(
                f"{given} holds {strange[0]}, which is no {kind}'s: choose an empty folder"
            )
        atomic.write(path, json.dumps(recipe, indent=2) + "\n")
    except OSError as error:
        raise errors.InputError(
            f"cannot write {given}: {error.strerror}; choose another folder"
        ) from error


def _check_recipe(
    given: str, kind: str, found: Mapping[str, Any], recipe: Mapping[str, Any]
) -> None:
    flat = [_flatten(r) for r in (found, json.loads(json.dumps(recipe)))]
    differs = sorted(k for k in flat[0].keys() | flat[1].keys() if flat[0].get(k) != flat[1].get(k))
    if differs:
        name = differs[0]
        if name == "source" and all(name in each for each in flat):
            raise errors.InputError(
                f"{given} holds a {kind} of other code: the file that registers its model or loss "
                "has changed since; choose another folder, or remove that one"
            )
        raise errors.InputError(
            f"{given} holds a {kind} of another recipe ({name}: {flat[0].get(name)} "
            f"there, {flat[1].get(name)} here): choose another folder, or remove that one"
        )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_finished(folder: pathlib.Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return metrics.json of a run that has ended and says all of `about`, else None."""
    metrics = read_metrics(folder)
    if metrics is None or any(metrics.get(key) != value for key, value in about.items()):
        return None
    # A run of an early version ended without this file: it is ranked again.
    return metrics if (folder / RECOMMENDED).exists() else None


def print_metrics(runs: Sequence[Mapping[str, Any]], folders: Sequence[str] = ()) -> None:
    """Print the paper's metrics of runs, a row each: mean, and +- std over several seeds.

    folders: the names of their folders, a last column if they are given.
    """
    metrics = [name for name in runs[0]["mean"] if name.partition("@")[0] in IN_TABLE]

    def cell(run: Mapping[str, Any], metric: str) -> str:
        mean, std = run["mean"].get(metric), run["std"].get(metric)
        if mean is None:
            return "-"
        return f"{mean:.4f}" + ("" if std is None else f" +- {std:.4f}")

    rows = [(run["name"], *(cell(run, metric) for metric in metrics)) for run in runs]
    if folders:
        rows = [(*row, name) for row, name in zip(rows, folders, strict=True)]
    print_table(("", *metrics, *(["folder"] if folders else [])), rows)
