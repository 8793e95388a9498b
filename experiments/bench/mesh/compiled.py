"""Compile an update over a mesh, of which nothing is trained: what a device holds and sends.

python -m experiments.bench.mesh.compiled DEVICES ITEMS LANES

It is a process of its own, as the number of devices is fixed when jax starts: CPU devices, for
which the program is the same. The last line is a JSON object, see `Compiled`.
"""

from __future__ import annotations

import collections
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s32": 4, "u32": 4, "f32": 4, "bf16": 2}


class Compiled(NamedTuple):
    """A compiled chunk of updates; bytes are those of one device."""

    held: int  # arguments and temporary memory
    expected: int  # (tables + optimizer state) / D, and what is replicated of both
    of_update: Mapping[str, list[int]]  # by collective: the bytes of the whole array of each
    of_chunk: Mapping[str, list[int]]  # the same of those around the updates of a chunk
    chunk: int  # updates of a chunk


def sent(collective: str, size: float, n_devices: int) -> float:
    """Return the bytes that a device sends in a collective, on a ring.

    Args:
        collective: its name, one of `COLLECTIVES`.
        size: bytes of the whole array: of what a device gives to a reduce-scatter, and has of an
            all-gather.
        n_devices: D.
    """
    return size * (n_devices - 1) / n_devices * (2 if collective == "all-reduce" else 1)


def collectives(text: str, n_devices: int) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return the bytes of the arrays of each collective in a compiled program.

    Args:
        text: the program, in XLA's words.
        n_devices: D.

    Returns:
        Those in the loop over updates, and those outside.
    """
    blocks = re.finditer(r"^(?:ENTRY )?(%[\w.-]+) .*?^}", text, re.MULTILINE | re.DOTALL)
    computations = {block[1]: block[0] for block in blocks}
    bodies = set(re.findall(r" while\(.*body=(%[\w.-]+)", text))
    updates = max(bodies, key=lambda name: len(computations[name]))
    inside, outside = (collections.defaultdict[str, list[int]](list) for _ in range(2))
    names = "|".join(COLLECTIVES)
    for name, block in computations.items():
        found = inside if name == updates else outside
        # A name is that of its array, or of several: (f32[2,3]{1,0}, f32[]).
        for shapes, collective in re.findall(rf" = (.*?) ({names})(?:-start)?\(", block):
            size = sum(
                _BYTES[kind] * math.prod(map(int, filter(None, shape.split(","))))
                for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
            )
            found[collective].append(size * (n_devices if collective == "reduce-scatter" else 1))
    return dict(inside), dict(outside)


def compile_update(n_devices: int, n_items: int, n_lanes: int) -> Compiled:
    """Compile updates of HRNN Init with 100 units, TOP1 and AdaGrad over so many devices.

    The rows that are sent have as many places as items that are drawn uniformly need.
    """
    import jax
    import numpy as np

    from hrnn_jax import model
    from hrnn_jax.config import ModelConfig, TrainConfig
    from hrnn_jax.sharding import exchange, tables, training
    from hrnn_jax.training import train, user_batches

    model_config = ModelConfig(n_items, "hrnn_init", hidden_units=100)
    config = TrainConfig(batch_size=n_lanes, lane_groups=n_devices)
    setup = train.TrainSetup(model_config, config)
    mesh = tables.make_mesh(jax.devices()[:n_devices])
    state = jax.eval_shape(lambda: train.init_state(0, model_config, config))
    # Tables are padded to whole rows of every device.
    rows = n_devices * tables.n_rows(n_items, n_devices)
    specs = tables.state_specs(state, config)
    padded = jax.tree.map(
        lambda a, spec: (
            jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype) if spec == tables.BY_SHARD else a
        ),
        *(state, specs),
    )
    shape = config.chunk_steps, n_lanes
    opening = n_devices * (n_lanes // n_devices // 3)  # about as many as open in almost all steps
    rng = np.random.default_rng(0)
    steps = user_batches.Steps(
        *(rng.integers(n_items, size=shape, dtype=np.int32) for _ in range(2)),
        *(np.zeros(shape, bool) for _ in range(3)),
        *(np.zeros(shape, kind) for kind in (np.int32, np.int8)),
        opening=np.zeros((shape[0], opening), np.int32),
    )
    running = train.Running(
        padded,
        model.start_carry((n_lanes,), model_config),
        jax.ShapeDtypeStruct((rows,), np.int32),
    )
    places = exchange.count_places(steps, config.bptt_steps, n_devices, n_devices)
    program: Any = training.chunk_program(setup, mesh, places)
    place, span = np.zeros(4, np.uint32), np.zeros(2, np.int32)
    rates = train.Rates.of(model_config, config)
    done = program.lower(running, steps, place, span, rates, None).compile()
    memory = done.memory_analysis()
    parts = collections.Counter[bool]()
    for leaf, spec in zip(jax.tree.leaves(state), jax.tree.leaves(specs), strict=True):
        parts[spec == tables.BY_SHARD] += leaf.size * leaf.dtype.itemsize
    return Compiled(
        memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        parts[True] // n_devices + parts[False],
        *collectives(done.as_text(), n_devices),
        config.chunk_steps,
    )


def main() -> None:
    """Compile for the devices, items and lanes of the arguments."""
    n_devices, n_items, n_lanes = map(int, sys.argv[1:])
    os.environ["JAX_PLATFORMS"] = "cpu"
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} --xla_force_host_platform_device_count={n_devices}"
    print(json.dumps(compile_update(n_devices, n_items, n_lanes)._asdict()))


if __name__ == "__main__":
    main()
