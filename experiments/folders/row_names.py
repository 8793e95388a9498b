"""What a comparison calls its rows: the model, and what makes each run different from the first."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax.config import (
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    SessionKnnConfig,
    TrainConfig,
    settings,
    upgrade_recipe,
)
from hrnn_jax.presets import NAMES, PRESETS

from ..common import run_folder

CONFIGS = (ModelConfig, TrainConfig, EvaluationConfig, ItemKnnConfig, SessionKnnConfig)
SETTINGS = tuple(dict.fromkeys(name for config in CONFIGS for name in settings(config)))
# A run that has these of a preset was made by its flag file, before the model had a name.
MARKS = ("past", "neighbours", "idle_gap", "loss", "optimizer")
MOST = 4  # flags in a name


def row_names(folders: Sequence[pathlib.Path], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each run by its model and the flags that it has other values of.

    Args:
        folders: The run folders.
        runs: The content of their metrics.json.

    Returns:
        The names, numbered from 1. A network's flags are compared with those of the first network
        that has them, other methods' with the first run of that method; the flags of a preset such
        as hrnn_plus, which changes many, with the preset.
    """
    by_kind: dict[str, dict[str, Any]] = {}
    names = []
    for number, (folder, run) in enumerate(zip(folders, runs, strict=True), start=1):
        kind, own = _settings(folder, run)
        first = by_kind.setdefault(kind, {})
        preset = _preset(run["name"], own)
        usual = {**first, **(PRESETS[preset][1] if preset else {})}
        changed = [
            _flag(name, own[name]) for name in own if name in usual and own[name] != usual[name]
        ]
        if len(changed) > MOST:
            changed[MOST:] = [f"and {len(changed) - MOST} more"]
        for name in own:
            first.setdefault(name, own[name])
        names.append(" ".join([str(number), NAMES[preset] if preset else run["name"], *changed]))
    return names


def _settings(folder: pathlib.Path, run: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what a run's flags compare with, and its settings by the flag's name."""
    recipe = upgrade_recipe(run_folder.read_recipe(folder))
    training = recipe.get("training", {})
    of_run = {name: run[name] for name in ("epochs", "seeds") if training and name in run}
    if "continued_from" in recipe:
        of_run["continue_from"] = recipe["continued_from"]["run"]
    if "source" in recipe:
        of_run["source"] = recipe["source"]
    found = {**recipe["model"], **training, **run}
    own = {name: found[name] for name in SETTINGS if name in found and name != "cutoffs"}
    return "network" if training else run["name"], own | of_run


def _preset(name: str, own: Mapping[str, Any]) -> str | None:
    """Return the preset that a run is of, None for a model of its own."""
    for preset, (network, values) in PRESETS.items():
        marked = name == NAMES[network] and all(own.get(mark) == values[mark] for mark in MARKS)
        if name == NAMES[preset] or marked:
            return preset
    return None


def _flag(name: str, value: Any) -> str:
    if name == "source":  # of a registered model or loss: no flag
        return f"source {value}"
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, list | tuple):
        return f"--{name}={','.join(map(str, value))}"
    return f"--{name}={value}"
