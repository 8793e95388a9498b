"""Training: one update of the weights, and the scan over a chunk of updates (Section 3.2.2).

An update is the forward and backward pass of K steps of a user-parallel mini-batch, and the
optimizer's step. See epoch.py for the loop over an epoch's chunks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hrnn_jax import row_optimizer
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives, user_past
from hrnn_jax.losses import Candidates, OutputRows, full_softmax_loss, sampled_loss
from hrnn_jax.model import Carry, Items, Params, StepInputs, gather_rows, init_params, unroll
from hrnn_jax.user_batches import Steps

_NEGATIVES = 2**32 - 1  # folded into a chunk's key for its extra negatives; updates have others


@struct.dataclass
class TrainState:
    """What training changes and a checkpoint keeps."""

    params: Params
    opt_state: optax.OptState


@struct.dataclass
class TrainSetup:
    """What all updates of a run share."""

    model_config: ModelConfig = struct.field(pytree_node=False)
    config: TrainConfig = struct.field(pytree_node=False)
    sampler: negatives.Sampler | None = None  # for extra_negatives, log_q or negative_hours


class Draws(NamedTuple):
    """Random draws and the learning-rate factor of one update."""

    keys: jax.Array | None  # [K] for dropout
    extra: jax.Array  # [E] items, the extra negatives
    factor: jax.Array  # [] of the learning rate


def make_setup(log: EventLog, model_config: ModelConfig, config: TrainConfig) -> TrainSetup:
    """Combine both configs with the sampler of negatives that they need.

    Args:
        log: the training events.
        model_config: of the network.
        config: of its training.

    Returns:
        The setup, with the sampler's arrays on the device.
    """
    return TrainSetup(model_config, config, jax.device_put(negatives.make_sampler(log, config)))


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optax transform that `config` names."""
    return row_optimizer.OPTIMIZERS[config.optimizer](config.learning_rate, config.momentum)


@functools.partial(jax.jit, static_argnames=("model_config", "config"))
def init_state(seed: int, model_config: ModelConfig, config: TrainConfig) -> TrainState:
    """Draw the weights of one seed, and start its optimizer."""
    params: Any = init_params(jax.random.fold_in(_seed_key(seed), 0), model_config)
    return TrainState(params=params, opt_state=make_optimizer(config).init(params))


def extend_state(state: TrainState, fresh: TrainState) -> TrainState:
    """Add items to a trained state.

    Args:
        state: of V items.
        fresh: of V' >= V items, as `init_state` gives it.

    Returns:
        `state` with the rows of `fresh` from V on, in the tables and in the optimizer's state.
    """

    def rows(old: jax.Array, new: jax.Array) -> jax.Array:
        return old if old.shape == new.shape else jnp.concatenate([old, new[len(old) :]])

    return jax.tree.map(rows, state, fresh)


def update(
    state: TrainState,
    carry: Carry,
    place_of: jax.Array,
    steps: Steps,
    draws: Draws,
    setup: TrainSetup,
) -> tuple[TrainState, Carry, jax.Array, jax.Array]:
    """Make one update from K steps.

    Args:
        state: before the update.
        carry: the lanes' states before the first step; a constant of the gradient.
        place_of: [V] scratch memory, see `row_optimizer.list_rows`.
        steps: [K, B], and [K, W] lanes that open a session.
        draws: of this update.
        setup: of the run.

    Returns:
        The state, carry and scratch memory after the update, and the loss: the mean over the
        window's (step, lane) pairs with a target. (The gradient is of the mean over all pairs with
        `mean_over`=batch.)
    """
    config, items = setup.config, state.params.items
    inputs, targets = steps.input.reshape(-1), steps.target.reshape(-1)
    tied, whole = items.item_in is None, config.loss == "full_softmax"
    scored = jnp.concatenate([targets, draws.extra, inputs[: len(inputs) * tied]])
    n_valid = jnp.maximum(steps.valid.sum(), 1)
    n_mean = n_valid if config.mean_over == "valid" else steps.valid.size
    past = None
    if carry.past is not None and not whole:
        past = _output_rows(items, user_past.items_after_steps(carry.past, steps))
    # Gradients are taken of the rows that the update touches, not of the tables.
    values = Params(
        network=state.params.network,
        items=Items(
            item_in=None if items.item_in is None else gather_rows(items.item_in, inputs),
            item_out=items.item_out if whole else gather_rows(items.item_out, scored),
            item_bias=items.item_bias if whole else gather_rows(items.item_bias, scored),
        ),
    )

    def loss_of(values: Params) -> tuple[jax.Array, tuple[Carry, jax.Array]]:
        if values.items.item_in is not None:
            x = values.items.item_in
        elif whole:
            x = gather_rows(values.items.item_out, inputs)
        else:
            x = values.items.item_out[-len(inputs) :]
        x = x.reshape(*steps.input.shape, -1)
        after, hidden, bonus = unroll(
            values.network, carry, StepInputs(x, steps, draws.keys), config=setup.model_config
        )
        if whole:
            lane_losses = full_softmax_loss(values.items, hidden, steps, bonus, setup.sampler)
        else:
            candidates = _candidates(values.items, steps, draws.extra, past, bonus)
            lane_losses = sampled_loss(candidates, hidden, steps, setup.sampler, config=config)
        total = lane_losses.sum()
        return total / n_mean, (after, total / n_valid)

    (_, (carry, loss)), grads = jax.value_and_grad(loss_of, has_aux=True)(values)
    in_rows, out_rows = None, row_optimizer.WHOLE
    if not tied:
        in_rows, place_of = row_optimizer.list_rows(inputs, place_of)
    if not whole:  # which reaches every output row anyway
        out_rows, place_of = row_optimizer.list_rows(scored, place_of)
    rows = Params(
        network=jax.tree.map(lambda _: row_optimizer.WHOLE, state.params.network),
        items=Items(item_in=in_rows, item_out=out_rows, item_bias=out_rows),
    )
    params, opt_state = row_optimizer.apply(
        make_optimizer(config),
        state.params,
        state.opt_state,
        row_optimizer.Touched(rows=rows, values=values, grads=grads),
        where=steps.valid.any(),
        factor=draws.factor,
    )
    return TrainState(params=params, opt_state=opt_state), carry, place_of, loss


