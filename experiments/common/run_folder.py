"""A run folder: what was asked, the checkpoints, the ranks and recommendations, the metrics."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hrnn_jax import atomic, errors
from hrnn_jax.config import upgrade_recipe
from hrnn_jax.event_log import EventLog
from hrnn_jax.metrics import Ranking
from hrnn_jax.preprocess import prepared

from . import provenance
from .text import print_table

RANKS, RECOMMENDED, METRICS = "ranks.parquet", "recommended.parquet", "metrics.json"
DATA = prepared.KEPT_META
STATES = tuple(f"states.sqlite{suffix}" for suffix in ("", "-wal", "-shm"))  # of live users
FILES = (
    *("lock", "flags", "recipe.json", prepared.ITEMS, DATA, "checkpoint", "history.jsonl"),
    *(RANKS, RECOMMENDED, METRICS, *STATES),
)
IN_TABLE = ("recall", "mrr", "precision")  # the metrics of the paper


class SeedResult(NamedTuple):
    """One seed's figures for metrics.json, and the ranking that they summarise."""

    figures: dict[str, Any]
    ranking: Ranking


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
    return _read(path, lambda text: dict(json.loads(text)), f"remove {folder} and start again")


def _read(path: pathlib.Path, parse: Callable[[str], Any], advice: str) -> Any:
    try:
        return parse(path.read_text())
    except (ValueError, TypeError) as error:
        raise errors.InputError(f"{path} is damaged: {advice}") from error


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
    advice = "remove it and --resume the run; losses and times are lost"
    if not path.exists():
        return []
    return _read(path, lambda text: [json.loads(line) for line in text.splitlines()], advice)


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Replace the history; it is small."""
    atomic.write(folder / "history.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))


def write_results(
    folder: pathlib.Path,
    log: EventLog,
    about: Mapping[str, Any],
    results: Sequence[SeedResult],
) -> dict[str, Any]:
    """Write all that a run measured.

    metrics.json says what the run is, where it was made, each seed's figures, and their mean and
    sample standard deviation (n - 1) over seeds; the latter is null for a single seed.

    Args:
        folder: of the run.
        log: whose test cases were ranked.
        about: what metrics.json says of the run.
        results: of each seed, in any order.

    Returns:
        The content of metrics.json.
    """
    # From here on, a run that stops is unfinished, even if it had ended before.
    (folder / METRICS).unlink(missing_ok=True)
    results = sorted(results, key=lambda result: result.figures["seed"])
    rankings = {figures["seed"]: ranking for figures, ranking in results}
    write_ranks(folder, log, rankings)
    write_recommended(folder, about["cutoffs"], rankings)
    per_seed = [result.figures for result in results]
    names = [name for name, value in per_seed[0].items() if name != "seed" and value is not None]
    values = {name: np.array([seed[name] for seed in per_seed], np.float64) for name in names}
    metrics = {
        **about,
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "per_seed": per_seed,
        "made": provenance.made(),
    }
    atomic.write(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    return metrics


def write_ranks(folder: pathlib.Path, log: EventLog, rankings: Mapping[int, Ranking]) -> None:
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
    _write_by_seed(
        folder / RANKS,
        {seed: {**columns, "rank": ranking.rank} for seed, ranking in rankings.items()},
    )


def write_recommended(
    folder: pathlib.Path, cutoffs: Sequence[int], rankings: Mapping[int, Ranking]
) -> None:
    """Write recommended.parquet, one row per seed, cutoff and item that is recommended at all.

    seed; cutoff; item as in the prepared set; times: the test cases whose first `cutoff`
    recommendations it is among.
    """
    tables = {}
    for seed, ranking in rankings.items():
        row, item = np.nonzero(ranking.shown)
        tables[seed] = {
            "cutoff": np.array(cutoffs, np.int32)[row],
            "item": item.astype(np.int32),
            "times": ranking.shown[row, item],
        }
    _write_by_seed(folder / RECOMMENDED, tables)


def _write_by_seed(path: pathlib.Path, tables: Mapping[int, Mapping[str, np.ndarray]]) -> None:
    """Write the columns of each seed as one parquet file."""
    frames = [
        pl.DataFrame(columns).select(pl.lit(seed, pl.Int32).alias("seed"), pl.all())
        for seed, columns in tables.items()
    ]
    atomic.write(path, pl.concat(frames).write_parquet)


def read_metrics(folder: pathlib.Path) -> dict[str, Any] | None:
    """Read metrics.json, or None where the run has not ended."""
    path = folder / METRICS
    advice = "remove it and --resume the run"
    return _read(path, json.loads, advice) if path.exists() else None


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
