"""Any elementwise optax transform, applied to the touched rows of the item tables only.

A dense update of a table costs its whole size at every step, though a step touches at most
2 B of its rows. Here the rows and their optimizer state are gathered, updated and scattered back.
A row that is not touched does not move: momentum is lazy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from hrnn_jax import model
from hrnn_jax.user_batches import NO_ITEM


@struct.dataclass
class Rows:
    """The rows of a table that a step touches, each listed once."""

    index: jax.Array  # [N] int32, NO_ITEM for padding and where `where` lies elsewhere
    where: jax.Array  # [N] int32, the one place that stands for the same item; N for padding


class _Whole:
    """Marks, where `Rows` would stand, an array that is updated as a whole."""


WHOLE = _Whole()


def adagrad(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """AdaGrad of the paper: acc += g^2 from 0, step -lr g / sqrt(acc + 1e-6), then momentum."""
    return optax.chain(
        optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-6),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(momentum) if momentum else optax.identity(),
    )


def adam(learning_rate: float) -> optax.GradientTransformation:
    """optax.adam with one division an element, not three, of which a dense update mostly consists.

    What corrects the moments for their start from 0 is the same for all: it goes to the step.
    """
    decay_1, decay_2, eps = 0.9, 0.999, 1e-8

    def update(updates: Any, state: Any, params: Any = None) -> tuple:
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, decay_1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, decay_2, 2)
        root = jnp.sqrt(1 - decay_2**count)
        scale = root / (1 - decay_1**count)
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps * root), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.chain(
        optax.GradientTransformation(optax.scale_by_adam().init, update),
        optax.scale_by_learning_rate(learning_rate),
    )


# Elementwise transforms only: one that looks across a tensor (clipping by norm, lamb, adafactor)
# would see the gathered rows instead of the table.
OPTIMIZERS: dict[str, Callable[[float, float], optax.GradientTransformation]] = {
    "adagrad": adagrad,
    "adam": lambda learning_rate, momentum: adam(learning_rate),
    "sgd": lambda learning_rate, momentum: optax.sgd(learning_rate, momentum or None),
}


def touched(index: jax.Array, place_of: jax.Array) -> tuple[Rows, jax.Array]:
    """List each item of `index` [N] once.

    place_of: [V] int32, whatever it holds: room to note where each item occurs, handed back for
    the next call. To compare all pairs of occurrences instead is slower from few dozens on.
    """
    place = jnp.arange(len(index), dtype=jnp.int32)
    place_of = place_of.at[index].set(place, mode="drop")
    where = place_of.at[index].get(mode="fill", fill_value=len(index))
    return Rows(index=jnp.where(where == place, index, NO_ITEM), where=where), place_of


def apply(
    transform: optax.GradientTransformation,
    params: model.Params,
    state: optax.OptState,
    grads: Any,
    rows: Any,
    taken: Any,
    *,
    where: jax.Array,
    factor: jax.Array | float = 1.0,
) -> tuple[model.Params, optax.OptState]:
    """Apply one update in place of optax's dense one; equal to it in the touched rows.

    grads: like params, but [N, ...] gradients of the gathered rows where `rows` holds `Rows`, a
    row for each occurrence: an item's are summed before its one update. rows: like params, `Rows`
    or WHOLE. taken: like grads, the gathered rows themselves. where: [] bool; false leaves
    everything as it is (a step of padding alone). clip: scale the gradient to this norm, of all
    weights together, where it is larger; 0 for never. factor: scales the step. decay: subtract
    this share of each weight but the biases, times factor, whenever it is updated.
    """

    def take(leaf: jax.Array, rows: Rows | _Whole) -> jax.Array:
        return leaf if isinstance(rows, _Whole) else model.gather_rows(leaf, rows.index)

    def put(leaf: jax.Array, new: jax.Array, rows: Rows | _Whole) -> jax.Array:
        if isinstance(rows, _Whole):
            return jnp.where(where, new, leaf)
        return leaf.at[jnp.where(where, rows.index, NO_ITEM)].set(new, mode="drop")

    def total(leaf: jax.Array, grad: jax.Array, rows: Rows | _Whole) -> jax.Array:
        if isinstance(rows, _Whole):
            return grad
        return jax.ops.segment_sum(grad, rows.where, len(rows.where))

    state_rows = optax.tree.map_params(
        transform, lambda _, rows: rows, state, rows, transform_non_params=lambda _: WHOLE
    )
    totals = jax.tree.map(total, params, grads, rows)
    updates, new_state = transform.update(totals, jax.tree.map(take, state, state_rows), taken)
    new_params = optax.apply_updates(taken, jax.tree.map(lambda u: factor * u, updates))
    return (
        jax.tree.map(put, params, new_params, rows),
        jax.tree.map(put, state, new_state, state_rows),
    )
