"""Training: one update of the weights, and the scan over a chunk of updates (Section 3.2.2).

An update is the forward and backward pass of K steps of a user-parallel mini-batch, and the
optimizer's step. See epoch.py for the loop over an epoch's chunks.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from hrnn_jax.config import SAMPLED_LOSSES, ModelConfig, TrainConfig
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import negatives
from hrnn_jax.losses import sampled_loss
from hrnn_jax.model import (
    Carry,
    DropoutRates,
    Items,
    Params,
    StepInputs,
    gather_rows,
    init_params,
    unroll,
)
from hrnn_jax.precision import check_precision
from hrnn_jax.training import lane_widths, row_optimizer, user_batches
from hrnn_jax.training.lane_widths import Width
from hrnn_jax.training.placement import ONE_DEVICE, Lanes, OneDevice
from hrnn_jax.training.user_batches import Array, Steps

_NEGATIVES = 1  # folded into the key of an update's first step for its extra negatives


@struct.dataclass
class TrainState:
    """What training changes and a checkpoint keeps."""

    params: Params
    opt_state: optax.OptState


@struct.dataclass
class Rates:
    """Numbers of the configs that a compiled program reads when it runs, [] each."""

    learning_rate: Array
    momentum: Array
    dropout: DropoutRates

    @classmethod
    def of(cls, model_config: ModelConfig, config: TrainConfig) -> Rates:
        """Return the configs' numbers."""
        return cls(
            learning_rate=np.float32(config.learning_rate),
            momentum=np.float32(config.momentum),
            dropout=DropoutRates.of(model_config),
        )


@struct.dataclass
class TrainSetup:
    """What all updates of a run share."""

    model_config: ModelConfig = struct.field(pytree_node=False)
    config: TrainConfig = struct.field(pytree_node=False)
    sampler: negatives.Sampler | None = None  # for extra_negatives, log_q or negative_hours
    # For how many lanes steps are computed where not for all, see `lane_widths.choose`.
    widths: tuple[Width, ...] = struct.field(pytree_node=False, default=())
    rates: Rates | None = None  # None: those of the configs


@struct.dataclass
class Running:
    """What an update hands to the next one."""

    state: TrainState
    carry: Carry  # of the lanes
    place_of: Array  # [V] int32 scratch memory, see `row_optimizer.list_rows`


class Draws(NamedTuple):
    """The random keys and the learning-rate factor of one update."""

    keys: jax.Array | None  # [K], of its steps; None where nothing is drawn
    factor: jax.Array  # [] of the learning rate


