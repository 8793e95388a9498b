"""The flags of a model, its training and its evaluation, and the configs they make."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import (
    NETWORKS,
    EvaluationConfig,
    ItemKnnConfig,
    ModelConfig,
    SessionKnnConfig,
    TrainConfig,
)

from . import config_flags
from .model_names import NAMES

MODELS = tuple(NAMES)

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "model",
    "hrnn_init",
    MODELS,
    "Which model to run: those of Section 4.2, markov, sr, vsknn or vsknn_br.",
)
config_flags.define(ModelConfig, TrainConfig, EvaluationConfig, ItemKnnConfig, SessionKnnConfig)
flags.DEFINE_integer("epochs", 10, "Passes over the training events.", lower_bound=0)
flags.DEFINE_list("seeds", ["0"], "Seeds to train, whole numbers; each is a run of its own.")
flags.DEFINE_integer(
    "seeds_at_once", 1, "Seeds trained side by side in one program.", lower_bound=1
)
for _name in ("epochs", "seeds", "seeds_at_once"):
    config_flags.used_by(_name, NETWORKS)


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
