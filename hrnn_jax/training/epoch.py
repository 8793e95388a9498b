"""An epoch of training: its schedule, the compiled chunks of its steps, and the axis of seeds.

All epochs run the same few compiled programs, one for each width (lane_widths.py), of one seed or
of several next to each other.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hrnn_jax import errors
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives
from hrnn_jax.model import Carry, start_carry
from hrnn_jax.training import lane_groups, lane_widths, user_batches
from hrnn_jax.training.lane_widths import Part, Width
from hrnn_jax.training.train import (
    Rates,
    Running,
    TrainSetup,
    TrainState,
    train_chunk,
    without_rates,
)
from hrnn_jax.training.user_batches import Array, Schedule, Steps

# The first saves copying each dense weight and its optimizer state in every step, the second uses
# all of AVX-512 where there is one.
_CPU_OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,
    "xla_cpu_prefer_vector_width": "512",
}

_KEPT_PROGRAMS = 32  # some MB each; an epoch has up to ten
# Programs are compiled while the ones before them run.
_compilers = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="compile")
_unfinished: set[concurrent.futures.Future[jax.stages.Compiled]] = set()


def epoch_schedule(
    log: EventLog, model_config: ModelConfig, config: TrainConfig, *, seed: int, epoch: int
) -> Schedule:
    """Lay out one epoch of the training events, users in the order of (seed, epoch)."""
    if config.lane_groups > 1:
        groups = range(config.lane_groups)
        return lane_groups.build(log, model_config, config, groups=groups, draw=(seed, epoch))
    return user_batches.build(
        user_batches.layout(log, model_config.variant),
        config.batch_size,
        rng=np.random.default_rng((seed, epoch)),
        feed_last_item=model_config.feed_last_item,
    )


def compiler_options() -> dict[str, bool | str] | None:
    """Return the options with which programs of training are compiled, None for the defaults."""
    return _CPU_OPTIONS if jax.default_backend() == "cpu" else None


def chunk_function(
    model_config: ModelConfig, config: TrainConfig, width: Width, *, stacked: bool
) -> Callable[..., tuple[Running, jax.Array]]:
    """Jit `train_chunk` for the first lanes of the steps.

    Args:
        model_config: of the network.
        config: of its training.
        width: how many lanes are computed; the others have no user.
        stacked: whether state, steps and place have a leading axis S of seeds.

    Returns:
        A function of `Running`, which is donated, steps [T, B], place, span, rates and sampler. It
        returns what `train_chunk` does.
    """

    def chunk(
        running: Running,
        steps: Steps,
        place: jax.Array,
        span: jax.Array,
        rates: Rates,
        sampler: negatives.Sampler | None,
    ) -> tuple[Running, jax.Array]:
        whole = running.carry
        first = jax.tree.map(lambda a: a[: width.lanes], whole)
        opening = steps.opening[:, : width.opening]
        steps = Steps(*(a[:, : width.lanes] for a in steps))._replace(opening=opening)
        setup = TrainSetup(model_config, config, sampler, rates=rates)
        running, losses = train_chunk(
            dataclasses.replace(running, carry=first), steps, place, span, setup
        )
        carry = jax.tree.map(lambda a, new: a.at[: width.lanes].set(new), whole, running.carry)
        return dataclasses.replace(running, carry=carry), losses

    return jax.jit(
        jax.vmap(chunk, in_axes=(0, 0, 0, None, None, None)) if stacked else chunk,
        donate_argnums=0,
        compiler_options=compiler_options(),
    )


@functools.lru_cache(_KEPT_PROGRAMS)
def _program(
    model_config: ModelConfig,
    config: TrainConfig,
    width: Width,
    structure: Any,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    *,
    stacked: bool,
) -> concurrent.futures.Future[jax.stages.Compiled]:
    """Begin to compile `chunk_function` for arguments of a structure and shapes."""

    def compile_it() -> jax.stages.Compiled:
        function: Any = chunk_function(model_config, config, width, stacked=stacked)
        return function.lower(*jax.tree.unflatten(structure, shapes)).compile()

    program = _compilers.submit(compile_it)
    _unfinished.add(program)
    program.add_done_callback(_unfinished.discard)
    return program


def n_programs() -> int:
    """Return how many programs this process has begun to compile."""
    return _program.cache_info().misses


def is_compiling() -> bool:
    """Say whether a program is being compiled, or waits for that."""
    return bool(_unfinished)


def _programs(
    widths: Sequence[Width], arguments: tuple[Any, ...], setup: TrainSetup, *, stacked: bool
) -> dict[Width, concurrent.futures.Future[jax.stages.Compiled]]:
    """Begin to compile the program of each width, in this order, unless it is there."""
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    configs = without_rates(setup.model_config, setup.config)
    return {
        width: _program(*configs, width, structure, shapes, stacked=stacked) for width in widths
    }


def chunk_length(config: TrainConfig) -> int:
    """Return the steps of a chunk: as many whole windows as fit, at least one."""
    return max(1, config.chunk_steps // config.bptt_steps) * config.bptt_steps


class _Inputs(NamedTuple):
    """What an epoch reads, chunk by chunk."""

    carry: Carry
    scratch: Array  # [V], see `Running`
    chunks: list[Steps]
    places: list[Array]  # [4] each, see `train_chunk`
    spans: list[list[Array]]  # [2] of each part of a chunk
    rates: Rates


def _inputs(
    schedules: Sequence[Schedule],
    setup: TrainSetup,
    plan: Sequence[Sequence[Part]],
    *,
    seeds: Sequence[int],
    epoch: int,
) -> _Inputs:
    """Collect what an epoch reads. With S > 1 seeds, seeds are the first axis, like the state's."""
    length, n_seeds = chunk_length(setup.config), len(seeds)
    batch_size = schedules[0].event.shape[1]
    # The shapes of all epochs must be the same, whichever widths they have.
    width = lane_widths.whole_width(schedules).opening

    def by_seed(parts: list[Any]) -> Any:
        return jax.tree.map(lambda *a: np.stack(a), *parts) if len(parts) > 1 else parts[0]

    chunks, places = [], []
    for first in range(0, len(plan) * length, length):
        windows = [schedule.steps.window(first, first + length) for schedule in schedules]
        chunks.append(by_seed([user_batches.pad(window, length, width) for window in windows]))
        rows = [
            np.array([seed, epoch, first, len(schedule.event)], np.uint32)
            for seed, schedule in zip(seeds, schedules, strict=True)
        ]
        places.append(by_seed(rows))
    return _Inputs(
        carry=start_carry((n_seeds, batch_size)[n_seeds == 1 :], setup.model_config),
        scratch=np.zeros((n_seeds, setup.model_config.n_items)[n_seeds == 1 :], np.int32),
        chunks=chunks,
        places=places,
        spans=[[np.array([part.begin, part.end], np.int32) for part in parts] for parts in plan],
        rates=Rates.of(setup.model_config, setup.config),
    )