def make_setup(log: EventLog, model_config: ModelConfig, config: TrainConfig) -> TrainSetup:
    """Combine both configs with what training needs to know of the log.

    Args:
        log: the training events.
        model_config: of the network.
        config: of its training.

    Returns:
        The setup. Its `batch_size` is at most the number of users (of sessions, for RNN), as
        further lanes would be empty. Its `loss` is the one that softmax stands for. The arrays of
        its sampler are on the device.

    Raises:
        InputError: there is one user (one session, for RNN), and the loss takes its negatives from
            other users alone.
    """
    laid = user_batches.layout(log, model_config.variant)
    n_users = int(laid.opens_user.sum())
    n_lanes = -(-max(2, n_users) // config.lane_groups) * config.lane_groups
    config = dataclasses.replace(
        config.for_catalogue(log.n_items), batch_size=min(config.batch_size, n_lanes)
    )
    if n_users == 1 and config.loss in SAMPLED_LOSSES and not config.extra_negatives:
        raise InputError(
            f"the only {'session' if model_config.variant == 'rnn' else 'user'} that is trained on "
            f"leaves `loss`={config.loss} without negatives: give `extra_negatives`, or "
            "`loss`=full_softmax"
        )
    sampler = jax.device_put(negatives.make_sampler(log, config))
    if config.lane_groups > 1:  # each has its longest lanes first, so all are computed
        return TrainSetup(model_config, config, sampler)
    schedule = user_batches.build(
        laid,
        config.batch_size,
        rng=np.random.default_rng(0),
        feed_last_item=model_config.feed_last_item,
    )
    widths = lane_widths.choose(schedule, config.bptt_steps)
    return TrainSetup(model_config, config, sampler, widths)


def without_rates(
    model_config: ModelConfig, config: TrainConfig
) -> tuple[ModelConfig, TrainConfig]:
    """Replace in the configs what does not shape a compiled program of training.

    These are the numbers that `Rates` holds, except whether they are 0, and what belongs to the
    mixture, which is learnt after the network.
    """

    def chosen(value: float) -> float:
        return 0.5 if value else 0.0

    dropouts = {
        name: chosen(value)
        for name, value in vars(model_config).items()
        if name.startswith("dropout_")
    }
    neighbours = type(model_config).neighbours
    return (
        dataclasses.replace(model_config, **dropouts, places=0, neighbours=neighbours),
        dataclasses.replace(
            config, learning_rate=0.5, momentum=chosen(config.momentum), held_out_patience=0
        ),
    )


def make_optimizer(
    config: TrainConfig, rates: Rates | None = None, active: Array = True
) -> optax.GradientTransformation:
    """Return the optax transform that `config` names.

    Args:
        config: names it.
        rates: to use instead of the config's.
        active: [] bool. False leaves the optimizer's state as it is, if the gradients are 0.
    """
    given = rates or config
    momentum = given.momentum if config.momentum else None
    return row_optimizer.OPTIMIZERS[config.optimizer](given.learning_rate, momentum, active)


def init_state(seed: int, model_config: ModelConfig, config: TrainConfig) -> TrainState:
    """Draw the weights of one seed, and start its optimizer."""
    check_precision()
    return _init_state(seed, *what_is_drawn(model_config, config))


def what_is_drawn(
    model_config: ModelConfig, config: TrainConfig
) -> tuple[ModelConfig, TrainConfig]:
    """Leave in the configs what `draw_state` depends on."""
    model_config, config = without_rates(model_config, config)
    return model_config, TrainConfig(optimizer=config.optimizer, momentum=config.momentum)


def draw_state(
    seed: int | jax.Array,
    model_config: ModelConfig,
    config: TrainConfig,
    item: jax.Array | None = None,
) -> TrainState:
    """Draw what `init_state` returns, or the rows of some items, see `init_params`."""
    params: Any = init_params(jax.random.fold_in(_seed_key(seed), 0), model_config, item)
    return TrainState(params=params, opt_state=make_optimizer(config).init(params))


_init_state = jax.jit(draw_state, static_argnums=(1, 2))


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
    running: Running,
    steps: Steps,
    draws: Draws,
    setup: TrainSetup,
    placement: OneDevice = ONE_DEVICE,
    lanes: Lanes | None = None,
) -> tuple[Running, jax.Array]:
    """Make one update from K steps.

    Args:
        running: before the update; the lanes' states are a constant of the gradient.
        steps: [K, B], and [K, W] lanes that open a session.
        draws: of this update.
        setup: of the run.
        placement: where the rows of the tables and the batch's other lanes are.
        lanes: what is known of all lanes at these steps, by default those of `steps`.

    Returns:
        What follows the update, and the loss: the mean over the window's (step, lane) pairs with a
        target, or the part of it that is of the lanes here. (The gradient is of the mean over all
        pairs of K steps and `batch_size` lanes with `mean_over`=batch.)
    """
    state, carry, place_of = running.state, running.carry, running.place_of
    config, items = setup.config, state.params.items
    rates = setup.rates or Rates.of(setup.model_config, config)
    extra = jnp.zeros(0, jnp.int32)
    if setup.sampler is not None and config.extra_negatives:
        assert draws.keys is not None
        key = jax.random.fold_in(draws.keys[0], _NEGATIVES)
        extra = negatives.draw(key, setup.sampler, config.extra_negatives)
    keys = draws.keys if setup.model_config.has_dropout else None
    lanes = Lanes.of(steps) if lanes is None else lanes
    inputs, targets = placement.touched(lanes)
    tied, whole = items.item_in is None, config.loss == "full_softmax"
    scored = jnp.concatenate([targets, placement.rows(extra), inputs[: len(inputs) * tied]])
    n_valid = jnp.maximum(lanes.valid.sum(), 1)
    n_mean = n_valid if config.mean_over == "valid" else len(steps.valid) * config.batch_size
    in_rows = None
    if not tied:
        in_rows, place_of = row_optimizer.list_rows(inputs, place_of)
    out_rows = row_optimizer.WHOLE  # full_softmax reaches every output row
    if not whole:
        out_rows, place_of = row_optimizer.list_rows(scored, place_of)
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
        x = placement.inputs(values.items, inputs, steps, lanes, whole=whole)
        after, hidden = unroll(
            values.network,
            carry,
            StepInputs(x, steps, keys, placement.first_lane(steps)),
            config=setup.model_config,
            rates=rates.dropout,
        )
        if whole:
            lane_losses = placement.full_softmax_loss(
                values.items, hidden, steps, lanes, setup.sampler
            )
        else:
            candidates = placement.candidates(values.items, steps, lanes, extra)
            lane_losses = sampled_loss(candidates, hidden, steps, setup.sampler, config=config)
        total = lane_losses.sum()
        return total / n_mean, (after, total / n_valid)

    seen = placement.seen(values, lanes, whole=whole)
    (_, (carry, loss)), grads = jax.value_and_grad(loss_of, has_aux=True)(seen)
    grads = placement.total_gradients(grads, lanes, whole=whole)
    rows = Params(
        network=jax.tree.map(lambda _: row_optimizer.WHOLE, state.params.network),
        items=Items(item_in=in_rows, item_out=out_rows, item_bias=out_rows),
    )
    any_target = lanes.valid.any()  # the padding of a step without one moves nothing
    params, opt_state = row_optimizer.apply(
        make_optimizer(config, rates, any_target),
        state.params,
        state.opt_state,
        row_optimizer.Touched(rows=rows, values=values, grads=grads),
        factor=jnp.where(any_target, draws.factor, 0.0),
    )
    return Running(TrainState(params=params, opt_state=opt_state), carry, place_of), loss


