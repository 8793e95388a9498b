"""AdaGrad, Adam and SGD by row: an update of the item tables costs as much as the rows it touches.

A dense update of a table costs its whole size at every step, though a step touches few of its
rows: those of its inputs, its targets and its extra negatives. Here these rows and their optimizer
state are gathered, updated and scattered back. Other rows do not move, whatever their momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hrnn_jax.model import Params, gather_rows
from hrnn_jax.user_batches import NO_ITEM, Array


def adagrad(
    learning_rate: Array, momentum: Array | None, active: Array = True
) -> optax.GradientTransformation:
    """AdaGrad with classical momentum, as the paper's authors train (Section 4.4).

    Args:
        learning_rate: lr below.
        momentum: m below, None for none.
        active: [] bool. False leaves the state as it is, if the gradients are 0.

    Returns:
        A transform of acc += g^2, v = m v - lr g / sqrt(acc + 1e-6), w += v, with acc and v from 0.
        (optax.adagrad starts acc at 0.1 and has another eps, which trains another model: eps
        outweighs acc for rare items.) Its state is that of the optax chain of scale_by_rss,
        scale_by_learning_rate and trace.
    """
    chain = optax.chain(
        optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-6),
        optax.scale_by_learning_rate(learning_rate),
        optax.identity() if momentum is None else optax.trace(momentum),
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        rss, scale, trace = state
        squares = jax.tree.map(lambda g, acc: acc + g * g, updates, rss.sum_of_squares)
        updates = jax.tree.map(
            lambda g, acc: -learning_rate * g * _inverse_root(acc + 1e-6), updates, squares
        )
        if momentum is not None:
            decay = jnp.where(active, momentum, 1.0)
            updates = jax.tree.map(lambda u, v: decay * v + u, updates, trace.trace)
            trace = optax.TraceState(updates)
        return updates, (rss._replace(sum_of_squares=squares), scale, trace)

    return optax.GradientTransformation(chain.init, update)


def _inverse_root(x: jax.Array) -> jax.Array:
    """Compute 1 / sqrt(x) of positive float32 numbers, to 1.5e-7 of its value.

    By Newton's method, from a guess that halves the exponent. A square root and a division take
    four times as long on a CPU, and would be most of the update of the dense weights.
    """
    guess = (0x5F375A86 - (x.view(jnp.int32) >> 1)).view(jnp.float32)
    for _ in range(3):
        guess = guess * (1.5 - 0.5 * x * guess * guess)
    return guess


def adam(learning_rate: Array, active: Array = True) -> optax.GradientTransformation:
    """optax.adam with one division an element instead of three, which is most of a dense update.

    Both moments' bias corrections are the same for all elements, so they scale the step instead.

    Args:
        learning_rate: the step size.
        active: [] bool. False leaves the state as it is, if the gradients are 0.

    Returns:
        A transform with the state of optax.adam (Kingma and Ba, 2015).
    """
    decay_1, decay_2, eps = 0.9, 0.999, 1e-8

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        count = jnp.where(active, optax.safe_increment(state.count), state.count)
        keep_1, add_1 = jnp.where(active, decay_1, 1.0), jnp.where(active, 1 - decay_1, 0.0)
        keep_2, add_2 = jnp.where(active, decay_2, 1.0), jnp.where(active, 1 - decay_2, 0.0)
        mu = jax.tree.map(lambda m, g: keep_1 * m + add_1 * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: keep_2 * v + add_2 * g * g, state.nu, updates)
        root = jnp.sqrt(1 - decay_2**count)
        scale = root / (1 - decay_1**count)
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps * root), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.chain(
        optax.GradientTransformation(optax.scale_by_adam().init, update),
        optax.scale_by_learning_rate(learning_rate),
    )


def sgd(
    learning_rate: Array, momentum: Array | None, active: Array = True
) -> optax.GradientTransformation:
    """Return optax.sgd, whose state does not change while not `active`, if the gradients are 0."""
    decay = None if momentum is None else jnp.where(active, momentum, 1.0)
    return optax.sgd(learning_rate, decay)


# Elementwise transforms only: one that looks across a tensor (clipping by norm, lamb, adafactor)
# would see the gathered rows instead of the table.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adagrad": adagrad,
    "adam": lambda learning_rate, momentum, active=True: adam(learning_rate, active),
    "sgd": sgd,
}


@struct.dataclass
class Rows:
    """The rows of a table that a step touches, each listed once."""

    index: jax.Array  # [N] int32; NO_ITEM for padding, and for all but one occurrence of an item
    place: jax.Array  # [N] int32, where `index` lists this occurrence's item; N for padding


class _Whole:
    """Stands for `Rows` of an array that is updated as a whole."""


WHOLE = _Whole()


@struct.dataclass
class Touched:
    """What a step touches of the parameters: three trees of their structure."""

    rows: Any  # `Rows` of a table, or WHOLE
    values: Any  # the gathered rows, [N, ...] with one for each occurrence, or the whole array
    grads: Any  # the loss's gradient with respect to `values`


def list_rows(index: jax.Array, place_of: jax.Array) -> tuple[Rows, jax.Array]:
    """List each item of `index` once.

    Args:
        index: [N] int32 items, some perhaps several times; NO_ITEM for padding.
        place_of: [V] int32 scratch memory, with any values, to note where each item occurs.
            Comparing all pairs of occurrences instead is slower from some dozens on.

    Returns:
        The rows, and the scratch memory for the next call.
    """
    place = jnp.arange(len(index), dtype=jnp.int32)
    place_of = place_of.at[index].set(place, mode="drop")
    listed = place_of.at[index].get(mode="fill", fill_value=len(index))
    return Rows(index=jnp.where(listed == place, index, NO_ITEM), place=listed), place_of


def apply(
    transform: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    touched: Touched,
    *,
    factor: jax.Array | float = 1.0,
) -> tuple[Params, optax.OptState]:
    """Make one update, equal to optax's dense one in the touched rows.

    The gradients of an item that occurs several times are summed before its one update.

    Args:
        transform: an elementwise transform, see `OPTIMIZERS`.
        params: the parameters, or any tree of arrays.
        opt_state: the transform's state for them.
        touched: the rows to update, their values and gradients.
        factor: [] scales the step.

    Returns:
        The parameters and the state after the update.
    """

    def take(leaf: jax.Array, rows: Rows | _Whole) -> jax.Array:
        return leaf if isinstance(rows, _Whole) else gather_rows(leaf, rows.index)

    def put(leaf: jax.Array, new: jax.Array, rows: Rows | _Whole) -> jax.Array:
        if isinstance(rows, _Whole):
            return new
        return leaf.at[rows.index].set(new, mode="drop")

    def total(leaf: jax.Array, grad: jax.Array, rows: Rows | _Whole) -> jax.Array:
        if isinstance(rows, _Whole):
            return grad
        return jax.ops.segment_sum(grad, rows.place, len(rows.place))

    rows, values = touched.rows, touched.values
    state_rows = optax.tree.map_params(
        transform, lambda _, rows: rows, opt_state, rows, transform_non_params=lambda _: WHOLE
    )
    totals = jax.tree.map(total, params, touched.grads, rows)
    updates, new_state = transform.update(totals, jax.tree.map(take, opt_state, state_rows), values)
    new_params = optax.apply_updates(values, jax.tree.map(lambda u: factor * u, updates))
    return (
        jax.tree.map(put, params, new_params, rows),
        jax.tree.map(put, opt_state, new_state, state_rows),
    )
