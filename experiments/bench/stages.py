"""Rows of the benchmark on what is before and after training, in this process."""

from __future__ import annotations

import dataclasses

import numpy as np

from hrnn_jax import evaluation
from hrnn_jax import train as train_lib
from hrnn_jax.config import EvaluationConfig

from . import floors, measures, steps
from .measures import Found, Row, Settings

EVALUATED_USERS, EVALUATED_ITEMS = 11_154, 59_000  # 58,000 cases
CUTOFFS = (5,)
XXL_USERS, XXL_ITEMS, XXL_SESSIONS, XXL_EVENTS = 810_000, 380_000, 10.5, 3.9  # VIDEOXXL's means


def evaluate(settings: Settings) -> Found:
    """Measure ranking against its product of matrices, bootstrapping against half an epoch."""
    network = steps.INIT_SMALL
    log = steps.random_log(
        np.random.default_rng(0),
        max(2, round(settings.scale * EVALUATED_USERS)),
        EVALUATED_ITEMS,
        tested=True,
    )
    config = network.config
    model_config = dataclasses.replace(network, n_items=log.n_items).model_config
    states = [train_lib.init_state(0, model_config, config)]
    schedule = train_lib.epoch_schedule(log.train, network.model_config, config, seed=0, epoch=0)

    def half_an_epoch() -> float:
        def train() -> None:
            states[0], _ = train_lib.run_epoch(
                states[0], [schedule], seeds=[0], epoch=0, model_config=model_config, config=config
            )

        return measures.seconds(train) / 2

    def rank(candidates: np.ndarray | None) -> float:
        return measures.seconds(
            lambda: evaluation.rank(
                states[0].params,
                log,
                model_config=model_config,
                config=EvaluationConfig(cutoffs=CUTOFFS),
                candidates=candidates,
            )
        )

    product = floors.scores(len(log.cases), log.n_items, network.units)
    whole, bootstrap, scores, half = measures.take_turns(
        [
            lambda: rank(None),
            lambda: rank(np.arange(1)),  # among one item: what is left is the bootstrapping
            lambda: measures.seconds(product),
            half_an_epoch,
        ],
        repeats=settings.repeats,
        say=settings.say,
    )
    ranking = [w - b for w, b in zip(whole, bootstrap, strict=True)]
    size = f"{len(log.cases):,} cases among {log.n_items:,} items"
    return {
        "ranking": Row(
            f"ranking {size}",
            "s",
            ranking,
            scores,
            "its scores alone",
            1.6,
            notes=["evaluation as a whole, less its bootstrapping"],
        ),
        "bootstrapping": Row(
            f"bootstrapping the histories of {size}",
            "s",
            bootstrap,
            half,
            "half a training epoch",
            1.0,
            notes=["evaluation with one candidate"],
        ),
    }


def schedule(settings: Settings) -> Found:
    """Measure how an epoch's schedule is built against copying what it holds."""
    log = xxl_log(settings.scale)
    network = steps.INIT_SMALL
    held: list[list[np.ndarray]] = []

    def build() -> float:
        held.clear()

        def made() -> None:
            found = train_lib.epoch_schedule(
                log, network.model_config, network.config, seed=0, epoch=0
            )
            held.append([*found.steps, found.event])

        return measures.seconds(made)

    def copy() -> float:
        return measures.seconds(lambda: [np.copy(array) for array in held[0]])

    built, copied = measures.take_turns([build, copy], repeats=settings.repeats, say=settings.say)
    what = f"the schedule of an epoch of {len(log):,} events, batch {network.batch}"
    return {"": Row(what, "s", built, copied, "copying its arrays", 10)}


def xxl_log(scale: float):
    """Draw a training log of VIDEOXXL's size and mean lengths."""
    return steps.random_log(
        np.random.default_rng(0),
        max(2, round(scale * XXL_USERS)),
        XXL_ITEMS,
        sessions=XXL_SESSIONS,
        events=XXL_EVENTS,
    )
