"""What a run takes over from the run that it continues: flags, items and weights."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
from absl import flags

from hrnn_jax import checkpoint, errors, train
from hrnn_jax.config import NETWORKS, ModelConfig, TrainConfig, upgrade_recipe
from hrnn_jax.preprocess import prepared

from . import model_flags, run_folder
from .cli import module

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "continue_from",
    None,
    "A run folder to go on from with a new log: its items keep their weights, new ones are added, "
    "and its flags hold where none are given.",
)
OWN = ("continue_from", "events", "output_dir", "resume", "curve")  # flags that are not taken over
# They shape the weights, or the states of live users.
SAME = (
    *("model", "hidden_units", "layers", "embedding", "user_input"),
    *("idle_gap", "past"),
    "optimizer",
)


@dataclasses.dataclass(frozen=True)
class Parent:
    """The run that is continued."""

    folder: pathlib.Path
    raw_ids: list[int] | list[str]  # of its items, in their order
    epochs: dict[int, int]  # seed -> those of its newest checkpoint
    weights: dict[str, list[str]]  # seed -> fingerprints of its weights and of their ancestors'


def defaults() -> list[str]:
    """Return the flags of the run that --continue_from names; those of its log are left out."""
    if not FLAGS.continue_from:
        return []
    path = pathlib.Path(FLAGS.continue_from, "flags")
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_run(f"{path} cannot be read") from error
    if (
        FLAGS.events is None
        and FLAGS["dataset"].using_default_value
        and any(line.startswith("--events=") for line in lines)
    ):
        raise errors.InputError(
            f"--continue_from={FLAGS.continue_from} was trained on a log: give a new one with "
            "--events"
        )
    return [line for line in lines if _is_taken(line)]


def _is_taken(line: str) -> bool:
    name = line.lstrip("-").partition("=")[0]
    name = name if name in FLAGS else name.removeprefix("no")
    ours = (FLAGS.find_module_defining_flag(name) or "").startswith(module(""))
    return ours and name not in OWN


def parent(seeds: list[int]) -> Parent:
    """Read the run that --continue_from names.

    Raises InputError where it is none, its weights are not those that the flags describe, or it
    has not trained one of the seeds.
    """
    folder = pathlib.Path(FLAGS.continue_from)
    try:
        recipe = run_folder.read_recipe(folder)
    except OSError as error:
        raise _no_run(f"{folder / 'recipe.json'} cannot be read") from error
    _check_weights(recipe)
    raw_ids = prepared.load_items(folder)
    epochs = {
        seed: newest
        for seed in checkpoint.seeds(folder)
        if (newest := checkpoint.latest(checkpoint.folder(folder, seed)))
    }
    if missing := sorted(set(seeds) - set(epochs)):
        raise errors.InputError(
            f"--seeds: {folder} has not trained seed {missing[0]}, only "
            f"{', '.join(map(str, epochs)) or 'none'}: train it there first, or give other --seeds"
        )
    found = Parent(folder, raw_ids, epochs, weights={})
    before = recipe.get("continued_from", {}).get("weights", {})
    for seed in epochs:
        params = _restore(
            found, seed, model_flags.model_config(len(raw_ids)), model_flags.train_config()
        ).params
        found.weights[str(seed)] = [checkpoint.fingerprint(params), *before.get(str(seed), [])]
    return found


def check_folder(folder: pathlib.Path, parent: Parent) -> None:
    """Raise InputError if a run would go into the folder of the run that it continues."""
    if folder.resolve() == parent.folder.resolve():
        raise errors.InputError(
            f"--output_dir={folder} is the run that is continued: choose another folder"
        )


def state(
    parent: Parent, seed: int, model_config: ModelConfig, config: TrainConfig
) -> train.TrainState:
    """Return the state that training goes on from: the parent's, with rows for the new items."""
    old = _restore(
        parent, seed, dataclasses.replace(model_config, n_items=len(parent.raw_ids)), config
    )
    return train.extend_state(old, train.init_state(seed, model_config, config))


def _restore(
    parent: Parent, seed: int, model_config: ModelConfig, config: TrainConfig
) -> train.TrainState:
    like = jax.eval_shape(lambda: train.init_state(seed, model_config, config))
    folder = checkpoint.folder(parent.folder, seed)
    return checkpoint.restore(folder, like, epochs=parent.epochs[seed])


def _check_weights(recipe: dict[str, Any]) -> None:
    """Raise InputError unless the flags describe weights and an optimizer as the recipe does."""
    try:
        recipe = upgrade_recipe(recipe)
        named = dict(recipe["model"])
        there: dict[str, Any] = {"model": named.pop("name")}
        if there["model"] not in NETWORKS:
            raise errors.InputError(
                f"--continue_from={FLAGS.continue_from} is a "
                f"{model_flags.NAMES[there['model']]} run, which has no weights to go on from: "
                "just run it on all events"
            )
        there |= dataclasses.asdict(ModelConfig(**named))
        there |= dataclasses.asdict(TrainConfig(**recipe["training"]))
        here = {"model": FLAGS.model} | dataclasses.asdict(
            model_flags.model_config(there["n_items"])
        )
        here |= dataclasses.asdict(model_flags.train_config())
        differ = [name for name in SAME if here[name] != there[name]]
        if bool(here["momentum"]) != bool(there["momentum"]):
            differ.append("momentum")
        if differ:
            raise errors.InputError(
                f"--{differ[0]}={here[differ[0]]}, but --continue_from={FLAGS.continue_from} "
                f"has {there[differ[0]]}: drop the flag, or train anew without --continue_from"
            )
    except (KeyError, TypeError) as error:
        raise _no_run("its recipe.json is no run's") from error


def _no_run(reason: str) -> errors.InputError:
    return errors.InputError(
        f"--continue_from={FLAGS.continue_from}: is no run folder ({reason}); give the "
        "--output_dir of a run"
    )
