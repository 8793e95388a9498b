"""What a comparison calls its rows: the model, and the settings that are not its usual ones."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hrnn_jax.files.recipe_formats import upgrade_recipe
from hrnn_jax.presets import NAMES, PRESETS

from ..common import run_folder, run_settings
from ..common.text import as_flag, short
from .usual import usual_settings

CODE_DIGITS = 6  # of a digest, in a name
# A run that has these of a preset was made by its flag file, before the model had a name.
MARKS = ("places", "neighbours", "idle_gap", "loss", "optimizer")


def row_names(folders: Sequence[pathlib.Path], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each run by its model and the settings that are not the model's usual ones.

    Args:
        folders: The run folders.
        runs: The content of their metrics.json.

    Returns:
        The names, numbered from 1. Rows that would have one name show all digits of their
        settings, and also get the epochs, the seeds, the digest of registered code, or else the
        folder that they differ in.
    """
    rows = [_Row.of(*each) for each in zip(folders, runs, strict=True)]
    names = [row.text() for row in rows]
    of_name = collections.defaultdict(set)
    for name, row in zip(names, rows, strict=True):
        of_name[name].add(row.text(exact=True))
    names = [
        row.text(exact=True) if len(of_name[name]) > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]
    told_apart: Sequence[Callable[[int], str]] = (
        lambda n: as_flag("epochs", runs[n].get("epochs")),
        lambda n: as_flag("seeds", runs[n].get("seeds")),
        lambda n: f"with code {rows[n].code}" if rows[n].code else "",
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
                    names[number] += f" {text}" if text else ""
    return [f"{number} {name}" for number, name in enumerate(names, start=1)]


def title(folder: pathlib.Path, run: Mapping[str, Any]) -> str:
    """Name a run by its model and the settings that are not the model's usual ones.

    Args:
        folder: The run folder.
        run: The content of its metrics.json; empty while it trains.
    """
    return _Row.of(folder, run).text()


@dataclasses.dataclass(frozen=True)
class _Row:
    """What the name of a run is made of."""

    model: str  # its name
    changed: tuple[tuple[str, Any, Any], ...]  # name, value and usual value of a setting
    code: str  # of a registered model or loss: the first digits of its digest, else ""
    continues: str | None  # the folder of another run

    @classmethod
    def of(cls, folder: pathlib.Path, run: Mapping[str, Any]) -> _Row:
        """Read a run's recipe, see `title`."""
        recipe = upgrade_recipe(run_folder.read_recipe(folder))
        found = {**recipe["model"], **recipe.get("training", {}), **run}
        model = recipe["model"]["name"]
        called = str(run.get("name") or NAMES.get(model, model))
        names = run_settings.names()
        own = {name: found[name] for name in names if name in found and name != "cutoffs"}
        preset = _preset(called, own)
        usual = usual_settings(preset or model)
        return cls(
            NAMES[preset] if preset else called,
            tuple(
                (name, value, usual[name])
                for name, value in own.items()
                if value != usual.get(name, value)
            ),
            recipe.get("source", "")[:CODE_DIGITS],
            recipe.get("continued_from", {}).get("run"),
        )

    def text(self, *, exact: bool = False) -> str:
        """Return the name. exact: numbers have all their digits, not three."""
        words = [
            as_flag(name, value if exact else _shown(value, usual))
            for name, value, usual in self.changed
        ]
        if self.continues:
            words.append(as_flag("continue_from", self.continues))
        return " ".join([self.model, *words])


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
