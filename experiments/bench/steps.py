"""Rows of the benchmark about training steps, measured in this process."""

from __future__ import annotations

import collections
import re
import statistics
from collections.abc import Mapping

import jax

from hrnn_jax.config import ModelConfig
from hrnn_jax.model import init_params

from .benchmark_model import INIT_SMALL, N_ITEMS, BenchmarkModel, train_steps
from .record import Row
from .timing import Settings, operations

MANY_ITEMS, FEW_ITEMS = 380_000, 1_000
PRODUCTS = "matrix products"  # the kinds of a step's operations
ROWS = "gathering, summing and scattering rows of items and lanes"
DENSE = "AdaGrad on the dense weights"
REST = "gates, losses, masks, copies"
KINDS = (PRODUCTS, ROWS, DENSE, REST)


def step(settings: Settings, model: BenchmarkModel, title: str, limit: float) -> Mapping[str, Row]:
    """Measure a step next to its own matrix products."""
    training = train_steps(model, settings.steps)
    measured, floor = settings.turns(training.step, training.floor())
    rate = training.events / training.steps / statistics.median(measured)
    lanes = "no lane"
    if training.opening:
        lanes = (
            f"{training.width.opening} lanes in most steps, {training.opening:.1f} of which open a "
            "session in the mean; the floor is that of so many"
        )
    notes = [f"{rate:,.0f} events/s", f"GRU_usr runs for {lanes}"]
    config, batch = model.model_config, model.train_config.batch_size
    what = f"{title} (batch {batch}, {config.hidden_units} units, {config.n_items:,} items)"
    return {"": Row(what, measured, floor, "its matrix products", limit, notes=notes)}


def dropout(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with dropout next to one without."""
    model = INIT_SMALL.replace(dropout_user=0.1, dropout_session=0.1, dropout_init=0.2)
    step, without = (train_steps(each, settings.steps).step for each in (model, INIT_SMALL))
    what = "dropout 0.1 / 0.1 / 0.2, HRNN Init small"
    return {"": settings.row(what, step, without, "the same step without", 1.1)}


def catalogue(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with many items next to one with few."""
    many, few = (
        train_steps(INIT_SMALL.replace(n_items=n_items), settings.steps).step
        for n_items in (MANY_ITEMS, FEW_ITEMS)
    )
    what = f"{MANY_ITEMS:,} items, HRNN Init small"
    return {"": settings.row(what, many, few, f"the same step with {FEW_ITEMS:,}", 1.1)}


def memory(settings: Settings) -> Mapping[str, Row]:
    """Compare all memory of the compiled chunk with that of its inputs and results."""
    held = INIT_SMALL.state_bytes
    analysis = train_steps(INIT_SMALL, settings.steps).compiled().memory_analysis()
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
    what, name = "--seeds_at_once=2, a step of both", "two steps, one seed each"
    return {"": settings.row(what, together.step, lambda: alone.step() + alone.step(), name)}


def shares(settings: Settings, model: BenchmarkModel) -> Mapping[str, Row]:
    """Measure the shares of a step's time; each includes the profiler's own time."""
    training = train_steps(model, settings.steps)
    kinds = operation_kinds(training.compiled().as_text() or "", model.model_config)

    def profile() -> dict[str, float]:
        """Train an epoch; return the share of each kind of operation in its time."""
        durations = collections.Counter[str]()
        for name, duration in operations(settings, training.epoch).items():
            durations[kinds.get(name, "")] += duration
        del durations[""]  # outside the loop over the updates
        return {kind: durations[kind] / durations.total() for kind in KINDS}

    [turns] = settings.turns(profile)
    return {
        f"{number}": Row(
            f"share of a step of {model.name}: {kind}", [turn[kind] for turn in turns], unit="%"
        )
        for number, kind in enumerate(KINDS, start=1)
    }


def operation_kinds(text: str, config: ModelConfig) -> dict[str, str]:
    """Return the kind of each operation in the loop over a chunk's updates, by its name.

    The profiler gives no category on a CPU, and a fusion's name does not tell all that was fused
    into it: the kinds are read from the text of the compiled program.

    Args:
        text: The compiled program that trains a chunk.
        config: The model's settings.
    """
    weights = jax.eval_shape(lambda: init_params(jax.random.key(0), config)).network
    dense = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(weights)}
    blocks = re.finditer(r"^(%[\w.-]+) .*?^}", text, re.MULTILINE | re.DOTALL)
    computations = {block[1]: block[0] for block in blocks}
    bodies = [computations[name] for name in re.findall(r" while\(.*body=(%[\w.-]+)", text)]
    operations = re.findall(
        r"%([\w.-]+) = (?:f32\[([\d,]+)\])?(.* (?:fusion|dot|copy|concatenate)\(.*)",
        max(bodies, key=len),
    )
    kinds = {}
    for name, shape, operation in operations:
        called = re.search(r"calls=(%[\w.-]+)", operation)
        within = operation + (computations[called[1]] if called else "")
        if " dot(" in within:
            kinds[name] = PRODUCTS
        elif re.search(r" (gather|scatter)\(", within):
            kinds[name] = ROWS
        else:
            kinds[name] = DENSE if shape in dense else REST
    return kinds
