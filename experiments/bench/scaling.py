"""Sweeps of the benchmark: how costs grow with items, batch size, units and events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np

from . import commands
from .evaluation import XXL_ITEMS, rank_seconds, xxl_log
from .record import Sweep
from .steps import INIT_SMALL, BenchmarkModel, Training, random_log, train_epoch
from .timing import Settings, seconds

ITEMS = (1_000, 10_000, 60_000, 380_000, 1_000_000)
BATCH = (25, 50, 100, 200, 400, 800)
UNITS = (50, 100, 200, 500, 1_000)
EVENTS = (100_000, 330_000, 1_000_000, 3_300_000, 10_000_000, 33_000_000)
XXL_RAW_EVENTS = 33_000_000  # of VIDEOXXL's shape at scale 1, after preprocessing
RANKED_USERS = 200  # in the sweep of items
MAX_POINT_SECONDS = 60  # from which on a point is not measured again
STEP, PRODUCTS = "microseconds a step", "its matrix products"

_T = TypeVar("_T")
Point = tuple[float, Sequence[float]]  # x, one value a turn


def items(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the catalogue: a step does not depend on it, ranking a case is linear in it."""
    users = max(2, round(settings.scale * RANKED_USERS))
    steps: list[Point] = []
    cases: list[Point] = []
    for n_items in ITEMS:
        model = INIT_SMALL.replace(n_items=n_items)
        log = random_log(np.random.default_rng(0), users, n_items, tested=True)
        params = jax.block_until_ready(model.init().params)

        def case(model=model, params=params, log=log) -> float:
            return rank_seconds(model, params, log) / len(log.cases)

        step, of_case = settings.turns(Training(model, settings.steps).epoch, case)
        steps.append((n_items, _microseconds(step)))
        cases.append((n_items, _microseconds(of_case)))
        settings.print(f"{n_items:,} items: {_last(steps)} a step, {_last(cases)} a case")
    panels = {
        STEP: {"a training step": steps},
        "microseconds a test case": {"evaluation, histories included": cases},
    }
    return {"": Sweep("Size of the catalogue: HRNN Init, batch 50, 100 units", "items", panels)}


def batch(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the batch size."""
    models = [(n, INIT_SMALL.replace(batch_size=n)) for n in BATCH]
    curves = _steps(settings, models, "lanes")
    per_lane = {  # nearly all of which have an event in each step
        name: [(x, [value / x for value in values]) for x, values in points]
        for name, points in curves.items()
    }
    panels = {STEP: curves, "microseconds a lane": per_lane}
    return {"": Sweep("Batch: HRNN Init, 100 units, 60,000 items", "lanes of a batch", panels)}


def units(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the units of both GRUs."""
    models = [(n, INIT_SMALL.replace(hidden_units=n, n_items=10_000)) for n in UNITS]
    panels = {STEP: _steps(settings, models, "units")}
    return {"": Sweep("Units of each GRU: HRNN Init, batch 50, 10,000 items", "units", panels)}


def _steps(
    settings: Settings, models: Sequence[tuple[int, BenchmarkModel]], unit: str
) -> dict[str, list[Point]]:
    """Measure the steps of models next to their matrix products."""
    curves: dict[str, list[Point]] = {"a training step": [], PRODUCTS: []}
    for x, model in models:
        training = Training(model, settings.steps)
        measured = settings.turns(training.epoch, training.floor())
        for curve, values in zip(curves.values(), measured, strict=True):
            curve.append((x, _microseconds(values)))
        step, floor = (_last(curve) for curve in curves.values())
        settings.print(f"{x:,} {unit}: {step} a step, its matrix products {floor}")
    return curves


def events(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the log in VIDEOXXL's shape: its preparation, an epoch's schedule and its training."""
    curves: dict[str, list[Point]] = {"preprocessing": [], "schedule": [], "a training epoch": []}
    memory: list[Point] = []
    model = INIT_SMALL.replace(n_items=XXL_ITEMS)
    for n in EVENTS:
        n_events = round(settings.scale * n)
        share = n_events / XXL_RAW_EVENTS
        raw = commands.raw_log(settings, share)
        costs = _repeat(settings, lambda raw=raw: commands.prepare(settings, raw))
        memory.append((n_events, [cost.peak_bytes / 1e9 for cost in costs]))
        epochs = _repeat(settings, _epoch(model, share))
        measured = ([cost.seconds for cost in costs], *zip(*epochs, strict=True))
        for curve, values in zip(curves.values(), measured, strict=True):
            curve.append((n_events, values))
        figures = ", ".join(f"{name} {points[-1][1][0]:.2f} s" for name, points in curves.items())
        settings.print(f"{n_events:,} events: {figures}")
    panels = {"seconds": curves, "GB resident at the peak": {"preprocessing": memory}}
    what = "Events of the log: VIDEOXXL's shape, HRNN Init, batch 50, 100 units, 380,000 items"
    notes = [
        f"A point is measured up to {settings.repeats} times after one to warm up, until "
        f"{MAX_POINT_SECONDS} s are used up; one that takes as long is measured once."
    ]
    return {"": Sweep(what, "events after preprocessing, about", panels, notes)}


def _epoch(model: BenchmarkModel, share: float) -> Callable[[], tuple[float, float]]:
    """Return what lays out and trains an epoch and returns the seconds of both."""
    log, state = xxl_log(share), model.init()

    def epoch() -> tuple[float, float]:
        nonlocal state
        started = time.perf_counter()
        schedule = model.schedule(log)
        laid_out = time.perf_counter()
        state = train_epoch(model, state, [schedule])
        return laid_out - started, time.perf_counter() - laid_out

    return epoch


def _repeat(settings: Settings, function: Callable[[], _T]) -> list[_T]:
    """Warm up, then call up to `repeats` times within `MAX_POINT_SECONDS`.

    Of a first call that takes longer, compiling is only a small part: it is the only call.
    """
    results: list[_T] = []
    elapsed = seconds(lambda: results.append(function()))
    if elapsed > MAX_POINT_SECONDS:
        return results
    results.clear()
    while not results or (len(results) < settings.repeats and elapsed < MAX_POINT_SECONDS):
        elapsed += seconds(lambda: results.append(function()))
    return results


def _microseconds(values: Sequence[float]) -> list[float]:
    return [1e6 * value for value in values]


def _last(points: Sequence[Point]) -> str:
    return f"{statistics.median(points[-1][1]):,.0f} us"
