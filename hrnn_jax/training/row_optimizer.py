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
from hrnn_jax.training.user_batches import NO_ITEM, Array

_PART = 256  # rows updated at a time on a CPU: still in its cache when they are written back


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


class _Array:
    """Stands for `Rows` of an array that is not updated by row."""


WHOLE = _Array()  # updated as a whole
_KEPT = _Array()  # not updated; what is computed for it is not used, and left out by the compiler


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
    totals = jax.tree.map(_total, touched.grads, touched.rows)
    touched = Touched(rows=touched.rows, values=touched.values, grads=totals)
    n_parts = _n_parts(touched.rows)

    def update_rows(
        number: jax.Array, reached: tuple[Params, optax.OptState]
    ) -> tuple[Params, optax.OptState]:
        part = _part(touched, reached[0], number, n_parts)
        return _update(transform, *reached, part, factor, others=_KEPT)

    params, opt_state = jax.lax.fori_loop(
        0, n_parts, update_rows, (params, opt_state), unroll=n_parts == 1
    )
    return _update(transform, params, opt_state, _arrays(touched, params), factor, others=WHOLE)


def _n_parts(rows: Any) -> int:
    """Return how many parts the longest list is updated in."""
    listed = jax.tree.leaves(rows, is_leaf=lambda each: isinstance(each, Rows))
    longest = max((len(each.index) for each in listed if isinstance(each, Rows)), default=0)
    # Elsewhere than on a CPU many small steps would wait.
    return -(-longest // _PART) if jax.default_backend() == "cpu" else 1


def _part(touched: Touched, params: Params, number: jax.Array, n_parts: int) -> Touched:
    """Return one part of all lists of rows, without the arrays that are updated as a whole."""

    def size(array: jax.Array) -> int:
        return -(-len(array) // n_parts)

    def cut(array: jax.Array) -> jax.Array:
        begin = number * size(array)  # of the last ones earlier, so that they overlap
        return jax.lax.dynamic_slice_in_dim(array, begin, size(array))

    def cut_rows(_: jax.Array, rows: Rows | _Array) -> Rows | _Array:
        if not isinstance(rows, Rows):
            return _KEPT
        own = cut(jnp.arange(len(rows.index)) // size(rows.index)) == number
        return Rows(index=jnp.where(own, cut(rows.index), NO_ITEM), place=cut(rows.place))

    def cut_values(leaf: jax.Array, values: jax.Array, rows: Rows | _Array) -> jax.Array:
        return cut(values) if isinstance(rows, Rows) else leaf

    rows = touched.rows
    return Touched(
        rows=jax.tree.map(cut_rows, params, rows),
        values=jax.tree.map(cut_values, params, touched.values, rows),
        grads=jax.tree.map(cut_values, params, touched.grads, rows),
    )


def _arrays(touched: Touched, params: Params) -> Touched:
    """Return the arrays that are updated as a whole, without the lists of rows."""

    def whole_rows(_: jax.Array, rows: Rows | _Array) -> _Array:
        return _KEPT if isinstance(rows, Rows) else WHOLE

    def whole_values(leaf: jax.Array, values: jax.Array, rows: Rows | _Array) -> jax.Array:
        return leaf if isinstance(rows, Rows) else values

    rows = touched.rows
    return Touched(
        rows=jax.tree.map(whole_rows, params, rows),
        values=jax.tree.map(whole_values, params, touched.values, rows),
        grads=jax.tree.map(whole_values, params, touched.grads, rows),
    )


def _update(
    transform: optax.GradientTransformation,
    params: Params,
    opt_state: optax.OptState,
    touched: Touched,
    factor: jax.Array | float,
    *,
    others: _Array,
) -> tuple[Params, optax.OptState]:
    """Update what `touched` has, and the state that belongs to no array as `others` says."""
    rows, values = touched.rows, touched.values
    state_rows = optax.tree.map_params(
        transform, lambda _, rows: rows, opt_state, rows, transform_non_params=lambda _: others
    )
    state = jax.tree.map(_take, opt_state, state_rows)
    updates, new_state = transform.update(touched.grads, state, values)
    new_values = optax.apply_updates(values, jax.tree.map(lambda u: factor * u, updates))
    return (
        jax.tree.map(_put, params, new_values, rows),
        jax.tree.map(_put, opt_state, new_state, state_rows),
    )


def _total(grad: jax.Array, rows: Rows | _Array) -> jax.Array:
    if isinstance(rows, Rows):
        return jax.ops.segment_sum(grad, rows.place, len(rows.place))
    return grad


def _take(leaf: jax.Array, rows: Rows | _Array) -> jax.Array:
    return gather_rows(leaf, rows.index) if isinstance(rows, Rows) else leaf


def _put(leaf: jax.Array, new: jax.Array, rows: Rows | _Array) -> jax.Array:
    if isinstance(rows, Rows):
        return leaf.at[rows.index].set(new, mode="drop")
    return new if rows is WHOLE else leaf
