"""One update, and the scan over a chunk of steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from hrnn_jax import errors, losses, model, row_optimizer, user_batches
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives, user_past
from hrnn_jax.user_batches import Schedule, Steps

_NEGATIVES = 2**32 - 1  # folded into a chunk's key for its extra negatives; updates have others


@struct.dataclass
class TrainState:
    """What an update changes."""

    params: model.Params
    opt_state: optax.OptState


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optax transform that `config` names."""
    return row_optimizer.OPTIMIZERS[config.optimizer](config.learning_rate, config.momentum)


@functools.partial(jax.jit, static_argnames=("model_config", "config"))
def init_state(seed: int, model_config: ModelConfig, config: TrainConfig) -> TrainState:
    """Draw the weights of one seed."""
    params: Any = model.init_params(jax.random.fold_in(_key(seed), 0), model_config)
    return TrainState(params=params, opt_state=make_optimizer(config).init(params))


def extend_state(state: TrainState, fresh: TrainState) -> TrainState:
    """Go on from `state` with more items: rows that only `fresh` has, of tables and optimizer."""

    def rows(old: jax.Array, new: jax.Array) -> jax.Array:
        return old if old.shape == new.shape else jnp.concatenate([old, new[len(old) :]])

    return jax.tree.map(rows, state, fresh)


def sampler(log: EventLog, config: TrainConfig) -> negatives.Sampler | None:
    """Return what tells of the items as negatives, on the device; None where nothing asks.

    log: of training events.
    """
    if not (config.extra_negatives or config.log_q or config.negative_hours):
        return None
    return jax.device_put(
        negatives.sampler(
            log.support,
            n_extra=config.extra_negatives,
            alpha=config.negative_alpha,
            batch_size=config.batch_size,
            offer=negatives.offer(log, config.negative_hours) if config.negative_hours else None,
        )
    )


class Drawn(NamedTuple):
    """What chance and the clock give an update."""

    keys: jax.Array | None  # [K] for dropout
    extra: jax.Array  # [E] items
    factor: jax.Array  # [] of the learning rate


def update(
    state: TrainState,
    carry: model.Carry,
    place_of: jax.Array,
    steps: Steps,
    drawn: Drawn,
    sampler: negatives.Sampler | None,
    *,
    model_config: ModelConfig,
    config: TrainConfig,
) -> tuple[TrainState, model.Carry, jax.Array, jax.Array]:
    """Make one update from K steps, [K, B] and [K, W]; the carry that enters is a constant.

    place_of: [V], see `optimizer.touched`. Returns state, carry, `place_of` and the loss: the mean
    over the window's valid (step, lane) pairs.
    """
    items = state.params.items
    inputs = steps.input.reshape(-1)
    targets = steps.target.reshape(-1)
    tied, whole = items.item_in is None, config.loss == "full_softmax"
    candidates = jnp.concatenate([targets, drawn.extra, inputs[: len(inputs) * tied]])
    n_valid = jnp.maximum(steps.valid.sum(), 1)
    n_mean = n_valid if config.mean_over == "valid" else steps.valid.size
    again = ()
    if carry.past is not None and not whole:
        item = user_past.items_after_steps(carry.past, steps)
        again = model.gather_rows(items.item_out, item), model.gather_rows(items.item_bias, item)

    def loss_of(taken: model.Params) -> tuple[jax.Array, tuple[model.Carry, jax.Array]]:
        if taken.items.item_in is not None:
            x = taken.items.item_in
        elif whole:
            x = model.gather_rows(taken.items.item_out, inputs)
        else:
            x = taken.items.item_out[-len(inputs) :]
        after, hidden, past = model.unroll(
            taken.network,
            carry,
            x.reshape(*steps.input.shape, -1),
            steps,
            drawn.keys,
            config=model_config,
        )
        if past is not None:
            past = losses.Recalled(*past, *again)
        if whole:
            lane_losses = losses.among_all(taken.items, hidden, steps, past, sampler)
        else:
            lane_losses = losses.among_candidates(
                *(taken.items, drawn.extra, hidden, steps, past, sampler), config=config
            )
        total = lane_losses.sum()
        return total / n_mean, (after, total / n_valid)

    taken = model.Params(
        network=state.params.network,
        items=model.Items(
            item_in=None if items.item_in is None else model.gather_rows(items.item_in, inputs),
            item_out=items.item_out if whole else model.gather_rows(items.item_out, candidates),
            item_bias=items.item_bias if whole else model.gather_rows(items.item_bias, candidates),
        ),
    )
    (_, (carry, loss)), grads = jax.value_and_grad(loss_of, has_aux=True)(taken)
    in_rows, out_rows = None, row_optimizer.WHOLE
    if not tied:
        in_rows, place_of = row_optimizer.touched(inputs, place_of)
    if not whole:  # which reaches every output row anyway
        out_rows, place_of = row_optimizer.touched(candidates, place_of)
    rows = model.Params(
        network=jax.tree.map(lambda _: row_optimizer.WHOLE, state.params.network),
        items=model.Items(item_in=in_rows, item_out=out_rows, item_bias=out_rows),
    )
    params, opt_state = row_optimizer.apply(
        make_optimizer(config),
        state.params,
        state.opt_state,
        grads,
        rows,
        taken,
        where=steps.valid.any(),
        factor=drawn.factor,
    )
    return TrainState(params=params, opt_state=opt_state), carry, place_of, loss


