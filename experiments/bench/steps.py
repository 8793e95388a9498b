"""Rows of the benchmark about training steps, measured in this process."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import jax

from .benchmark_model import INIT_SMALL, N_ITEMS, BenchmarkModel, train_steps
from .record import Row
from .timing import Settings

MANY_ITEMS, FEW_ITEMS = 380_000, 1_000


def step(settings: Settings, model: BenchmarkModel, title: str, limit: float) -> Mapping[str, Row]:
    """Measure a step next to its own matrix products."""
    training = train_steps(model, settings.steps)
    measured, floor = settings.turns(training.step, training.floor())
    rate = training.events / training.steps / statistics.median(measured)
    notes = [f"{rate:,.0f} events/s"]
    if training.opening:
        notes.append(
            f"GRU_usr runs for {training.opening} lanes, "
            f"{training.mean_opening:.1f} of which open a session in the mean"
        )
    else:
        notes.append("GRU_usr runs for no lane")
    config, batch = model.model_config, model.train_config.batch_size
    what = f"{title} (batch {batch}, {config.hidden_units} units, {config.n_items:,} items)"
    return {"": Row(what, measured, floor, "its matrix products", limit, notes=notes)}


def dropout(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with dropout next to one without."""
    with_dropout = INIT_SMALL.replace(dropout_user=0.1, dropout_session=0.1, dropout_init=0.2)
    models = [train_steps(model, settings.steps) for model in (with_dropout, INIT_SMALL)]
    measured, floor = settings.turns(*(model.step for model in models))
    what = "dropout 0.1 / 0.1 / 0.2, HRNN Init small"
    return {"": Row(what, measured, floor, "the same step without", 1.1)}


def catalogue(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with many items next to one with few."""
    models = [
        train_steps(INIT_SMALL.replace(n_items=n), settings.steps) for n in (MANY_ITEMS, FEW_ITEMS)
    ]
    measured, floor = settings.turns(*(model.step for model in models))
    what = f"{MANY_ITEMS:,} items, HRNN Init small"
    return {"": Row(what, measured, floor, f"the same step with {FEW_ITEMS:,}", 1.1)}


def memory(settings: Settings) -> Mapping[str, Row]:
    """Compare all memory of the compiled chunk with that of its inputs and results."""
    held = INIT_SMALL.state_bytes
    program = train_steps(INIT_SMALL, settings.steps).compiled()
    analysis = program.memory_analysis()
    assert analysis is not None
    temporary = analysis.temp_size_in_bytes
    what = f"memory of the compiled epoch, HRNN Init small, {N_ITEMS:,} items"
    notes = [f"{temporary / 1e6:.2f} MB are temporary"]
    name = "tables + optimizer state"
    return {"": Row(what, [held + temporary], [held], name, 1.02, unit="B", notes=notes)}


def seeds_at_once(settings: Settings) -> Mapping[str, Row]:
    """Measure two seeds in one compiled program next to the same two in turn."""
    together = train_steps(INIT_SMALL, settings.steps, seeds=2)
    alone = train_steps(INIT_SMALL, settings.steps)
    measured, floor = settings.turns(together.step, lambda: alone.step() + alone.step())
    what = "--seeds_at_once=2, a step of both"
    return {"": Row(what, measured, floor, "two steps, one seed each")}


def gpu(settings: Settings) -> Mapping[str, Row]:
    """Measure events/s of one seed and of ten, where there is a GPU."""
    rows = {}
    for seeds, name in ((1, "1 seed"), (10, "10 seeds, vmapped")):
        rates = []
        if jax.default_backend() == "gpu":
            training = train_steps(INIT_SMALL, settings.steps, seeds=seeds)
            [measured] = settings.turns(training.step)
            rates = [training.events / training.steps / duration for duration in measured]
        rows[f"{seeds}"] = Row(f"GPU: HRNN Init small, {name}", rates, unit="events/s")
    return rows
