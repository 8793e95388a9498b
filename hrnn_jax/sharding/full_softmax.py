"""The cross-entropy over a catalogue whose rows are on several shards, with its gradient.

Each shard scores its rows for all lanes. Only the representations of the lanes, their gradients
and three numbers a lane are sent; the gradient of a shard's rows is made where they are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hrnn_jax.losses import item_scores
from hrnn_jax.model import Items
from hrnn_jax.sharding.tables import AXIS


@jax.custom_vjp
def full_softmax(
    hidden: jax.Array, items: Items, where: jax.Array, is_own: jax.Array, among: jax.Array
) -> jax.Array:
    """Compute `losses.full_softmax` of the lanes of this shard, [K, b].

    Args:
        hidden: [K, b, H] their representations.
        items: the output layer's rows [R, H] and biases [R] of this shard; `item_in` is None.
        where: [K, b] bool, whether the lane has a target.
        is_own: [K B, R] bool, which row is the target of each lane of all shards.
        among: [K B, R] or [1, R] bool, which rows count; the target does in any case.
    """
    return _forward(hidden, items, where, is_own, among)[0]


def _gather(values: jax.Array) -> jax.Array:
    """Gather [K, b, ...] of the shards' lanes, as [K B, ...]."""
    gathered = jax.lax.all_gather(values, AXIS, axis=1, tiled=True)
    return gathered.reshape(-1, *values.shape[2:])


def _forward(
    hidden: jax.Array, items: Items, where: jax.Array, is_own: jax.Array, among: jax.Array
) -> tuple[jax.Array, tuple[Any, ...]]:
    shape, first = where.shape, jax.lax.axis_index(AXIS) * where.shape[1]
    hidden = _gather(jnp.where(where[..., None], hidden, 0.0))
    counts = among | is_own
    scores = item_scores(hidden, items.item_out) + items.item_bias[None]
    scores = jnp.where(counts, scores, -jnp.inf)
    top = jax.lax.pmax(scores.max(axis=1), AXIS)
    # A lane without a target may have no item on offer at its time.
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    weight = jnp.exp(scores - top[:, None])
    own = jnp.where(is_own, scores, 0.0).sum(axis=1)
    total, own = jax.lax.psum(jnp.stack([weight.sum(axis=1), own]), AXIS)
    total_ = jnp.maximum(total, jnp.finfo(total.dtype).tiny)
    all_losses = (jnp.log(total_) + top - own).reshape(shape[0], -1)
    losses = jax.lax.dynamic_slice_in_dim(all_losses, first, shape[1], axis=1)
    saved = hidden, items.item_out, where, is_own, weight, total
    return jnp.where(where, losses, 0.0), saved


def _backward(saved: tuple[Any, ...], grad: jax.Array) -> tuple[Any, ...]:
    hidden, item_out, where, is_own, weight, total = saved
    # Softmax minus one-hot, times the total.
    weight = jnp.where(is_own, weight - total[:, None], weight)
    scale = _gather(jnp.where(where, grad, 0.0))
    scale = jnp.where(scale != 0, scale / total, 0.0)
    items = Items(
        item_in=None, item_out=weight.T @ (scale[:, None] * hidden), item_bias=scale @ weight
    )
    of_hidden = (scale[:, None] * (weight @ item_out)).reshape(len(where), -1, hidden.shape[1])
    of_hidden = jax.lax.psum_scatter(of_hidden, AXIS, scatter_dimension=1, tiled=True)
    return of_hidden, items, None, None, None


full_softmax.defvjp(_forward, _backward)
