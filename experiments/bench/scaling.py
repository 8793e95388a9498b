"""Sweeps of the benchmark: how costs grow with items, batch size, units and events."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np

from . import commands
from .benchmark_model import INIT_SMALL, BenchmarkModel, Training, random_log, train_steps
from .evaluation import XXL_ITEMS, rank_seconds, xxl_log
from .record import Sweep
from .timing import Settings, seconds

ITEMS = (1_000, 10_000, 60_000, 380_000, 1_000_000)
BATCH = (25, 50, 100, 200, 400, 800)
UNITS = (50, 100, 200, 500, 1_000)
EVENTS = (100_000, 330_000, 1_000_000, 3_300_000, 10_000_000, 33_000_000)
XXL_RAW_EVENTS = 33_000_000  # of VIDEOXXL's shape at scale 1, after preprocessing
RANKED_USERS = 200  # in the sweep of items
MAX_POINT_SECONDS = 60  # from which on a point is not measured again
STEP = "microseconds a step"

_T = TypeVar("_T")
Point = tuple[float, Sequence[float]]  # x, one value a turn


def items(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the catalogue: a step does not depend on it, ranking a case is linear in it."""
    users = max(2, round(settings.scale * RANKED_USERS))

    def functions(n_items: int) -> Sequence[Callable[[], float]]:
        model = INIT_SMALL.replace(n_items=n_items)
        log = random_log(np.random.default_rng(0), users, n_items, tested=True)
        params = jax.block_until_ready(model.init().params)
        step = train_steps(model, settings.steps).step
        return step, lambda: rank_seconds(model, params, log) / len(log.cases)

    steps, cases = _curves(settings, ITEMS, functions, "items")
    panels = {
        STEP: {"a training step": steps},
        "microseconds a test case": {"evaluation, histories included": cases},
    }
    return {"": Sweep("Size of the catalogue: HRNN Init, batch 50, 100 units", "items", panels)}


def batch(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the batch size."""
    curves = _steps(settings, BATCH, lambda n: INIT_SMALL.replace(batch_size=n), "lanes")
    per_lane = {  # nearly all of which have an event in each step
        name: [(x, [value / x for value in values]) for x, values in points]
        for name, points in curves.items()
    }
    panels = {STEP: curves, "microseconds a lane": per_lane}
    return {"": Sweep("Batch: HRNN Init, 100 units, 60,000 items", "lanes of a batch", panels)}


def units(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the units of both GRUs."""

    def model(units: int) -> BenchmarkModel:
        return INIT_SMALL.replace(hidden_units=units, n_items=10_000)

    panels = {STEP: _steps(settings, UNITS, model, "units")}
    return {"": Sweep("Units of each GRU: HRNN Init, batch 50, 10,000 items", "units", panels)}


def _steps(
    settings: Settings, sizes: Sequence[int], model: Callable[[int], BenchmarkModel], unit: str
) -> dict[str, list[Point]]:
    """Measure the steps of models next to their matrix products."""

    def functions(size: int) -> Sequence[Callable[[], float]]:
        training = train_steps(model(size), settings.steps)
        return training.step, training.floor()

    steps, products = _curves(settings, sizes, functions, unit)
    return {"a training step": steps, "its matrix products": products}


def _curves(
    settings: Settings,
    sizes: Sequence[int],
    functions: Callable[[int], Sequence[Callable[[], float]]],
    unit: str,
) -> tuple[list[Point], list[Point]]:
    """Measure two functions at each size, in microseconds."""
    curves: tuple[list[Point], list[Point]] = ([], [])
    for size in sizes:
        for curve, values in zip(curves, settings.turns(*functions(size)), strict=True):
            curve.append((size, [1e6 * value for value in values]))
        first, second = (statistics.median(curve[-1][1]) for curve in curves)
        settings.print(f"{size:,} {unit}: {first:,.0f} us and {second:,.0f} us")
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
    log = xxl_log(share)
    training = Training(model, [model.schedule(log)])
    return lambda: (seconds(lambda: model.schedule(log)), training.epoch())


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