def run_epoch(
    state: TrainState,
    schedules: Sequence[Schedule],
    setup: TrainSetup,
    *,
    seeds: Sequence[int],
    epoch: int,
    on_chunk: Callable[[int, float], None] = lambda events, loss: None,
) -> tuple[TrainState, np.ndarray]:
    """Train one epoch of one seed, or of S seeds next to each other.

    Args:
        state: of the one seed, or of S > 1, stacked on a leading axis. It is donated.
        schedules: S of them, each seed's epoch.
        setup: of the run, which all seeds share.
        seeds: S of them.
        epoch: counted from 0.
        on_chunk: called with the events trained in a chunk and their mean loss, when the next chunk
            has been started, so that the device never waits for the host.

    Returns:
        The state, and each seed's mean loss [S].

    Raises:
        DivergedError: a loss is not finite; names the seed, the epoch (counted from 1) and the
            step.
    """
    config = setup.config
    stacked, length = len(seeds) > 1, chunk_length(config)
    updates = length // config.bptt_steps
    plan = lane_widths.plan(schedules, setup.widths, config.bptt_steps, updates)
    # In the order of their use; and those that a later epoch will use.
    used = [part.width for parts in plan for part in parts]
    widths = list(dict.fromkeys([*used, *setup.widths, lane_widths.whole_width(schedules)]))
    events = count_events(schedules, len(plan) * length)
    losses = EpochLosses(events, seeds, epoch, config.bptt_steps)
    if not plan:
        return state, losses.means()

    # From here on the device has all that it needs: only losses move, from it.
    device = jax.device_put(_inputs(schedules, setup, plan, seeds=seeds, epoch=epoch))
    running = Running(state, device.carry, device.scratch)
    arguments = (
        running,
        device.chunks[0],
        device.places[0],
        device.spans[0][0],
        device.rates,
        setup.sampler,
    )
    programs = _programs(widths, arguments, setup, stacked=stacked)
    pending: list[jax.Array] = []
    try:
        for chunk, parts in enumerate(plan):
            chunk_losses = []
            for part, span in zip(parts, device.spans[chunk], strict=True):
                running, part_losses = programs[part.width].result()(
                    running,
                    device.chunks[chunk],
                    device.places[chunk],
                    span,
                    device.rates,
                    setup.sampler,
                )
                chunk_losses.append(part_losses)
            if pending:
                on_chunk(*losses.add(pending))
            pending = chunk_losses
    except BaseException:  # an interrupted process must not go on compiling before it ends
        cancelled = [program.cancel() for program in programs.values()]
        if any(cancelled):
            _program.cache_clear()
        raise
    if pending:
        on_chunk(*losses.add(pending))
    return running.state, losses.means()


