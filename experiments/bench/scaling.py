"""Sweeps of the benchmark: how costs grow with items, lanes, units and events."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np

from hrnn_jax import evaluation, train
from hrnn_jax.config import EvaluationConfig

from . import commands, measures, stages, steps
from .measures import Found, Settings, Sweep
from .steps import INIT_SMALL, Network, Subject

ITEMS = (1_000, 10_000, 60_000, 380_000, 1_000_000)
BATCH = (25, 50, 100, 200, 400, 800)
UNITS = (50, 100, 200, 500, 1_000)
EVENTS = (100_000, 330_000, 1_000_000, 3_300_000, 10_000_000, 33_000_000)
XXL_RAW_EVENTS = 33_000_000  # what VIDEOXXL's shape keeps at scale 1
RANKED_USERS = 200  # in the sweep of items
PATIENCE = 60  # seconds that one point may repeat; it is measured once at least

_T = TypeVar("_T")
Point = tuple[float, Sequence[float]]
STEP, EVENT = "microseconds a step", "microseconds an event"
PRODUCTS = "its matrix products"


def items(settings: Settings) -> Found:
    """Sweep the catalogue: a step does not depend on it, ranking a case is linear in it."""
    networks = [dataclasses.replace(INIT_SMALL, n_items=n) for n in ITEMS]
    users = max(2, round(settings.scale * RANKED_USERS))
    training_, ranking = [], []
    for network in networks:
        step = Subject(network, settings.steps).epoch
        log = steps.random_log(np.random.default_rng(0), users, network.n_items, tested=True)
        params = train.init_state(0, network.model_config, network.config).params
        rank = _ranking(network, log, jax.block_until_ready(params))
        found, ranked = measures.take_turns([step, rank], repeats=settings.repeats)
        training_.append((network.n_items, _micro(found)))
        ranking.append((network.n_items, _micro(ranked)))
        settings.say(
            f"{network.n_items:,} items: {_said(training_)} a step, {_said(ranking)} a case"
        )
    panels = {
        STEP: {"a training step": training_},
        "microseconds a test case": {"evaluation, histories included": ranking},
    }
    what = "Size of the catalogue: HRNN Init, batch 50, 100 units"
    return {"": Sweep(what, "items", panels)}


def _ranking(network: Network, log, params) -> Callable[[], float]:
    """Return what ranks all cases of a log, and returns the seconds of a case."""

    def rank() -> object:
        return evaluation.rank(
            params,
            log,
            model_config=network.model_config,
            config=EvaluationConfig(cutoffs=stages.CUTOFFS),
        )

    return lambda: measures.seconds(rank) / len(log.cases)


def batch(settings: Settings) -> Found:
    networks = [(n, dataclasses.replace(INIT_SMALL, batch=n)) for n in BATCH]
    found = _steps(settings, networks, "lanes")
    each = {  # of the lanes, nearly all of which have an event
        name: [(x, [value / x for value in values]) for x, values in points]
        for name, points in found.items()
    }
    what = "Batch: HRNN Init, 100 units, 60,000 items"
    return {"": Sweep(what, "lanes of a batch", {STEP: found, "microseconds a lane": each})}


def units(settings: Settings) -> Found:
    networks = [(n, dataclasses.replace(INIT_SMALL, units=n, n_items=10_000)) for n in UNITS]
    found = _steps(settings, networks, "units")
    what = "Units of each GRU: HRNN Init, batch 50, 10,000 items"
    return {"": Sweep(what, "units", {STEP: found})}


def _steps(
    settings: Settings, networks: Sequence[tuple[int, Network]], unit: str
) -> dict[str, list[Point]]:
    """Measure the steps of networks beside their matrix products."""
    curves: dict[str, list[Point]] = {"a training step": [], PRODUCTS: []}
    for x, network in networks:
        subject = Subject(network, settings.steps)
        taken = measures.take_turns([subject.epoch, subject.floor()], repeats=settings.repeats)
        for curve, values in zip(curves.values(), taken, strict=True):
            curve.append((x, _micro(values)))
        step, floor = (_said(curve) for curve in curves.values())
        settings.say(f"{x:,} {unit}: {step} a step, its matrix products {floor}")
    return curves


def events(settings: Settings) -> Found:
    """Sweep the log in VIDEOXXL's shape: preparing it, laying out an epoch, training it."""
    curves: dict[str, list[Point]] = {"preprocessing": [], "schedule": [], "a training epoch": []}
    memory: list[Point] = []
    network = dataclasses.replace(INIT_SMALL, n_items=stages.XXL_ITEMS)
    for n in EVENTS:
        n_events = round(settings.scale * n)
        share = n_events / XXL_RAW_EVENTS
        raw = commands.raw_log(settings, share)
        taken = _patiently(settings, lambda raw=raw: commands.prepare(settings, raw))
        curves["preprocessing"].append((n_events, [t.seconds for t in taken]))
        peaks = [t.peak_bytes / 1e9 for t in taken if t.peak_bytes is not None]
        if peaks:
            memory.append((n_events, peaks))
        log = stages.xxl_log(share)
        state = train.init_state(0, network.model_config, network.config)

        def turn(log=log) -> tuple[float, float]:
            nonlocal state
            started = time.perf_counter()
            schedule = train.epoch_schedule(
                log, network.model_config, network.config, seed=0, epoch=0
            )
            laid = time.perf_counter()
            state, _ = train.run_epoch(
                state,
                [schedule],
                seeds=[0],
                epoch=0,
                model_config=network.model_config,
                config=network.config,
            )
            return laid - started, time.perf_counter() - laid

        laid, trained = zip(*_patiently(settings, turn), strict=True)
        curves["schedule"].append((n_events, laid))
        curves["a training epoch"].append((n_events, trained))
        said = ", ".join(f"{name} {points[-1][1][0]:.2f} s" for name, points in curves.items())
        settings.say(f"{n_events:,} events: {said}")
    panels = {"seconds": curves}
    if memory:
        panels["GB resident at the peak"] = {"preprocessing": memory}
    what = "Events of the log: VIDEOXXL's shape, HRNN Init, batch 50, 100 units, 380,000 items"
    notes = [
        f"A point is measured up to {settings.repeats} times after one to warm up, until "
        f"{PATIENCE} s are used up; one that takes as long is measured once."
    ]
    return {"": Sweep(what, "events after preprocessing, about", panels, notes)}


def _patiently(settings: Settings, function: Callable[[], _T]) -> list[_T]:
    """Warm up, then call up to --repeats times while patience lasts.

    A call that uses it up is the only one: compiling is then little of it.
    """
    started = time.perf_counter()
    returned = [function()]
    if time.perf_counter() - started > PATIENCE:
        return returned
    returned.clear()
    while not returned or (
        len(returned) < settings.repeats and time.perf_counter() - started < PATIENCE
    ):
        returned.append(function())
    return returned


def _micro(values: Sequence[float]) -> list[float]:
    return [1e6 * value for value in values]


def _said(points: Sequence[Point]) -> str:
    return f"{statistics.median(points[-1][1]):,.0f} us"
