"""What a comparison calls its rows: the model, and the settings that are not its usual ones."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable, Mapping, Sequence
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
from ..common.text import as_flag, short
from .usual import usual_settings

CONFIGS = (ModelConfig, TrainConfig, EvaluationConfig, ItemKnnConfig, SessionKnnConfig)
SETTINGS = tuple(dict.fromkeys(name for config in CONFIGS for name in settings(config)))
# A run that has these of a preset was made by its flag file, before the model had a name.
MARKS = ("past", "neighbours", "idle_gap", "loss", "optimizer")


def row_names(folders: Sequence[pathlib.Path], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each run by its model and the settings that are not the model's usual ones.

    Args:
        folders: The run folders.
        runs: The content of their metrics.json.

    Returns:
        The names, numbered from 1. Rows that would have one name show all digits of their
        settings, and also get the seeds, the epochs, or else the folder that they differ in.
    """
    both = list(zip(folders, runs, strict=True))
    names = [title(*each) for each in both]
    exact = [title(*each, exact=True) for each in both]
    of_name = collections.defaultdict(set)
    for name, whole in zip(names, exact, strict=True):
        of_name[name].add(whole)
    names = [
        whole if len(of_name[name]) > 1 else name for name, whole in zip(names, exact, strict=True)
    ]
    told_apart: Sequence[Callable[[int], str]] = (
        lambda n: as_flag("epochs", runs[n].get("epochs")),
        lambda n: as_flag("seeds", runs[n].get("seeds")),
        lambda n: f"in {folders[n].name}",
        lambda n: f"in {folders[n]}",
    )
    for tell in told_apart:
        groups = collections.defaultdict(list)
        for number, name in enumerate(names):
            groups[name].append(number)
        for group in groups.values():
            told = {number: tell(number) for number in group}
            if len({*told.values()}) > 1:
                for number, text in told.items():
                    names[number] += f" {text}"
    return [f"{number} {name}" for number, name in enumerate(names, start=1)]


def title(folder: pathlib.Path, run: Mapping[str, Any], *, exact: bool = False) -> str:
    """Name a run by its model and the settings that are not the model's usual ones.

    Args:
        folder: The run folder.
        run: The content of its metrics.json; empty while it trains.
        exact: Whether numbers have all their digits, not three.
    """
    recipe = upgrade_recipe(run_folder.read_recipe(folder))
    found = {**recipe["model"], **recipe.get("training", {}), **run}
    model = recipe["model"]["name"]
    called = str(run.get("name") or NAMES.get(model, model))
    own = {name: found[name] for name in SETTINGS if name in found and name != "cutoffs"}
    preset = _preset(called, own)
    usual = usual_settings(preset or model)
    changed = [
        as_flag(name, value if exact else _shown(value, usual[name]))
        for name, value in own.items()
        if value != usual.get(name, value)
    ]
    if "continued_from" in recipe:
        changed.append(as_flag("continue_from", recipe["continued_from"]["run"]))
    return " ".join([NAMES[preset] if preset else called, *changed])


def _shown(value: Any, usual: Any) -> Any:
    """Shorten a number, but for one that would then look like the usual one."""
    is_short = isinstance(value, float) and short(value) != short(usual)
    return short(value) if is_short else value


def _preset(name: str, own: Mapping[str, Any]) -> str | None:
    """Return the preset that a run is of, None for a model of its own."""
    for preset, (network, values) in PRESETS.items():
        marked = name == NAMES[network] and all(own.get(mark) == values[mark] for mark in MARKS)
        if name == NAMES[preset] or marked:
            return preset
    return None
