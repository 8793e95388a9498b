"""Sweeps of the benchmark: how costs grow with items, batch size, units and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
STEP = "microseconds a step"

Curves = dict[tuple[str, str], Sequence[float]]  # (panel, curve) -> one value a turn, at one size


def sweep(
    what: str, x: str, sizes: Sequence[int], measure: Callable[[int], Curves], unit: float = 1e-6
) -> Mapping[str, Sweep]:
    """Measure all curves at each size, and show them in a unit."""
    panels: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    for size in sizes:
        for (panel, curve), values in measure(size).items():
            points = panels.setdefault(panel, {}).setdefault(curve, [])
            points.append((size, [value / unit for value in values]))
            print(f"    {size:,} {x}: {curve}, {values[0] / unit:,.2f} {panel}", flush=True)
    return {"": Sweep(what, x, panels)}


def items(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the catalogue: a step does not depend on it, ranking a case is linear in it."""
    users = max(2, round(settings.scale * RANKED_USERS))

    def measure(n_items: int) -> Curves:
        model = INIT_SMALL.replace(n_items=n_items)
        log = random_log(np.random.default_rng(0), users, n_items, tested=True)
        params = jax.block_until_ready(model.init().params)
        step, case = settings.turns(
            train_steps(model, settings.steps).step,
            lambda: rank_seconds(model, params, log) / len(log.cases),
        )
        case_panel = ("microseconds a test case", "evaluation, histories included")
        return {(STEP, "a training step"): step, case_panel: case}

    what = "Size of the catalogue: HRNN Init, batch 50, 100 units"
    return sweep(what, "items", ITEMS, measure)


def batch(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the batch size."""

    def measure(size: int) -> Curves:
        curves = _step(settings, INIT_SMALL.replace(batch_size=size))
        return curves | {  # nearly all lanes have an event in each step
            ("microseconds a lane", name): [value / size for value in values]
            for (_, name), values in curves.items()
        }

    what = "Batch: HRNN Init, 100 units, 60,000 items"
    return sweep(what, "lanes of a batch", BATCH, measure)


def units(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the units of both GRUs."""
    what = "Units of each GRU: HRNN Init, batch 50, 10,000 items"
    model = INIT_SMALL.replace(n_items=10_000)
    return sweep(what, "units", UNITS, lambda n: _step(settings, model.replace(hidden_units=n)))


def _step(settings: Settings, model: BenchmarkModel) -> Curves:
    """Measure a model's steps next to their matrix products."""
    training = train_steps(model, settings.steps)
    step, products = settings.turns(training.step, training.floor())
    return {(STEP, "a training step"): step, (STEP, "its matrix products"): products}


def events(settings: Settings) -> Mapping[str, Sweep]:
    """Sweep the log in VIDEOXXL's shape: its preparation, an epoch's schedule and its training."""
    model = INIT_SMALL.replace(n_items=XXL_ITEMS)

    def measure(n_events: int) -> Curves:
        raw = commands.raw_log(settings, n_events / XXL_RAW_EVENTS)
        [costs] = settings.turns(lambda: commands.prepare(settings, raw), long=True)
        log = xxl_log(n_events / XXL_RAW_EVENTS)
        training = Training(model, model.setup(log), [model.schedule(log)])
        schedule, epoch = settings.turns(
            lambda: seconds(lambda: model.schedule(log)), training.epoch, long=True
        )
        return {
            ("seconds", "preprocessing"): [cost.seconds for cost in costs],
            ("seconds", "schedule"): schedule,
            ("seconds", "a training epoch"): epoch,
            ("GB resident at the peak", "preprocessing"): [c.peak_bytes / 1e9 for c in costs],
        }

    what = "Events of the log: VIDEOXXL's shape, HRNN Init, batch 50, 100 units, 380,000 items"
    sizes = [round(settings.scale * n_events) for n_events in EVENTS]
    return sweep(what, "events after preprocessing, about", sizes, measure, unit=1)
