"""Train a network over a mesh: the same schedule, losses and result as on one device."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from hrnn_jax import network
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras.negatives import Sampler
from hrnn_jax.model import start_carry
from hrnn_jax.network import EpochResult, Network, OnChunk
from hrnn_jax.sharding.exchange import Places, count_places
from hrnn_jax.sharding.on_mesh import OnMesh
from hrnn_jax.sharding.tables import (
    BY_LANE,
    BY_SHARD,
    REPLICATED,
    n_rows,
    put_global,
    put_local,
    state_specs,
)
from hrnn_jax.training import lane_groups, user_batches
from hrnn_jax.training.epoch import EpochLosses, chunk_length, compiler_options
from hrnn_jax.training.train import (
    Rates,
    Running,
    TrainSetup,
    TrainState,
    train_chunk,
    without_rates,
)
from hrnn_jax.training.user_batches import Steps

_compiled: set[tuple[Callable[..., Any], int]] = set()  # of `chunk_program`, by lanes that open
_most_places: dict[Any, Places] = {}  # of the epochs so far, by what else a program depends on


def check(config: TrainConfig, mesh: Mesh) -> None:
    """Raise InputError unless each shard and each process of the mesh has whole lane groups."""
    if config.lane_groups % mesh.size:
        raise InputError(
            f"`lane_groups`={config.lane_groups} cannot be shared by {mesh.size} devices: "
            f"give a multiple of {mesh.size}"
        )


def own_groups(config: TrainConfig, mesh: Mesh) -> range:
    """Return the lane groups of this process."""
    check(config, mesh)
    each, here = config.lane_groups // mesh.size, jax.process_index()
    shards = [n for n, of in enumerate(mesh.devices.flat) if of.process_index == here]
    return range(each * shards[0], each * (shards[-1] + 1))


def train_epoch(
    network_: Network,
    state: TrainState,
    mesh: Mesh,
    *,
    seed: int,
    epoch: int,
    watch: Callable[[int], contextlib.AbstractContextManager[OnChunk]] = network.unwatched,
) -> EpochResult:
    """Train one seed for one epoch over a mesh; all processes must call it.

    Args:
        network_: that is trained. Its `train_log` needs the events of this process' groups alone.
        state: as `tables.put_state` returns it. It is donated.
        mesh: of `tables.make_mesh`.
        seed: of the run.
        epoch: counted from 0.
        watch: see `OneDevice.train_epoch`; it is told of the events of all processes.

    Raises:
        InputError: the lane groups are not a multiple of the devices.
        DivergedError: a loss is not finite.
    """
    started = time.perf_counter()
    setup = network_.setup
    length = chunk_length(setup.config)
    steps, counts, places = _steps(network_.train_log, setup, mesh, (seed, epoch))
    n_steps = len(counts)
    losses = EpochLosses(
        np.pad(counts, (0, -n_steps % length))[None], [seed], epoch, setup.config.bptt_steps
    )
    running = Running(state, *_fresh(setup, mesh))
    shared: Any = put_global_tree((Rates.of(setup.model_config, setup.config), setup.sampler), mesh)
    places = _at_least_as_before(places, setup, mesh)
    program, window = chunk_program(setup, mesh, places), setup.config.bptt_steps
    events, first, since = int(counts.sum()), 0, started
    width = steps.opening.shape[1]
    compiles = (program, width) not in _compiled
    _compiled.add((program, width))
    with watch(events) as on_chunk:
        pending = None
        for begin in range(0, n_steps, length):
            place = np.array([seed, epoch, begin, n_steps], np.uint32)
            # Not the updates behind the epoch's end: each sends as much as any other.
            span = np.array([0, -(-min(length, n_steps - begin) // window)], np.int32)
            chunk = user_batches.pad(steps.window(begin, begin + length), length, width)
            running, found = program(
                running,
                put_local(chunk, mesh, BY_LANE),
                *(put_global(values, mesh, REPLICATED) for values in (place, span)),
                *shared,
            )
            if pending is not None:
                told = losses.add([pending])
                if compiles and not first:
                    first, since = told[0], time.perf_counter()
                on_chunk(*told)
            pending = found
        if pending is not None:
            on_chunk(*losses.add([pending]))
    ended = time.perf_counter()
    rate = (events - first) / (ended - since) if not compiles or 0 < first < events else None
    return EpochResult(running.state, losses.means(), events, ended - started, rate)


def _at_least_as_before(places: Places, setup: TrainSetup, mesh: Mesh) -> Places:
    """Return the places of an epoch, no fewer than of those before: another number compiles anew.

    They do not change what is trained, so a run that goes on elsewhere need not know them.
    """
    key = *without_rates(setup.model_config, setup.config), mesh
    _most_places[key] = Places(*map(max, places, _most_places.get(key, places)))
    return _most_places[key]


def chunk_program(
    setup: TrainSetup, mesh: Mesh, places: Places
) -> Callable[..., tuple[Running, jax.Array]]:
    """Return the compiled function of `train_chunk` over a mesh.

    It takes `Running`, which is donated, steps [T, B], place, span, rates and sampler. The lanes of
    `opening` are counted within a shard. `places` are as many as the rows of the steps need.
    """
    return _program(*without_rates(setup.model_config, setup.config), mesh, places)


@functools.lru_cache(8)
def _program(
    model_config: ModelConfig, config: TrainConfig, mesh: Mesh, places: Places
) -> Callable[..., Any]:
    placement = OnMesh(mesh.size, model_config.n_items, places)

    def chunk(
        running: Running,
        steps: Steps,
        place: jax.Array,
        span: jax.Array,
        rates: Rates,
        sampler: Sampler | None,
    ) -> tuple[Running, jax.Array]:
        setup = TrainSetup(model_config, config, sampler, rates=rates)
        return train_chunk(running, steps, place, span, setup, placement)

    def over_mesh(running: Running, steps: Steps, *rest: Any) -> tuple[Running, jax.Array]:
        specs = Running(state_specs(running.state, config), BY_SHARD, BY_SHARD)  # pyright: ignore
        mapped = jax.shard_map(
            chunk,
            mesh=mesh,
            in_specs=(specs, BY_LANE, REPLICATED, REPLICATED, REPLICATED, REPLICATED),
            out_specs=(specs, REPLICATED),
            check_vma=False,
        )
        return mapped(running, steps, *rest)

    return jax.jit(over_mesh, donate_argnums=0, compiler_options=compiler_options())


def _fresh(setup: TrainSetup, mesh: Mesh) -> tuple[Any, jax.Array]:
    """Return the lanes' states before their first event, and scratch memory."""
    carry = start_carry((setup.config.batch_size,), setup.model_config)
    scratch = np.zeros(mesh.size * n_rows(setup.model_config.n_items, mesh.size), np.int32)
    carry = jax.tree.map(lambda a: put_global(a, mesh, BY_SHARD), carry)
    return carry, put_global(scratch, mesh, BY_SHARD)


