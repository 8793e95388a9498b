"""The loop over an epoch: its layout, the compiled chunks of its steps, and the axis of seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import errors, model, user_batches
from hrnn_jax import train as train_lib
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives
from hrnn_jax.user_batches import Schedule, Steps

# The first saves copying each dense weight and its optimizer state in every step, the second uses
# all of AVX-512 where there is one.
_CPU_OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,
    "xla_cpu_prefer_vector_width": "512",
}

# An epoch lies on the device in slabs of so many chunks: its length, which differs by epoch, is
# then no part of the compiled program's shapes, and what the last slab holds in vain is little.
SLAB_CHUNKS = 8


def schedule(
    log: EventLog, model_config: ModelConfig, config: TrainConfig, *, seed: int, epoch: int
) -> Schedule:
    """Lay out one epoch of the training events, users in the order of (seed, epoch)."""
    return user_batches.build(
        user_batches.layout(log, model_config.variant),
        config.batch_size,
        rng=np.random.default_rng((seed, epoch)),
        feed_last_item=model_config.feed_last_item,
    )


@functools.cache
def compiled(model_config: ModelConfig, config: TrainConfig, *, stacked: bool) -> Callable:
    """Jit `training.train_chunk` on one chunk of a slab; `stacked` gives all a leading axis S.

    Takes state, carry, the slab, the chunk's place and the sampler, which all seeds share, and
    returns state, carry, the place of the next chunk and the losses. All but the slab and the
    sampler is donated.
    """
    train = functools.partial(train_lib.train_chunk, model_config=model_config, config=config)
    train = jax.vmap(train, in_axes=(0, 0, 0, 0, None)) if stacked else train
    time_axis, length = int(stacked), _chunk_length(config)

    def chunk(
        state: train_lib.TrainState,
        carry: model.Carry,
        slab: Steps,
        place: jax.Array,
        sampler: negatives.Sampler | None = None,
    ) -> tuple[train_lib.TrainState, model.Carry, jax.Array, jax.Array]:
        # The seeds are at the same chunk.
        number = place.reshape(-1, 4)[0, 2].astype(jnp.int32)
        begin = number % (slab.input.shape[time_axis] // length) * length
        steps = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, begin, length, time_axis), slab
        )
        state, carry, step_losses = train(state, carry, steps, place, sampler)
        return state, carry, place.at[..., 2].add(1), step_losses

    return jax.jit(
        chunk,
        donate_argnums=(0, 1, 3),
        compiler_options=_CPU_OPTIONS if jax.default_backend() == "cpu" else None,
    )


def _chunk_length(config: TrainConfig) -> int:
    """Return the steps of a chunk: as many as may be in whole windows, at least one."""
    return max(1, config.chunk_steps // config.bptt_steps) * config.bptt_steps


def _slabs(schedules: Sequence[Schedule], length: int) -> list[Steps]:
    """Put the steps of an epoch on the device, in slabs of `length`; S > 1 of them stacked."""
    n_steps = max(len(schedule.event) for schedule in schedules)
    width = max(schedule.steps.opening.shape[1] for schedule in schedules)
    slabs = []
    for begin in range(0, n_steps, length):
        parts = [
            user_batches.pad(schedule.steps.window(begin, begin + length), length, width)
            for schedule in schedules
        ]
        # Seeds first, like the state; one seed alone has no such axis.
        slab = Steps(*map(np.stack, zip(*parts, strict=True))) if len(parts) > 1 else parts[0]
        slabs.append(jax.device_put(slab))
    return slabs


def run_epoch(
    state: train_lib.TrainState,
    schedules: Sequence[Schedule],
    *,
    seeds: Sequence[int],
    epoch: int,
    model_config: ModelConfig,
    config: TrainConfig,
    sampler: negatives.Sampler | None = None,
    on_chunk: Callable[[int, float], None] = lambda events, loss: None,
) -> tuple[train_lib.TrainState, np.ndarray]:
    """Train one epoch of one seed, or of several side by side; `state` is donated.

    state: of the one seed, or of several, stacked on a leading axis S. schedules: one a seed.
    sampler: see `training.sampler`, for configs with extra negatives, log_q or negative_hours.
    on_chunk: told the events trained in a chunk and their mean loss, a chunk late, so that the
    device never waits for the host. Returns the state and each seed's mean loss [S]. Raises
    errors.DivergedError, naming seed, epoch (counted from 1) and step.
    """
    stacked = len(seeds) > 1
    length = _chunk_length(config)
    n_chunks = -(-max(len(schedule.event) for schedule in schedules) // length)
    targets = np.zeros((len(seeds), n_chunks * length), np.int64)
    for row, schedule in zip(targets, schedules, strict=True):
        row[: len(schedule.event)] = np.count_nonzero(schedule.steps.valid, axis=1)
    targets = targets.reshape(len(seeds), -1, config.bptt_steps).sum(axis=2)  # [S, updates]

    # From here on the device has all that it needs: only losses move, from it.
    function = compiled(model_config, config, stacked=stacked)
    slabs = _slabs(schedules, SLAB_CHUNKS * length)
    shape = (len(seeds), config.batch_size) if stacked else (config.batch_size,)
    carry = jax.device_put(model.start(shape, model_config))
    chunks = [-(-len(schedule.event) // length) for schedule in schedules]
    place = np.array(
        [(seed, epoch, 0, n) for seed, n in zip(seeds, chunks, strict=True)], np.uint32
    )
    place = jax.device_put(place if stacked else place[0])
    totals = np.zeros(len(seeds))

    def report(chunk: int, losses_: jax.Array) -> None:
        values = np.asarray(jax.device_get(losses_), np.float64).reshape(len(seeds), -1)
        if not np.isfinite(values).all():
            which, update = np.argwhere(~np.isfinite(values))[0]
            step = chunk * length + update * config.bptt_steps
            raise errors.DivergedError(
                f"the loss of seed {seeds[which]} is {values[which, update]} "
                f"in epoch {epoch + 1} at step {step}"
            )
        weights = targets[:, chunk * values.shape[1] : (chunk + 1) * values.shape[1]]
        sums = (values * weights).sum(axis=1)
        totals[:] += sums
        on_chunk(int(weights.sum()), sums.sum() / max(1, weights.sum()))

    pending: jax.Array | None = None
    for chunk in range(n_chunks):
        slab = slabs[chunk // SLAB_CHUNKS]
        state, carry, place, losses_ = function(state, carry, slab, place, sampler)
        if pending is not None:
            report(chunk - 1, pending)
        pending = losses_
    if pending is not None:
        report(n_chunks - 1, pending)
    return state, totals / np.maximum(targets.sum(axis=1), 1)
