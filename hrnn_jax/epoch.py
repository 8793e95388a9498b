"""An epoch of training: its schedule, the compiled chunks of its steps, and the axis of seeds.

All chunks of all epochs run one compiled program, of one seed or of several next to each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import errors, user_batches
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives
from hrnn_jax.model import Carry, start_carry
from hrnn_jax.train import TrainSetup, TrainState, train_chunk
from hrnn_jax.user_batches import Schedule, Steps

# The first saves copying each dense weight and its optimizer state in every step, the second uses
# all of AVX-512 where there is one.
_CPU_OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,
    "xla_cpu_prefer_vector_width": "512",
}

# Chunks of a slab, the part of an epoch that is one array on the device. The epoch's length, which
# differs by epoch, is then not part of a compiled program's shapes, and the last slab has little
# padding.
SLAB_CHUNKS = 8


def epoch_schedule(
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
def compiled_chunk(
    model_config: ModelConfig, config: TrainConfig, *, stacked: bool
) -> Callable[..., tuple[TrainState, Carry, jax.Array, jax.Array]]:
    """Jit `train_chunk` on one chunk of a slab.

    Args:
        model_config: of the network.
        config: of its training.
        stacked: whether all arguments but the sampler have a leading axis S of seeds.

    Returns:
        A function of state, carry, the slab of `SLAB_CHUNKS` chunks of steps, the chunk's place and
        the sampler. It returns state, carry, the place of the next chunk and the losses. All
        arguments but the slab and the sampler are donated.
    """
    time_axis, length = int(stacked), _chunk_length(config)

    def train(
        state: TrainState,
        carry: Carry,
        steps: Steps,
        place: jax.Array,
        sampler: negatives.Sampler | None,
    ) -> tuple[TrainState, Carry, jax.Array]:
        return train_chunk(state, carry, steps, place, TrainSetup(model_config, config, sampler))

    if stacked:
        train = jax.vmap(train, in_axes=(0, 0, 0, 0, None))

    def chunk(
        state: TrainState,
        carry: Carry,
        slab: Steps,
        place: jax.Array,
        sampler: negatives.Sampler | None = None,
    ) -> tuple[TrainState, Carry, jax.Array, jax.Array]:
        number = place.reshape(-1, 4)[0, 2].astype(jnp.int32)  # all seeds are at the same chunk
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
    """Return the steps of a chunk: as many whole windows as fit, at least one."""
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
    config, model_config = setup.config, setup.model_config
    stacked = len(seeds) > 1
    length = _chunk_length(config)
    chunks = [-(-len(schedule.event) // length) for schedule in schedules]
    losses = _EpochLosses(schedules, seeds, epoch, max(chunks) * length, config.bptt_steps)

    # From here on the device has all that it needs: only losses move, from it.
    function = compiled_chunk(model_config, config, stacked=stacked)
    slabs = _slabs(schedules, SLAB_CHUNKS * length)
    shape = (len(seeds), config.batch_size) if stacked else (config.batch_size,)
    carry = jax.device_put(start_carry(shape, model_config))
    place = np.array(
        [(seed, epoch, 0, n) for seed, n in zip(seeds, chunks, strict=True)], np.uint32
    )
    place = jax.device_put(place if stacked else place[0])
    pending: jax.Array | None = None
    for chunk in range(max(chunks)):
        slab = slabs[chunk // SLAB_CHUNKS]
        state, carry, place, chunk_losses = function(state, carry, slab, place, setup.sampler)
        if pending is not None:
            on_chunk(*losses.add(pending))
        pending = chunk_losses
    if pending is not None:
        on_chunk(*losses.add(pending))
    return state, losses.means()


class _EpochLosses:
    """Add up the losses of an epoch's chunks, as means over the events with a target."""

    def __init__(
        self,
        schedules: Sequence[Schedule],
        seeds: Sequence[int],
        epoch: int,
        n_steps: int,
        window: int,
    ):
        self._seeds, self._epoch, self._window = seeds, epoch, window
        events = np.zeros((len(seeds), n_steps), np.int64)
        for row, schedule in zip(events, schedules, strict=True):
            row[: len(schedule.event)] = np.count_nonzero(schedule.steps.valid, axis=1)
        self._events = events.reshape(len(seeds), -1, window).sum(axis=2)  # [S, updates]
        self._totals = np.zeros(len(seeds))
        self._n_updates = 0  # so far

    def add(self, losses: jax.Array) -> tuple[int, float]:
        """Add the losses of the next chunk; return its events and their mean loss."""
        values = np.asarray(jax.device_get(losses), np.float64).reshape(len(self._seeds), -1)
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