def put_global_tree(values: Any, mesh: Mesh) -> Any:
    """Put arrays on all shards as they are."""
    return jax.tree.map(lambda a: put_global(np.asarray(a), mesh, REPLICATED), values)


def _steps(
    log: EventLog, setup: TrainSetup, mesh: Mesh, draw: tuple[int, int]
) -> tuple[Steps, np.ndarray, Places]:
    """Lay out an epoch of this process' lanes.

    Returns:
        The steps, whose `opening` has the same W of each shard, one shard after the other; the
        events with a target that all processes have at each step; and the places of the rows sent.
    """
    config, groups = setup.config, own_groups(setup.config, mesh)
    steps = lane_groups.build(log, setup.model_config, config, groups=groups, draw=draw).steps
    n_shards = len(groups) * mesh.size // config.lane_groups
    width, n_steps = _most(opening_width(steps, n_shards), len(steps.input))
    joined = by_shard(steps, n_shards, n_steps, width)
    window = config.bptt_steps
    whole = user_batches.pad(joined, n_steps + -n_steps % window, joined.opening.shape[1])
    places = count_places(whole, window, mesh.size, n_shards, _sum)
    inputs, targets = _most(*places)
    return joined, _sum(joined.valid.sum(axis=1)), Places(inputs, targets)


def opening_width(steps: Steps, n_shards: int) -> int:
    """Return W of the shard of which most lanes open a session at a step, see `by_shard`."""
    opens = np.split(steps.opens, n_shards, axis=1)
    return max(user_batches.opening_lanes(of_shard).shape[1] for of_shard in opens)


def by_shard(steps: Steps, n_shards: int, n_steps: int, width: int) -> Steps:
    """Count the lanes of `opening` within shards that have as many lanes each.

    Args:
        steps: of all lanes of the shards.
        n_shards: how many.
        n_steps: to pad to.
        width: W of each shard.

    Returns:
        The steps, `opening` one shard after the other.
    """
    each = steps.input.shape[1] // n_shards
    opens = np.split(steps.opens, n_shards, axis=1)
    parts = [
        user_batches.pad(
            Steps(*(a[:, n * each : (n + 1) * each] for a in steps))._replace(
                opening=user_batches.opening_lanes(of_shard)
            ),
            n_steps,
            width,
        )
        for n, of_shard in enumerate(opens)
    ]
    return Steps(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def _most(*numbers: int) -> Sequence[int]:
    """Return the largest that any process has, of each number."""
    if jax.process_count() == 1:
        return numbers
    return multihost_utils.process_allgather(np.array(numbers)).max(axis=0).tolist()


def _sum(counts: np.ndarray) -> np.ndarray:
    """Add up the counts of all processes."""
    if jax.process_count() == 1:
        return counts
    return multihost_utils.process_allgather(counts).sum(axis=0)