def _output_rows(items: Items, item: jax.Array) -> OutputRows:
    """Gather the rows and biases that score some items."""
    return OutputRows(item, gather_rows(items.item_out, item), gather_rows(items.item_bias, item))


def _candidates(
    gathered: Items,
    steps: Steps,
    extra: jax.Array,
    past: OutputRows | None,
    bonus: tuple[jax.Array, jax.Array] | None,
) -> Candidates:
    """Split the gathered output rows: the targets' first, then the extra negatives'."""
    shape, n_targets = steps.target.shape, steps.target.size
    own, more = (
        jax.tree.map(lambda rows, part=part: rows[part], (gathered.item_out, gathered.item_bias))
        for part in (slice(n_targets), slice(n_targets, n_targets + len(extra)))
    )
    return Candidates(
        target=OutputRows(steps.target, own[0].reshape(*shape, -1), own[1].reshape(shape)),
        extra=OutputRows(extra, *more),
        past=past,
        past_bonus=None if bonus is None else bonus[1],
    )


def train_chunk(
    state: TrainState, carry: Carry, steps: Steps, place: jax.Array, setup: TrainSetup
) -> tuple[TrainState, Carry, jax.Array]:
    """Scan `update` over a chunk of steps.

    Args:
        state: before the chunk.
        carry: before the chunk.
        steps: [T, ...], T a multiple of K.
        place: [4] the seed, epoch and chunk, whose random numbers are drawn, and the epoch's number
            of chunks.
        setup: of the run.

    Returns:
        The state and carry after the chunk, and the updates' losses [T / K].
    """
    window = setup.config.bptt_steps
    n_updates = len(steps.input) // window
    windows = jax.tree.map(lambda a: a.reshape(n_updates, window, *a.shape[1:]), steps)
    inputs = windows, _draw(place, n_updates, setup)

    def body(scanned: tuple[Any, ...], following: tuple[Any, ...]) -> tuple[Any, jax.Array]:
        state, carry, place_of, (steps, draws) = scanned
        state, carry, place_of, loss = update(state, carry, place_of, steps, draws, setup)
        return (state, carry, place_of, following), loss

    # An update hands the next one its inputs, as part of the scan's state: otherwise XLA's CPU
    # backend slices them anew, number by number, in each loop that uses them.
    first = jax.tree.map(lambda a: a[0], inputs)
    following = jax.tree.map(lambda a: jnp.roll(a, -1, axis=0), inputs)
    place_of = jnp.zeros(setup.model_config.n_items, jnp.int32)
    (state, carry, *_), step_losses = jax.lax.scan(body, (state, carry, place_of, first), following)
    return state, carry, step_losses


def _draw(place: jax.Array, n_updates: int, setup: TrainSetup) -> Draws:
    """Draw for all updates of a chunk, on a leading axis."""
    config = setup.config
    seed, epoch, chunk, n_chunks = place
    key = jax.random.fold_in(jax.random.fold_in(_seed_key(seed), 1 + epoch), chunk)
    keys = None
    if setup.model_config.has_dropout:
        keys = jax.random.split(key, (n_updates, config.bptt_steps))
    extra = jnp.zeros((n_updates, 0), jnp.int32)
    if setup.sampler is not None and config.extra_negatives:
        extra = negatives.draw(
            jax.random.fold_in(key, _NEGATIVES),
            setup.sampler,
            n_updates=n_updates,
            n_extra=config.extra_negatives,
        )
    done = (chunk + jnp.arange(n_updates) / n_updates) / jnp.maximum(n_chunks, 1)
    return Draws(keys, extra, _rate_factor(epoch + jnp.minimum(done, 1), config))


def _rate_factor(epochs: jax.Array, config: TrainConfig) -> jax.Array:
    """Return the learning rate after so many epochs, as a part of its largest."""
    length = max(1, config.schedule_epochs)
    match config.schedule:
        case "linear":
            return jnp.asarray(optax.linear_schedule(1.0, 0.0, length)(epochs))
        case "cosine":
            return jnp.asarray(optax.cosine_decay_schedule(1.0, length)(epochs))
        case _:
            return jnp.ones_like(epochs)


def _seed_key(seed: int | jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), seed)
