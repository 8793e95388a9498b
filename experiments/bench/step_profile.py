"""Where a training step's time goes, by XLA's profiler."""

from __future__ import annotations

import collections
import pathlib
import re
from collections.abc import Mapping

import jax

from hrnn_jax.config import ModelConfig
from hrnn_jax.model import init_params

from .benchmark_model import BenchmarkModel, train_steps
from .record import Row
from .timing import Settings

PRODUCTS = "matrix products"
ROWS = "gathering, summing and scattering rows of items and lanes"
DENSE = "AdaGrad on the dense weights"
REST = "gates, losses, masks, copies"
KINDS = (PRODUCTS, ROWS, DENSE, REST)


def shares(settings: Settings, model: BenchmarkModel) -> Mapping[str, Row]:
    """Measure the shares of a step's time; each includes the profiler's own time."""
    training = train_steps(model, settings.steps)
    kinds = operation_kinds(training.compiled().as_text() or "", model.model_config)
    training.epoch()
    measured: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(settings.repeats):
        with settings.folder() as folder:
            with jax.profiler.trace(str(folder)):
                training.epoch()
            durations = _durations(folder)
        total = sum(durations[name] for name in kinds)
        for kind, values in measured.items():
            values.append(sum(durations[n] for n, k in kinds.items() if k == kind) / total)
    return {
        f"{number}": Row(f"share of a step of {model.name}: {kind}", measured[kind], unit="%")
        for number, kind in enumerate(KINDS, start=1)
    }


def _durations(folder: pathlib.Path) -> collections.Counter[str]:
    """Sum the nanoseconds of each operation, by its name in the compiled program."""
    [path] = folder.rglob("*.xplane.pb")
    durations: collections.Counter[str] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                durations[event.name] += event.duration_ns
    return durations


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
        r"%([\w.-]+) = (f32\[([\d,]+)\])?(.* (?:fusion|dot|copy|concatenate)\(.*)",
        max(bodies, key=len),
    )
    kinds = {}
    for name, _, shape, operation in operations:
        called = re.search(r"calls=(%[\w.-]+)", operation)
        within = operation + (computations[called[1]] if called else "")
        if " dot(" in within:
            kinds[name] = PRODUCTS
        elif re.search(r" (gather|scatter)\(", within):
            kinds[name] = ROWS
        else:
            kinds[name] = DENSE if shape in dense else REST
    return kinds