def train_chunk(
    running: Running,
    steps: Steps,
    place: jax.Array,
    span: jax.Array,
    setup: TrainSetup,
    placement: OneDevice = ONE_DEVICE,
) -> tuple[Running, jax.Array]:
    """Make some updates of a chunk, one after the other.

    Args:
        running: before the first of them.
        steps: [T, ...], T a multiple of K.
        place: [4] uint32: the seed and the epoch, the number of the chunk's first step in the
            epoch, and how many steps the epoch has.
        span: [2] int32: the first update of the chunk to make, and the end.
        setup: of the run.
        placement: see `update`.

    Returns:
        What follows the last of them, and the losses [T / K] of the updates that were made, 0
        elsewhere.
    """
    window = setup.config.bptt_steps
    n_updates = len(steps.input) // window
    windows = jax.tree.map(lambda a: a.reshape(n_updates, window, *a.shape[1:]), steps)
    inputs = windows, placement.all_lanes(windows), _draw(place, n_updates, setup)

    def inputs_of(i: jax.Array) -> tuple[Any, ...]:
        i = jnp.minimum(i, n_updates - 1)
        return jax.tree.map(
            lambda a: jax.lax.dynamic_index_in_dim(a, i, axis=0, keepdims=False), inputs
        )

    def body(i: jax.Array, scanned: tuple[Any, ...]) -> tuple[Any, ...]:
        running, losses, (steps, lanes, draws) = scanned
        running, loss = update(running, steps, draws, setup, placement, lanes)
        return running, losses.at[i].set(loss), inputs_of(i + 1)

    # An update hands the next one its inputs, as part of the loop's state: otherwise XLA's CPU
    # backend slices them anew, number by number, in each loop that uses them.
    begin, end = span
    first = running, jnp.zeros(n_updates), inputs_of(begin)
    running, losses, _ = jax.lax.fori_loop(begin, end, body, first)
    return running, placement.total(losses)


def _draw(place: jax.Array, n_updates: int, setup: TrainSetup) -> Draws:
    """Draw for all updates of a chunk, on a leading axis.

    A key depends on the seed, the epoch and the step alone: not on where chunks begin.
    """
    config = setup.config
    seed, epoch, first_step, n_steps = place
    shape = n_updates, config.bptt_steps
    step = first_step + jnp.arange(n_updates * config.bptt_steps, dtype=jnp.uint32)
    keys = None
    if setup.model_config.has_dropout or config.extra_negatives:
        of_epoch = jax.random.fold_in(_seed_key(seed), 1 + epoch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(of_epoch, step).reshape(shape)
    done = step.reshape(shape)[:, 0] / jnp.maximum(n_steps, 1)
    return Draws(keys, _rate_factor(epoch + jnp.minimum(done, 1), config))


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
    # This kind of key, as dropout counts its words itself.
    return jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), seed)
