"""A run folder: what was asked, the checkpoints, the ranks and recommendations, the metrics."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax import atomic, errors
from hrnn_jax.config import upgrade_recipe
from hrnn_jax.event_log import EventLog
from hrnn_jax.preprocess import prepared

from .text import print_table

RANKS, RECOMMENDED, METRICS = "ranks.parquet", "recommended.parquet", "metrics.json"
DATA = prepared.KEPT_META
STATES = tuple(f"states.sqlite{suffix}" for suffix in ("", "-wal", "-shm"))  # of live users
FILES = (
    *("flags", "recipe.json", prepared.ITEMS, DATA, "checkpoint", "history.jsonl"),
    *(RANKS, RECOMMENDED, METRICS, *STATES),
)
IN_TABLE = ("recall", "mrr", "precision")  # the metrics of the paper


def open_folder(
    folder: pathlib.Path,
    recipe: Mapping[str, Any],
    *,
    resume: bool,
    flag: str = "output_dir",
    kind: str = "run",
    files: Sequence[str] = FILES,
) -> None:
    """Make a run folder for `recipe`, or go on in one; `flag`, `kind` and `files` name another's.

    Raises InputError if the folder cannot be written, holds something else, or holds a run of
    another recipe, and if it holds one of this recipe that was not asked to be resumed.
    """
    given = f"--{flag}={folder}"
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = read_recipe(folder)
            if kind == "run":
                found = upgrade_recipe(found)
            _check_recipe(given, kind, found, recipe, resume=resume)
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


def read_recipe(folder: pathlib.Path) -> dict[str, Any]:
    """Read recipe.json. Raises InputError where it is damaged, OSError where there is none."""
    path = folder / "recipe.json"
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise errors.InputError(f"{path} is damaged: remove {folder} and start again") from error


def _check_recipe(
    given: str, kind: str, found: Mapping[str, Any], recipe: Mapping[str, Any], *, resume: bool
) -> None:
    flat = [_flatten(r) for r in (found, json.loads(json.dumps(recipe)))]
    differs = sorted(k for k in flat[0].keys() | flat[1].keys() if flat[0].get(k) != flat[1].get(k))
    if differs:
        name = differs[0]
        raise errors.InputError(
            f"{given} holds a {kind} of another recipe ({name}: {flat[0].get(name)} "
            f"there, {flat[1].get(name)} here): choose another folder, or remove that one"
        )
    if not resume:
        raise errors.InputError(
            f"{given} holds this {kind} already: add --resume to go on with it, "
            "or choose another folder"
        )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def write_data(folder: pathlib.Path, prepared_folder: pathlib.Path) -> None:
    """Keep what the items are and where they are from: the run is then used without its log."""
    prepared.load_items(prepared_folder)  # no damage is passed on
    for name, kept in ((prepared.ITEMS, prepared.ITEMS), (prepared.META, DATA)):
        source = prepared_folder / name
        atomic.write(folder / kept, lambda beside, source=source: shutil.copyfile(source, beside))


def read_history(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Read the epochs trained so far, one entry a seed and epoch."""
    path = folder / "history.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise errors.InputError(
            f"{path} is damaged: remove it and --resume the run; losses and times are lost"
        ) from error


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Replace the history; it is small."""
    atomic.write(folder / "history.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))


def write_ranks(folder: pathlib.Path, log: EventLog, ranks: Mapping[int, np.ndarray]) -> None:
    """Write ranks.parquet, one row per seed and test case, on which every table is a query.

    seed; user, session and item (the target's) as in the prepared set; position: of the target in
    its session, from 0, so at least 1; history: the user's sessions before this one; rank: from 1.
    """
    cases = log.cases
    first = np.maximum.accumulate(np.where(log.follows, 0, np.arange(len(log))))
    opens = np.flatnonzero(log.opens_user)
    first_session = log.session[opens][np.searchsorted(opens, cases, side="right") - 1]
    columns = {
        "user": log.user[cases],
        "session": log.session[cases],
        "position": (cases - first[cases]).astype(np.int32),
        "history": (log.session[cases] - first_session).astype(np.int32),
        "item": log.item[cases],
    }
    frames = [
        pl.DataFrame({"seed": np.full(len(cases), seed, np.int32), **columns, "rank": found})
        for seed, found in ranks.items()
    ]
    atomic.write(folder / RANKS, pl.concat(frames).write_parquet)


def write_recommended(
    folder: pathlib.Path,
    cutoffs: Sequence[int],
    shown: Mapping[int, np.ndarray],  # of each seed [C, V], see `ranking.Ranking`
) -> None:
    """Write recommended.parquet, one row per seed, cutoff and item that is recommended at all.

    seed; cutoff; item as in the prepared set; times: the test cases whose first `cutoff`
    recommendations it is among.
    """
    frames = []
    for seed, counts in shown.items():
        row, item = np.nonzero(counts)
        columns = {
            "seed": np.full(len(item), seed, np.int32),
            "cutoff": np.array(cutoffs, np.int32)[row],
            "item": item.astype(np.int32),
        }
        frames.append(pl.DataFrame({**columns, "times": counts[row, item]}))
    atomic.write(folder / RECOMMENDED, pl.concat(frames).write_parquet)


def write_metrics(
    folder: pathlib.Path,
    about: Mapping[str, Any],
    per_seed: Sequence[Mapping[str, Any]],
    made: Mapping[str, str],
) -> dict[str, Any]:
    """Write metrics.json: about the run, each seed's figures, their mean and std over seeds.

    made: with what code and where, see provenance.py.

    The standard deviation is the sample's (n - 1); null for a single seed.
    """
    names = [name for name in per_seed[0] if name != "seed" and per_seed[0][name] is not None]
    values = {name: np.array([seed[name] for seed in per_seed], np.float64) for name in names}
    metrics = {
        **about,
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "per_seed": per_seed,
        "made": made,
    }
    atomic.write(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    return metrics


def read_metrics(folder: pathlib.Path) -> dict[str, Any] | None:
    """Read metrics.json, or None where the run has not ended."""
    path = folder / METRICS
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise errors.InputError(f"{path} is damaged: remove it and --resume the run") from error


def read_finished(folder: pathlib.Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return metrics.json of a run that has ended and says all of `about`, else None."""
    metrics = read_metrics(folder)
    if metrics is None or any(metrics.get(key) != value for key, value in about.items()):
        return None
    # A run of an early version ended without this file: it is ranked again.
    return metrics if (folder / RECOMMENDED).exists() else None


def print_metrics(runs: Sequence[Mapping[str, Any]]) -> None:
    """Print the paper's metrics of runs, a row each: mean, and +- std over several seeds."""
    metrics = [name for name in runs[0]["mean"] if name.partition("@")[0] in IN_TABLE]

    def cell(run: Mapping[str, Any], metric: str) -> str:
        mean, std = run["mean"].get(metric), run["std"].get(metric)
        if mean is None:
            return "-"
        return f"{mean:.4f}" + ("" if std is None else f" +- {std:.4f}")

    rows = [(run["name"], *(cell(run, metric) for metric in metrics)) for run in runs]
    print_table(("", *metrics), rows)
