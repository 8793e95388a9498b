"""The files of a run folder: what a run is, its epochs, its ranks and recommendations, its metrics.

`experiments.run` and `save` write them, `experiments.compare` and the reports read them. The
checkpoints are in `hrnn_jax.files.checkpoint`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.config import NETWORKS, EvaluationConfig
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic, provenance, registered_code, run_lock
from hrnn_jax.preprocess import prepared
from hrnn_jax.presets import NAMES
from hrnn_jax.ranking.metrics import Ranking

RECIPE, HISTORY = "recipe.json", "history.jsonl"
RANKS, RECOMMENDED, METRICS = "ranks.parquet", "recommended.parquet", "metrics.json"
DATA = prepared.KEPT_META
TENSORBOARD = "tensorboard"  # a folder, of `experiments.run`
CODE = "registered_code.py"  # that registered the model or the loss
# What a run folder holds. The last two are of repeat_explore: neighbours.FILE, mixture.FOLDER.
FILES = (
    *(run_lock.FILE, "flags", RECIPE, prepared.ITEMS, DATA, "checkpoint", HISTORY, TENSORBOARD),
    "shards",  # checkpoints of a run over several devices, until its training ends
    *(RANKS, RECOMMENDED, METRICS, CODE, "neighbours.npz", "mixture"),
)


class SeedResult(NamedTuple):
    """One seed's figures for metrics.json, and the ranking that they summarise."""

    figures: dict[str, Any]
    ranking: Ranking


def recipe(model: str, *configs: Any) -> dict[str, Any]:
    """Return what recipe.json says of the model and its training.

    With `source` where the model or its loss is registered: a digest of the code.

    Args:
        model: one of `config.NETWORKS` or `config.BASELINES`.
        configs: of a network its ModelConfig and TrainConfig, of a baseline its own if it has one.
    """
    parts: list[dict[str, Any]] = [dataclasses.asdict(config) for config in configs]
    training = {"training": parts[1]} if model in NETWORKS else {}
    source = registered_code.of(model, training["training"]["loss"] if training else None)
    return {
        "model": {"name": model, **(parts[0] if parts else {})},
        **training,
        **({} if source is None else {"source": source}),
    }


def about(
    model: str, meta: Mapping[str, Any], title: str, config: EvaluationConfig, seeds: Sequence[int]
) -> dict[str, Any]:
    """Return what metrics.json says of a run before it is trained.

    Args:
        model: the key of its name in `presets.NAMES`.
        meta: the meta.json of the prepared folder.
        title: of the data, for people.
        config: how the test cases are ranked.
        seeds: of the run; [0] for a method without training.
    """
    return {
        "name": NAMES[model],
        "data": meta["data"],
        "title": title,
        "users": meta["table1"]["users"],
        "split": meta["recipe"]["split"],
        "seeds": list(seeds),
        "epochs": 0,
        "cutoffs": list(config.cutoffs),
        "ties": config.ties,
        "candidates": config.candidates,
        "exclude_session_items": config.exclude_session_items,
    }


def read_recipe(folder: pathlib.Path) -> dict[str, Any]:
    """Read recipe.json. Raises InputError where it is damaged, OSError where there is none."""
    path = folder / RECIPE
    return _read(path, lambda text: dict(json.loads(text)), f"remove {folder} and start again")


def _read(path: pathlib.Path, parse: Callable[[str], Any], advice: str) -> Any:
    try:
        return parse(path.read_text())
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {advice}") from error


def prepared_folder(run: pathlib.Path) -> pathlib.Path | None:
    """Return the prepared folder that a run was trained on; None if it does not exist any more.

    A saved model has its own copy; the flags of a command say where its prepared folders are.
    """
    with contextlib.suppress(OSError):
        name = read_recipe(run)["data"]
        if (run / name).is_dir():
            return run / name
        given = re.search("^-+prepared_dir=(.*)$", (run / "flags").read_text(), re.MULTILINE)
        folder = pathlib.Path(given[1] if given else "", name)
        return folder if folder.is_dir() else None


def write_recipe(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write recipe.json, unless it says so already, and a copy of registered code."""
    text, path = json.dumps(content, indent=2) + "\n", folder / RECIPE
    if not path.exists() or path.read_text() != text:
        atomic.write(path, text)
    loss = content.get("training", {}).get("loss")
    code = registered_code.text(content["model"]["name"], loss)
    if code and not (folder / CODE).exists():
        atomic.write(folder / CODE, code)


def write_data(folder: pathlib.Path, prepared_folder: pathlib.Path) -> None:
    """Keep what the items are and where they are from: the run is then used without its log."""
    prepared.load_items(prepared_folder)  # no damage is passed on
    for name, kept in ((prepared.ITEMS, prepared.ITEMS), (prepared.META, DATA)):
        source = prepared_folder / name
        atomic.write(folder / kept, lambda beside, source=source: shutil.copyfile(source, beside))


def read_history(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Read the epochs trained so far, one entry a seed and epoch."""
    path = folder / HISTORY
    advice = "remove it and `resume` the run; losses and times are lost"
    if not path.exists():
        return []
    return _read(path, lambda text: [json.loads(line) for line in text.splitlines()], advice)


def write_history(folder: pathlib.Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Replace the history; it is small."""
    atomic.write(folder / HISTORY, "".join(json.dumps(entry) + "\n" for entry in history))


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
    names = [name for name in per_seed[0] if name != "seed"]
    names = [name for name in names if all(seed.get(name) is not None for seed in per_seed)]
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

    seed; the columns of `case_columns`; rank: from 1.
    """
    columns = case_columns(log)
    _write_by_seed(
        folder / RANKS,
        {seed: {**columns, "rank": ranking.rank} for seed, ranking in rankings.items()},
    )


def case_columns(log: EventLog) -> dict[str, np.ndarray]:
    """Return columns that say what the N test cases are, [N] each.

    user, session and item (the target's) as in the prepared set; position: of the target in its
    session, from 0, so at least 1; history: the user's sessions before this one.
    """
    cases = log.cases
    first = np.maximum.accumulate(np.where(log.follows, 0, np.arange(len(log))))
    opens = np.flatnonzero(log.opens_user)
    first_session = log.session[opens][np.searchsorted(opens, cases, side="right") - 1]
    return {
        "user": log.user[cases],
        "session": log.session[cases],
        "position": (cases - first[cases]).astype(np.int32),
        "history": (log.session[cases] - first_session).astype(np.int32),
        "item": log.item[cases],
    }


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
    advice = "remove it and `resume` the run"
    # Runs of earlier versions ranked all items.
    of_earlier = {"exclude_session_items": False}
    return (
        _read(path, lambda text: of_earlier | json.loads(text), advice) if path.exists() else None
    )
