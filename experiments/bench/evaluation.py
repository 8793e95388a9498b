"""Rows of the benchmark about evaluation and an epoch's schedule, measured in this process."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from hrnn_jax.config import EvaluationConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Params
from hrnn_jax.network import fitted
from hrnn_jax.ranking.evaluation import rank
from hrnn_jax.repeat_explore.mixture import FittedMixture
from hrnn_jax.training.held_out import HeldOut

from . import floors
from .benchmark_model import INIT_SMALL, PLUS_SAMPLED, BenchmarkModel, Training, random_log
from .gpu import plus_network
from .record import Row
from .timing import Settings, seconds

EVALUATED_USERS, EVALUATED_ITEMS = 11_154, 59_000  # 58,000 cases
PLUS_ITEMS = 12_000
XXL_USERS, XXL_ITEMS, XXL_SESSIONS, XXL_EVENTS = 810_000, 380_000, 10.5, 3.9  # VIDEOXXL's means


def rank_seconds(
    model: BenchmarkModel,
    params: Params,
    log: EventLog,
    *,
    mixture: FittedMixture | None = None,
    candidates: np.ndarray | None = None,
) -> float:
    """Rank all cases of a log; return the seconds."""
    config = EvaluationConfig(cutoffs=(5,))
    of_model = functools.partial(rank, params, log, model_config=model.model_config)
    return seconds(lambda: of_model(mixture=mixture, config=config, candidates=candidates))


def evaluate(settings: Settings) -> Mapping[str, Row]:
    """Measure ranking next to its matrix product, bootstrapping next to half an epoch, hrnn_plus.

    It is measured next to HRNN Init, on fewer items: their scores hide less of what it adds.
    """
    users = max(2, round(settings.scale * EVALUATED_USERS))
    log = random_log(np.random.default_rng(0), users, EVALUATED_ITEMS, tested=True)
    model = INIT_SMALL.replace(n_items=log.n_items)
    training = Training(model, model.setup(log.train), [model.schedule(log.train)])
    product = floors.scores(len(log.cases), log.n_items, model.model_config.hidden_units)
    whole, bootstrapping, scores, half = settings.turns(
        lambda: rank_seconds(model, training.state.params, log),
        # With one candidate, nearly all of the time is bootstrapping.
        lambda: rank_seconds(model, training.state.params, log, candidates=np.arange(1)),
        lambda: seconds(product),
        lambda: training.epoch() / 2,
    )
    ranking = [w - b for w, b in zip(whole, bootstrapping, strict=True)]
    size = f"{len(log.cases):,} cases among {log.n_items:,} items"
    whole_less = ["evaluation as a whole, less its bootstrapping"]
    one_candidate = ["evaluation with one candidate"]
    of = f"bootstrapping the histories of {size}"
    return {
        "ranking": Row(
            f"ranking {size}", ranking, scores, "its scores alone", 1.6, notes=whole_less
        ),
        "bootstrapping": Row(
            of, bootstrapping, half, "half a training epoch", 1.0, notes=one_candidate
        ),
        "hrnn_plus": _plus(settings, users),
    }


def _plus(settings: Settings, users: int) -> Row:
    """Measure the evaluation of hrnn_plus next to HRNN Init's."""
    log = random_log(np.random.default_rng(0), users, PLUS_ITEMS, tested=True)
    plus, init = (model.replace(n_items=log.n_items) for model in (PLUS_SAMPLED, INIT_SMALL))
    network = plus_network(plus, log)
    mixture = fitted(network, HeldOut(network, None, 0).mixture(0))  # of an untrained network
    of_plus, of_init = (model.init().params for model in (plus, init))
    return settings.row(
        f"evaluation of hrnn_plus: {len(log.cases):,} cases among {log.n_items:,} items",
        lambda: rank_seconds(plus, of_plus, log, mixture=mixture),
        lambda: rank_seconds(init, of_init, log),
        f"that of {init.name}",
        1.5,
    )


def schedule(settings: Settings) -> Mapping[str, Row]:
    """Measure how long an epoch's schedule takes next to copying its arrays."""
    log = xxl_log(settings.scale)
    built = INIT_SMALL.schedule(log)
    arrays = [*built.steps, built.event]
    row = settings.row(
        f"the schedule of an epoch of {len(log):,} events, "
        f"batch {INIT_SMALL.train_config.batch_size}",
        lambda: seconds(lambda: INIT_SMALL.schedule(log)),
        lambda: seconds(lambda: [np.copy(array) for array in arrays]),
        "copying its arrays",
        10,
    )
    return {"": row}


def xxl_log(scale: float) -> EventLog:
    """Draw a training log with a share of VIDEOXXL's users and its mean lengths."""
    users = max(2, round(scale * XXL_USERS))
    rng = np.random.default_rng(0)
    return random_log(rng, users, XXL_ITEMS, sessions=XXL_SESSIONS, events=XXL_EVENTS)
