"""A run folder: what was asked, the checkpoints, the ranks and recommendations, the metrics."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from hrnn_jax import errors
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
from hrnn_jax.files import atomic, run_lock
from hrnn_jax.files.recipe_formats import upgrade_recipe

from .text import print_table

__all__ = [
    "BEGUN",
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
# One is there where a run has begun: the mixture as soon as the epochs of a seed are chosen.
BEGUN = ("checkpoint", "shards", "mixture", run_files.HISTORY, RANKS, METRICS)
IN_TABLE = ("recall", "mrr", "precision", "ndcg")  # the metrics of the paper, and NDCG


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
    another recipe of which something is trained, and with the words of `refusal`, if there are any,
    where it holds one of this.
    """
    given = f"--{flag}={folder}"
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "run" and _is_untrained_run(folder):
            remove(folder)
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
        if kind == "run":
            run_files.write_recipe(folder, recipe)
        else:
            atomic.write(path, json.dumps(recipe, indent=2) + "\n")
    except OSError as error:
        raise errors.InputError(
            f"cannot write {given}: {error.strerror}; choose another folder"
        ) from error


def has_begun(folder: pathlib.Path) -> bool:
    """Say whether a run has trained an epoch, chosen a number of epochs, or ranked anything."""
    return any((folder / name).exists() for name in BEGUN)


def _is_untrained_run(folder: pathlib.Path) -> bool:
    if has_begun(folder) or not (folder / "recipe.json").exists():
        return False
    return isinstance(read_recipe(folder).get("model"), Mapping)  # a study has a name there


def remove(folder: pathlib.Path) -> None:
    """Remove a run's files, but for its lock, which the caller holds, and the states of users."""
    for name in run_files.FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        elif name != run_lock.FILE:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def removed_unless_begun(folder: pathlib.Path) -> Generator[None]:
    """Remove a run that has not begun when an error ends the block."""
    try:
        yield
    except Exception:
        if not has_begun(folder):
            remove(folder)
        raise


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


def metrics_in_table(run: Mapping[str, Any]) -> list[str]:
    """Return the metrics at each cutoff of a run that tables show, as in recall@5."""
    return [name for name in run["mean"] if name.partition("@")[0] in IN_TABLE]


def print_metrics(
    runs: Sequence[Mapping[str, Any]], marks: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Print the metrics of runs, a row each: mean, and +- std over several seeds.

    marks: by metric, a sign for each run that follows its mean, or "".
    """
    metrics = metrics_in_table(runs[0])

    def cell(number: int, metric: str) -> str:
        run = runs[number]
        mean, std = run["mean"].get(metric), run["std"].get(metric)
        mark = "" if not marks else marks[metric][number] or " "  # numbers stand below each other
        if mean is None:
            return f"-{mark}"
        return f"{mean:.4f}{mark}" + ("" if std is None else f" +- {std:.4f}")

    rows = [(run["name"], *(cell(n, metric) for metric in metrics)) for n, run in enumerate(runs)]
    print_table(("", *metrics), rows)
