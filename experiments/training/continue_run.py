"""What a run takes over from the run that it continues: flags, items and weights."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import NETWORKS, setting
from hrnn_jax.files.recipe_formats import upgrade_recipe
from hrnn_jax.preprocess import datasets

from ..common import cli, config_flags, interrupt, model_flags, run_folder, run_settings
from ..common.text import as_flag
from . import distributed

if TYPE_CHECKING:  # the flags of a command are checked before jax is loaded
    from hrnn_jax.files import checkpoint
    from hrnn_jax.training import train


@dataclasses.dataclass(frozen=True)
class ContinueFlags:
    """Which run goes on.

    Attributes:
        continue_from: A run folder, or that of a saved model, to go on from with a new log: its
            items keep their weights, new ones are added, and its flags hold where none are given.
    """

    continue_from: str | None = setting(None, is_path=True)


FLAGS = flags.FLAGS
config_flags.define_command(ContinueFlags, "training")
# Flags that are not taken over.
OWN = (
    *("continue_from", "events", "output_dir", "resume", "curve", "tensorboard", "seeds_at_once"),
    *distributed.OWN,
)
# Settings that shape the weights, or the states of live users.
SAME = (
    "name",
    "hidden_units",
    "layers",
    "embedding",
    "residual",
    "user_input",
    "leak",
    "idle_gap",
    "places",
    "optimizer",
)
Parents: TypeAlias = "Mapping[int, checkpoint.TrainedRun]"  # of the run that is continued, by seed


def defaults() -> list[str]:
    """Return the flags of the run that --continue_from names; those of its log are left out."""
    if not FLAGS.continue_from:
        return []
    path = pathlib.Path(FLAGS.continue_from, "flags")
    try:
        is_saved = not path.exists() and (path.parent / run_folder.DATA).exists()
        lines = _saved_flags(path.parent) if is_saved else path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_run(f"{path} cannot be read") from error
    is_default = FLAGS.events is None and FLAGS["dataset"].using_default_value
    if is_default and (is_saved or any(line.startswith("--events=") for line in lines)):
        raise errors.InputError(
            f"--continue_from={FLAGS.continue_from} was trained on a log: give a new one with "
            "--events"
        )
    return [line for line in lines if _is_taken(line)]


def _saved_flags(folder: pathlib.Path) -> list[str]:
    """Return the flags of a model that `save` of the library wrote, which keeps none of them."""
    recipe = upgrade_recipe(run_folder.read_recipe(folder))
    path = folder / run_folder.DATA
    try:
        data = json.loads(path.read_text())
        name, columns, prepared = data["name"], data["columns"], data["recipe"]
    except (ValueError, KeyError) as error:
        raise errors.InputError(f"{path} is damaged: train the run again") from error
    own = recipe["model"] | recipe.get("training", {})
    values = {
        "dataset": name if name in datasets.NAMES else "events",
        **{f"{of}_column": column for of, column in columns.items()},
        **data.get("reading", {}),  # not in data of the first format
        **prepared,
        "max_user_sessions": prepared["max_user_sessions"] or 0,  # which lifts the data set's own
        "model": own["name"],
        **{setting: own[setting] for setting in run_settings.names() if setting in own},
    }
    if metrics := run_folder.read_metrics(folder):
        values |= {"seeds": metrics["seeds"]}
    return [as_flag(flag, value) for flag, value in values.items() if value is not None]


def _is_taken(line: str) -> bool:
    name, _ = cli.split(line)
    owner = FLAGS.find_module_defining_flag(name) or ""
    return owner.startswith(cli.module("")) and name not in OWN


def parents(seeds: Sequence[int]) -> Parents:
    """Read the run that --continue_from names: its seeds that have a checkpoint.

    Raises InputError where it is none, its weights are not those that the flags describe, or it
    has not trained one of `seeds`.
    """
    with interrupt.importing():
        from hrnn_jax.files import checkpoint

    folder = pathlib.Path(FLAGS.continue_from)
    try:
        _check_recipe(upgrade_recipe(run_folder.read_recipe(folder)))
    except OSError as error:
        raise _no_run(f"{folder / 'recipe.json'} cannot be read") from error
    except (KeyError, TypeError) as error:
        raise _no_run("its recipe.json is no run's") from error
    trained = {
        seed: checkpoint.load_run(folder, seed=seed)[0]
        for seed in checkpoint.seeds(folder)
        if checkpoint.latest(checkpoint.folder(folder, seed)) is not None
    }
    if missing := sorted(set(seeds) - set(trained)):
        raise errors.InputError(
            f"--seeds: {folder} has not trained seed {missing[0]}, only "
            f"{', '.join(map(str, trained)) or 'none'}: train it there first, or give other --seeds"
        )
    return trained


def extended_state(parents: Parents, seed: int, setup: train.TrainSetup) -> train.TrainState | None:
    """Return the state that a seed's training goes on from, None if no run is continued.

    It is the parent's, with rows for the new items: whole arrays of the one seed.
    """
    import jax

    from hrnn_jax.files import checkpoint
    from hrnn_jax.training import train

    if not parents:
        return None
    parent = parents[seed]
    like = jax.eval_shape(lambda: train.init_state(0, parent.config, setup.config))
    folder = checkpoint.folder(parent.folder, parent.seed)
    old = checkpoint.restore(folder, like, epochs=parent.epochs)
    return train.extend_state(old, train.init_state(parent.seed, setup.model_config, setup.config))


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise InputError unless the flags describe weights and an optimizer as the recipe does."""
    given = f"--continue_from={FLAGS.continue_from}"
    there = recipe["model"] | recipe.get("training", {})
    if there["name"] not in NETWORKS:
        raise errors.InputError(
            f"{given} is a {model_flags.NAMES[there['name']]} run, which has no weights to go on "
            "from: just run it on all events"
        )
    of_flags = model_flags.recipe(there["n_items"])
    here = of_flags["model"] | of_flags.get("training", {})
    differs = [name for name in SAME if here.get(name) != there[name]]
    if bool(here.get("momentum")) != bool(there["momentum"]):
        differs.append("momentum")
    if differs:
        [name, *_] = differs
        raise errors.InputError(
            f"--{'model' if name == 'name' else name}={here.get(name)}, but {given} has "
            f"{there[name]}: drop the flag, or train anew without --continue_from"
        )


def _no_run(reason: str) -> errors.InputError:
    return errors.InputError(
        f"--continue_from={FLAGS.continue_from}: is no run folder ({reason}); give the "
        "--output_dir of a run"
    )
