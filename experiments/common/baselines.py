"""Rank by the method without a network that the flags name."""

from __future__ import annotations

from absl import flags

from hrnn_jax.baselines import counting, session_knn
from hrnn_jax.event_log import EventLog
from hrnn_jax.metrics import Ranking

from . import model_flags

FLAGS = flags.FLAGS


def rank(log: EventLog) -> Ranking:
    """Rank the test cases of a log by --model."""
    config = model_flags.evaluation_config()
    match FLAGS.model:
        case "ppop":
            return counting.ppop(log, config)
        case "item_knn":
            return counting.item_knn(log, model_flags.item_knn_config(), config)
        case "markov":
            return counting.markov(log, config)
        case "sr":
            return counting.sequential_rules(log, config)
        case _:
            return session_knn.vsknn(log, model_flags.session_knn_config(), config)
