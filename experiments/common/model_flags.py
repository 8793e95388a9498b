"""The flags of a model, its training and its evaluation, and what they make: configs, networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags

from hrnn_jax import errors, train
from hrnn_jax.baselines import counting, session_knn
from hrnn_jax.config import (
    NETWORKS,
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    SessionKnnConfig,
    TrainConfig,
    setting,
)
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking

from . import config_flags, epochs
from .model_names import NAMES

MODELS = tuple(NAMES)


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Which model, and how many networks.

    Attributes:
        model: Which model to run: those of Section 4.2, markov, sr, vsknn or vsknn_br.
        epochs: Passes over the training events.
        seeds: Seeds to train, whole numbers; each is a run of its own.
        seeds_at_once: Seeds trained side by side in one program.
    """

    model: str = setting("hrnn_init", choices=MODELS)
    epochs: int = setting(10, least=0, models=NETWORKS)
    seeds: tuple[int, ...] = setting((0,), models=NETWORKS)
    seeds_at_once: int = setting(1, least=1, models=NETWORKS)


FLAGS = flags.FLAGS
CONFIGS = (ModelConfig, TrainConfig, EvaluationConfig, ItemKnnConfig, SessionKnnConfig)
config_flags.define_command(ModelFlags)
config_flags.define(*CONFIGS)


def check() -> None:
    """Raise InputError where a flag was typed that the model does not use, or has a bad value."""
    config_flags.refuse_unused(FLAGS.model)
    seeds()
    evaluation_config()
    if FLAGS.model in NETWORKS:
        model_config(n_items=1)
        train_config()


def model_config(n_items: int) -> ModelConfig:
    """Return the network that the flags describe. Raises InputError."""
    return config_flags.make(ModelConfig, FLAGS.model, {"n_items": n_items, "variant": FLAGS.model})


def train_config() -> TrainConfig:
    """Return how the flags say to train. Raises InputError where they contradict each other."""
    values = {}
    if FLAGS.schedule != "constant" and not FLAGS.schedule_epochs:
        values["schedule_epochs"] = FLAGS.epochs
    return config_flags.make(TrainConfig, FLAGS.model, values)


def evaluation_config() -> EvaluationConfig:
    """Return how the flags say to rank. Raises InputError."""
    return config_flags.make(EvaluationConfig, FLAGS.model, {"cutoffs": tuple(cutoffs())})


def item_knn_config() -> ItemKnnConfig:
    """Return the Item-KNN that the flags describe. Raises InputError."""
    return config_flags.make(ItemKnnConfig, FLAGS.model, {})


def session_knn_config() -> SessionKnnConfig:
    """Return the session-kNN that the flags describe; V-SKNN does not know the user."""
    personal = {} if FLAGS.model == "vsknn_br" else {"boost": 0.0, "remind_weight": 0.0}
    return config_flags.make(SessionKnnConfig, FLAGS.model, personal)


def recipe(n_items: int) -> dict[str, Any]:
    """Return what recipe.json says of the model and its training."""
    name = {"name": FLAGS.model}
    if FLAGS.model in NETWORKS:
        return {
            "model": name | dataclasses.asdict(model_config(n_items)),
            "training": dataclasses.asdict(train_config()),
        }
    if FLAGS.model == "item_knn":
        return {"model": name | dataclasses.asdict(item_knn_config())}
    if FLAGS.model in ("vsknn", "vsknn_br"):
        return {"model": name | dataclasses.asdict(session_knn_config())}
    return {"model": name}


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


def make_network(log: EventLog) -> epochs.Network:
    """Make the network that the flags describe. Raises InputError."""
    config, events = model_config(log.n_items), log.train
    table = None
    if config.neighbours:
        counted = item_neighbours.count(events, config.neighbours, config.neighbours_weight)
        table = jax.device_put(counted)
    setup = train.make_setup(events, config, train_config())
    return epochs.Network(log, events, setup, table, evaluation_config())


def rank_baseline(log: EventLog) -> Ranking:
    """Rank the test cases of a log by --model, a method without training."""
    config = evaluation_config()
    match FLAGS.model:
        case "ppop":
            return counting.ppop(log, config)
        case "item_knn":
            return counting.item_knn(log, item_knn_config(), config)
        case "markov":
            return counting.markov(log, config)
        case "sr":
            return counting.sequential_rules(log, config)
        case _:
            return session_knn.vsknn(log, session_knn_config(), config)


def seed_groups(seeds: Sequence[int]) -> list[Sequence[int]]:
    """Split seeds into groups of --seeds_at_once, which train side by side."""
    return [seeds[i : i + FLAGS.seeds_at_once] for i in range(0, len(seeds), FLAGS.seeds_at_once)]


def epoch_title(seeds: Sequence[int], epoch: int) -> str:
    """Name an epoch of some seeds for the output."""
    return (
        f"seed{'s' if len(seeds) > 1 else ''} {','.join(map(str, seeds))} "
        f"epoch {epoch + 1}/{FLAGS.epochs}"
    )
