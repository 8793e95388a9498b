"""One update, and the scan over a chunk of steps."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hrnn_jax import model, objective, row_optimizer
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives, user_past
from hrnn_jax.user_batches import Steps

_NEGATIVES = 2**32 - 1  # folded into a chunk's key for its extra negatives; updates have others


@struct.dataclass
class TrainState:
    """What an update changes."""

    params: model.Params
    opt_state: optax.OptState


def transform(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optax transform that `config` names."""
    return row_optimizer.OPTIMIZERS[config.optimizer](config.learning_rate, config.momentum)


@functools.partial(jax.jit, static_argnames=("model_config", "config"))
def init(seed: int, model_config: ModelConfig, config: TrainConfig) -> TrainState:
    """Draw the weights of one seed."""
    params: Any = model.init(jax.random.fold_in(_key(seed), 0), model_config)
    return TrainState(params=params, opt_state=transform(config).init(params))


def extend(state: TrainState, fresh: TrainState) -> TrainState:
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
        item = user_past.unroll(carry.past, steps)
        again = model.rows(items.item_out, item), model.rows(items.item_bias, item)

    def loss_of(taken: model.Params) -> tuple[jax.Array, tuple[model.Carry, jax.Array]]:
        if taken.items.item_in is not None:
            x = taken.items.item_in
        elif whole:
            x = model.rows(taken.items.item_out, inputs)
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
            past = objective.Recalled(*past, *again)
        if whole:
            lane_losses = objective.full_softmax(taken.items, hidden, steps, past, sampler)
        else:
            lane_losses = objective.sampled(
                *(taken.items, drawn.extra, hidden, steps, past, sampler), config=config
            )
        total = lane_losses.sum()
        return total / n_mean, (after, total / n_valid)

    taken = model.Params(
        network=state.params.network,
        items=model.Items(
            item_in=None if items.item_in is None else model.rows(items.item_in, inputs),
            item_out=items.item_out if whole else model.rows(items.item_out, candidates),
            item_bias=items.item_bias if whole else model.rows(items.item_bias, candidates),
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
        transform(config),
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
