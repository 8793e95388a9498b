"""The flags of a model, its training and its evaluation, and what they make: configs, networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from hrnn_jax import errors
from hrnn_jax.baselines import by_name
from hrnn_jax.config import (
    NETWORKS,
    EvaluationConfig,
    ModelConfig,
    TrainConfig,
    setting,
)
from hrnn_jax.estimators import run_files
from hrnn_jax.event_log import EventLog
from hrnn_jax.presets import network_of
from hrnn_jax.ranking.metrics import Ranking

from . import cli, config_flags, run_settings
from .model_names import NAMES

if TYPE_CHECKING:
    from hrnn_jax.network import Network, OneDevice

MODELS = tuple(NAMES)


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Which model.

    Attributes:
        model: Which model to run: those of Section 4.2, markov, sr, vsknn, vsknn_br, stan, vstan,
            u_vstan, ease, popular, counts, or hrnn_plus, which is hrnn_init with the settings of
            hrnn_plus.flags; they override those of other flag files, which stand before it, and
            typed flags override them.
    """

    model: str = setting("hrnn_init", choices=MODELS)


@dataclasses.dataclass(frozen=True)
class EpochFlags:
    """How long a network is trained, and how many are.

    Attributes:
        epochs: Passes over the training events.
        seeds: Seeds to train, whole numbers; each is a run of its own.
        seeds_at_once: Seeds trained side by side in one program.
    """

    epochs: int = setting(10, least=0, models=NETWORKS)
    seeds: tuple[int, ...] = setting((0,), models=NETWORKS)
    seeds_at_once: int = setting(1, least=1, models=NETWORKS)


FLAGS = flags.FLAGS
config_flags.define_command(ModelFlags, "model")
config_flags.define_command(EpochFlags, "training")
config_flags.define(run_settings.CONFIGS)


def check() -> None:
    """Raise InputError where a flag was typed that the model does not use, or has a bad value."""
    config_flags.refuse_unused(FLAGS.model)
    seeds()
    evaluation_config()
    if is_network():
        model_config(n_items=1)
        train_config()


def network() -> str:
    """Return the network, or the method without training, that --model stands for."""
    return network_of(FLAGS.model)


def is_network() -> bool:
    """Say whether --model is trained."""
    return network() in NETWORKS


def model_config(n_items: int) -> ModelConfig:
    """Return the network that the flags describe. Raises InputError."""
    return config_flags.make(ModelConfig, network(), {"n_items": n_items, "variant": network()})


def train_config() -> TrainConfig:
    """Return how the flags say to train. Raises InputError where they contradict each other."""
    fixed: dict[str, Any] = {}
    if FLAGS.held_out_patience and not FLAGS.places:  # it needs a field of the other config
        if "held_out_patience" in cli.typed:
            raise errors.InputError(
                f"--held_out_patience={FLAGS.held_out_patience} has no effect without a number of "
                "--places above 0: drop it, or give --places"
            )
        fixed["held_out_patience"] = 0
    return config_flags.make(TrainConfig, network(), fixed).for_epochs(FLAGS.epochs)


def evaluation_config() -> EvaluationConfig:
    """Return how the flags say to rank. Raises InputError."""
    return config_flags.make(EvaluationConfig, network(), {"cutoffs": tuple(cutoffs())})


def baseline_config() -> by_name.Settings:
    """Return the settings of the method without training, None if it has none."""
    name = network()
    if name not in by_name.CONFIGS:
        return None
    return config_flags.make(by_name.CONFIGS[name], name, by_name.FIXED.get(name, {}))


def recipe(n_items: int) -> dict[str, Any]:
    """Return what recipe.json says of the model and its training."""
    if is_network():
        return run_files.recipe(network(), model_config(n_items), train_config())
    settings = baseline_config()
    return run_files.recipe(network(), *([] if settings is None else [settings]))


def seeds() -> list[int]:
    """Return --seeds. Raises InputError unless they are distinct whole numbers."""
    return whole_numbers("seeds", at_least=0)


def cutoffs() -> list[int]:
    """Return --cutoffs. Raises InputError unless they are distinct positive whole numbers."""
    return whole_numbers("cutoffs", at_least=1)


def whole_numbers(flag: str, *, at_least: int) -> list[int]:
    """Return a list flag as numbers. Raises InputError unless they are whole and distinct."""
    texts: list[str] = FLAGS[flag].value or []
    numbers = [int(text) for text in texts if text.strip().isdecimal() and text.isascii()]
    if (
        not texts
        or len(set(numbers)) < len(texts)
        or not all(at_least <= number < 2**31 for number in numbers)
    ):
        raise errors.InputError(
            f"--{flag}={','.join(texts)}: give distinct whole numbers from {at_least}, as in 1,2,3"
        )
    return numbers


def make_network(log: EventLog, devices: OneDevice | None = None) -> Network:
    """Make the network that the flags describe, by default on one device. Raises InputError."""
    from hrnn_jax import network  # here: flags are checked before jax is loaded

    made = network.make_network(
        log,
        model_config(log.n_items),
        train_config(),
        evaluation_config(),
        devices=devices or network.ONE_DEVICE,
    )
    if FLAGS.epochs:
        made.check_trainable()
    return made


def rank_baseline(log: EventLog) -> Ranking:
    """Rank the test cases of a log by --model, a method without training."""
    return by_name.rank(network(), log, baseline_config(), evaluation_config())


def seed_groups(seeds: Sequence[int]) -> list[Sequence[int]]:
    """Split seeds into groups of --seeds_at_once, which train side by side."""
    return [seeds[i : i + FLAGS.seeds_at_once] for i in range(0, len(seeds), FLAGS.seeds_at_once)]


def epoch_title(seeds: Sequence[int], epoch: int, last: int) -> str:
    """Name an epoch of some seeds, counted from 0, and the number of epochs for the output."""
    return (
        f"seed{'s' if len(seeds) > 1 else ''} {','.join(map(str, seeds))} epoch {epoch + 1}/{last}"
    )