def train_chunk(
    state: TrainState,
    carry: model.Carry,
    steps: Steps,
    place: jax.Array,
    sampler: negatives.Sampler | None = None,
    *,
    model_config: ModelConfig,
    config: TrainConfig,
) -> tuple[TrainState, model.Carry, jax.Array]:
    """Scan updates over a chunk of steps [T, ...], T a multiple of K; returns losses [T / K].

    place: [4] seed, epoch, chunk, whose dropout masks are drawn, and the epoch's number of chunks.
    """
    n_updates = len(steps.input) // config.bptt_steps
    windows = jax.tree.map(lambda a: a.reshape(n_updates, config.bptt_steps, *a.shape[1:]), steps)
    drawn = _draw(place, sampler, n_updates, model_config=model_config, config=config)

    def body(train: tuple, following: tuple) -> tuple[tuple, jax.Array]:
        state, carry, place_of, (steps, drawn) = train
        state, carry, place_of, loss = update(
            *(state, carry, place_of, steps, drawn, sampler),
            model_config=model_config,
            config=config,
        )
        return (state, carry, place_of, following), loss

    # An update hands the next one its inputs, as part of the scan's state: otherwise XLA's CPU
    # backend slices them anew, number by number, in each loop that uses them.
    inputs = (windows, drawn)
    first = jax.tree.map(lambda a: a[0], inputs)
    following = jax.tree.map(lambda a: jnp.roll(a, -1, axis=0), inputs)
    place_of = jnp.zeros(model_config.n_items, jnp.int32)
    (state, carry, *_), step_losses = jax.lax.scan(body, (state, carry, place_of, first), following)
    return state, carry, step_losses


def _draw(
    place: jax.Array,
    sampler: negatives.Sampler | None,
    n_updates: int,
    *,
    model_config: ModelConfig,
    config: TrainConfig,
) -> Drawn:
    """Draw for all updates of a chunk, on a leading axis."""
    seed, epoch, chunk, n_chunks = place
    key = jax.random.fold_in(jax.random.fold_in(_key(seed), 1 + epoch), chunk)
    keys = None
    if model_config.has_dropout:
        keys = jax.random.split(key, (n_updates, config.bptt_steps))
    extra = jnp.zeros((n_updates, 0), jnp.int32)
    if sampler is not None and config.extra_negatives:
        key = jax.random.fold_in(key, _NEGATIVES)
        extra = negatives.draw(key, sampler, n_updates=n_updates, n_extra=config.extra_negatives)
    done = (chunk + jnp.arange(n_updates) / n_updates) / jnp.maximum(n_chunks, 1)
    return Drawn(keys, extra, _factor(epoch + jnp.minimum(done, 1), config))


def _factor(epochs: jax.Array, config: TrainConfig) -> jax.Array:
    """Return the learning rate after so many epochs, in parts of its largest."""
    left = 1 - jnp.minimum(epochs / max(1, config.schedule_epochs), 1)
    match config.schedule:
        case "linear":
            factor = left
        case "cosine":
            factor = (1 - jnp.cos(jnp.pi * left)) / 2
        case _:
            factor = jnp.ones_like(epochs)
    return factor


def _key(seed: int | jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), seed)


# The first saves copying each dense weight and its optimizer state in every step, the second uses
# all of AVX-512 where there is one.
_CPU_OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,
    "xla_cpu_prefer_vector_width": "512",
}

# An epoch lies on the device in slabs of so many chunks: its length, which differs by epoch, is
# then no part of the compiled program's shapes, and what the last slab holds in vain is little.
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
def compiled_chunk(model_config: ModelConfig, config: TrainConfig, *, stacked: bool) -> Callable:
    """Jit `training.train_chunk` on one chunk of a slab; `stacked` gives all a leading axis S.

    Takes state, carry, the slab, the chunk's place and the sampler, which all seeds share, and
    returns state, carry, the place of the next chunk and the losses. All but the slab and the
    sampler is donated.
    """
    train = functools.partial(train_chunk, model_config=model_config, config=config)
    train = jax.vmap(train, in_axes=(0, 0, 0, 0, None)) if stacked else train
    time_axis, length = int(stacked), _chunk_length(config)

    def chunk(
        state: TrainState,
        carry: model.Carry,
        slab: Steps,
        place: jax.Array,
        sampler: negatives.Sampler | None = None,
    ) -> tuple[TrainState, model.Carry, jax.Array, jax.Array]:
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
    state: TrainState,
    schedules: Sequence[Schedule],
    *,
    seeds: Sequence[int],
    epoch: int,
    model_config: ModelConfig,
    config: TrainConfig,
    sampler: negatives.Sampler | None = None,
    on_chunk: Callable[[int, float], None] = lambda events, loss: None,
) -> tuple[TrainState, np.ndarray]:
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
    function = compiled_chunk(model_config, config, stacked=stacked)
    slabs = _slabs(schedules, SLAB_CHUNKS * length)
    shape = (len(seeds), config.batch_size) if stacked else (config.batch_size,)
    carry = jax.device_put(model.start_carry(shape, model_config))
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