def count_events(schedules: Sequence[Schedule], n_steps: int) -> np.ndarray:
    """Count the events with a target at each of an epoch's steps: [S, n_steps]."""
    events = np.zeros((len(schedules), n_steps), np.int64)
    for row, schedule in zip(events, schedules, strict=True):
        row[: len(schedule.event)] = np.count_nonzero(schedule.steps.valid, axis=1)
    return events


class EpochLosses:
    """Add up the losses of an epoch's chunks, as means over the events with a target."""

    def __init__(self, events: np.ndarray, seeds: Sequence[int], epoch: int, window: int):
        """Begin an epoch: `events` [S, T] of `count_events`, `window` steps of an update."""
        self._seeds, self._epoch, self._window = seeds, epoch, window
        self._events = events.reshape(len(seeds), -1, window).sum(axis=2)  # [S, updates]
        self._totals = np.zeros(len(seeds))
        self._n_updates = 0  # so far

    def add(self, losses: Sequence[jax.Array]) -> tuple[int, float]:
        """Add the losses of the next chunk's parts; return its events and their mean loss."""
        # Each part has 0 for the updates of the others.
        values = sum(np.asarray(part, np.float64) for part in jax.device_get(losses))
        values = np.reshape(values, (len(self._seeds), -1))
        begin, self._n_updates = self._n_updates, self._n_updates + values.shape[1]
        if not np.isfinite(values).all():
            row, update = np.argwhere(~np.isfinite(values))[0]
            raise errors.DivergedError(
                f"the loss of seed {self._seeds[row]} is {values[row, update]} "
                f"in epoch {self._epoch + 1} at step {(begin + update) * self._window}"
            )
        events = self._events[:, begin : self._n_updates]
        sums = (values * events).sum(axis=1)
        self._totals += sums
        return int(events.sum()), sums.sum() / max(1, events.sum())

    def means(self) -> np.ndarray:
        """Return each seed's mean loss, [S]."""
        return self._totals / np.maximum(self._events.sum(axis=1), 1)
