"""Where a training step's time goes: XLA's own profile, its operations sorted by what they do."""

from __future__ import annotations

import collections
import pathlib
import re

import jax

from hrnn_jax import model

from . import children, steps
from .measures import Found, Row, Settings
from .steps import Network, Subject

PRODUCTS = "matrix products"
ROWS = "gathering, summing and scattering rows of items and lanes"
DENSE = "AdaGrad on the dense weights"
REST = "gates, losses, masks, copies"
_SHAPE = r"f32\[([\d,]+)\]"


def parts(settings: Settings, network: Network, title: str) -> Found:
    """Measure the shares of a step's time; the profiler's own is in each of them."""
    subject = Subject(network, settings.steps)
    sorts = _sorts(network, subject.opening)
    subject.epoch()
    shares: dict[str, list[float]] = {sort: [] for sort in (PRODUCTS, ROWS, DENSE, REST)}
    for _ in range(settings.repeats):
        with children.scratch(settings.scratch) as folder:
            with jax.profiler.trace(str(folder)):
                subject.epoch()
            taken = _durations(folder)
        totals = dict.fromkeys(shares, 0.0)
        for name, sort in sorts.items():
            totals[sort] += taken[name]
        for sort, total in totals.items():
            shares[sort].append(total / sum(totals.values()))
    return {
        f"{number}": Row(f"share of a step of {title}: {sort}", "%", values)
        for number, (sort, values) in enumerate(shares.items(), start=1)
    }


def _durations(folder: pathlib.Path) -> collections.Counter[str]:
    """Add up how long each operation took, in ns, by its name in the compiled program."""
    [path] = folder.rglob("*.xplane.pb")
    taken: collections.Counter[str] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                taken[event.name] += event.duration_ns
    return taken


def _sorts(network: Network, opening: int) -> dict[str, str]:
    """Tell what each operation in the loop of a chunk's updates does, by its name."""
    text = steps.compiled_chunk(network, opening).as_text()
    weights = jax.eval_shape(
        lambda: model.init_params(jax.random.key(0), network.model_config)
    ).network
    dense = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(weights)}
    bodies = {block.split(" ", 1)[0]: block for block in re.split(r"\n{2,}", text)}
    loop = max((bodies[name] for name in re.findall(r" while\(.*body=(%[\w.-]+)", text)), key=len)
    return {
        name: _sort(operation, bodies.get(called, ""), dense)
        for name, operation, called in re.findall(
            r"%([\w.-]+) = (\S+ (?:fusion|dot|copy|concatenate)\(.*?(?:calls=(%[\w.-]+)|\n))", loop
        )
    }


def _sort(operation: str, fused: str, dense: set[str]) -> str:
    """Tell what an operation does by the operations fused into it."""
    within = operation + fused
    if " dot(" in within:
        return PRODUCTS
    if re.search(r" (gather|scatter)\(", within):
        return ROWS
    shape = re.match(_SHAPE, operation)
    return DENSE if shape and shape[1] in dense else REST
