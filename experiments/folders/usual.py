"""The usual settings of a model: those of its row in the comparison.

They are Table 2's small network, or the shipped flag file of the model's name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hrnn_jax.baselines import by_name
from hrnn_jax.config import (
    NETWORKS,
    EvaluationConfig,
    ModelConfig,
    TrainConfig,
    settings,
    unmet_need,
)
from hrnn_jax.presets import network_of

from ..common import cli
from ..jobs.paper_rows import ROWS


def usual_flags(model: str) -> dict[str, str]:
    """Return the flags of a model's row, by name."""
    row = ROWS.get(f"{model}_small") or ROWS.get(model)
    if row is None and not (cli.SHIPPED / f"{model}.flags").exists():
        return {}  # a model that a fork registered
    given = row.flags if row else (f"--flagfile={model}.flags",)
    # A user may have other files of these names here.
    shipped = [flag.replace("--flagfile=", f"--flagfile={cli.SHIPPED}/") for flag in given]
    return dict(map(cli.split, cli.expand(shipped)))


def usual_settings(model: str) -> dict[str, Any]:
    """Return the settings that recipe.json and metrics.json have of a model's row, by name."""
    network = network_of(model)
    values: dict[str, Any] = _of(EvaluationConfig, {}, network)
    if network in NETWORKS:
        given = usual_flags(model)
        return values | _of(ModelConfig, given, network) | _of(TrainConfig, given, network)
    if network in by_name.CONFIGS:
        values |= _of(by_name.CONFIGS[network], {}, network) | by_name.FIXED.get(network, {})
    return values


def _of(config: type, given: dict[str, str], network: str) -> dict[str, Any]:
    """Return the settings of one config, as a run with these flags has them."""
    known = settings(config)
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    values = fields | {
        name: _parsed(text, fields[name])
        for name, text in given.items()
        if name in known and network in known[name].models
    }
    return {
        name: fields[name] if unmet_need(setting, values) else values[name]
        for name, setting in known.items()
    }


def _parsed(text: str, default: Any) -> Any:
    """Read a flag's value in the type of its default."""
    return text != "false" if isinstance(default, bool) else type(default)(text)
