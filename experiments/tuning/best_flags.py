"""The flag file of a study's best trial, and the settings that all its trials share."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from absl import flags

from hrnn_jax.config import DataConfig, ReadConfig, settings

from ..common import config_flags, data_flags, model_flags, plugins, run_settings
from ..common.cli import command

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FLAGS = flags.FLAGS
# Settings that decide what a trial measures. The objective has a cutoff of its own.
SETTINGS = {"epochs", "seeds", *run_settings.names()} - {"cutoffs"}


def shared_settings(searched: Collection[str]) -> dict[str, Any]:
    """Return the settings of the model that are neither searched nor at their defaults.

    Those at their defaults are left out, so that a study goes on when a later version adds a flag.
    """
    return {
        name: FLAGS[name].value
        for name in sorted(SETTINGS - {*searched})
        if FLAGS[name].value != FLAGS[name].default and config_flags.is_used(name, FLAGS.model)
    }


def flag_file(best: FrozenTrial, searched: Collection[str]) -> str:
    """Write the flag file of a trial: the flags that were given, and the values that were drawn.

    Args:
        best: The trial.
        searched: The flags whose values were drawn.
    """
    typed = f"{command('tune')} {shlex.join(sys.argv[1:])}"
    drawn = {name: best.params[name] for name in searched}
    lines = [
        f"# {model_flags.NAMES[FLAGS.model]} on {data_flags.title()}: {FLAGS.objective} "
        f"{best.value:.4f} on the validation split (trial {best.number}).",
        f"# {' '.join(typed.split())}",
    ]
    lines += plugins.given()
    written_below = {*drawn, "split", "model", "epochs", "schedule_epochs", "held_out_patience"}
    of_model = (model_flags.ModelFlags, model_flags.EpochFlags, *run_settings.CONFIGS)
    tables = (data_flags.DataFlags, ReadConfig, DataConfig, *of_model)
    for name in dict.fromkeys(itertools.chain(*map(settings, tables))):
        if not FLAGS[name].using_default_value and name not in written_below:
            lines.append(FLAGS[name].serialize())
    if epochs := best.user_attrs.get("best_epoch"):
        lines.append(f"--epochs={epochs}")
        if not FLAGS["held_out_patience"].using_default_value:
            lines.append("--held_out_patience=0")  # the search has chosen the epochs
        if FLAGS.schedule != "constant":  # the learning rate fell over the epochs of the trial
            lines.append(f"--schedule_epochs={model_flags.train_config().schedule_epochs}")
    lines += [f"--model={FLAGS.model}", *(f"--{name}={value}" for name, value in drawn.items())]
    return "\n".join(line for line in lines if line) + "\n"
