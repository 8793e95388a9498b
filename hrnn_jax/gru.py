"""The gated recurrent unit of Eq. 1 (GRU_ses), Eq. 3 (GRU_usr) and Eq. 5, as of Cho et al. 2014."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Recurrence:
    """The weights of a GRU except its input's. Columns of 3H: candidate | reset | update."""

    w_cand: jax.Array  # [H, H]
    w_gates: jax.Array  # [H, 2H], reset | update
    b: jax.Array  # [3H]


def cell(
    weights: Recurrence,
    x: jax.Array,
    h: jax.Array,
    moving: jax.Array | None = None,
    leak: jax.Array | None = None,
) -> jax.Array:
    """Advance the state of a GRU by one input (Eq. 1, 3 and 5).

    Cho et al., 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", as in the authors' code: the reset gate acts *before* the recurrent
    matrix. (Flax's GRU cells reset after it.)

    Args:
        weights: of the GRU.
        x: [B, 3H] the projected input, without its bias.
        h: [B, H] the state.
        moving: [W] lanes whose state depends on a weight, see `product`.
        leak: [B, H] what the next state keeps a part of; by default h, as in the equations.

    Returns:
        [B, H] the next state h':

            r, z = sigmoid(x + b + h W_gates)
            c    = tanh(x + b + (r h) W_cand)
            h'   = (1 - z) leak + z c
    """
    units = h.shape[-1]
    x = x + weights.b[None]
    gates = jax.nn.sigmoid(x[:, units:] + product(h, moving, weights.w_gates))
    r, z = jnp.split(gates, 2, axis=1)
    candidate = jnp.tanh(x[:, :units] + (r * h) @ weights.w_cand)
    return (1 - z) * (h if leak is None else leak) + z * candidate


def take(values: jax.Array, lanes: jax.Array) -> jax.Array:
    """Gather the rows of some lanes.

    Args:
        values: [B, ...].
        lanes: [W], ascending and none twice.

    Returns:
        [W, ...], zeros for lanes from B on.
    """
    return values.at[lanes].get(mode="fill", fill_value=0, **_IN_ORDER)


def put(values: jax.Array, lanes: jax.Array, new: jax.Array) -> jax.Array:
    """Replace the rows of some lanes.

    Args:
        values: [B, ...].
        lanes: [W], ascending and none twice; those from B on are dropped.
        new: [W, ...].

    Returns:
        [B, ...] with the new rows.
    """
    return values.at[lanes].set(new, mode="drop", **_IN_ORDER)


# Without it, the gradient of `put` first runs a scatter to find which of equal lanes came last.
_IN_ORDER: dict[str, Any] = {
    "unique_indices": True,
    "indices_are_sorted": True,
    "wrap_negative_indices": False,
}


def product(h: jax.Array, moving: jax.Array | None, w: jax.Array) -> jax.Array:
    """Multiply states by a matrix, with the gradient of only those states that need one.

    The gradient of a constant state would cost as much as the product itself.

    Args:
        h: [B, H].
        moving: [W] lanes whose h depends on a weight, ascending and none twice, B and above for
            none; the others are constants. None: all lanes depend on one.
        w: [H, N].

    Returns:
        [B, N] h w.
    """
    return h @ w if moving is None else _product_of_moving(h, moving, w)


@jax.custom_vjp
def _product_of_moving(h: jax.Array, moving: jax.Array, w: jax.Array) -> jax.Array:
    return h @ w


def _forward(
    h: jax.Array, moving: jax.Array, w: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return h @ w, (h, moving, w)


def _backward(saved: tuple[jax.Array, ...], grad: jax.Array) -> tuple[jax.Array, None, jax.Array]:
    h, moving, w = saved
    # Not `rows @ w.T`, nor what XLA makes of transposed operands: that transposes the weights,
    # which takes longer than the product.
    columns = jax.lax.optimization_barrier(take(grad, moving).T)
    rows = jax.lax.optimization_barrier(w @ columns).T
    return put(jnp.zeros_like(h), moving, rows), None, h.T @ grad


_product_of_moving.defvjp(_forward, _backward)


def where(mask: jax.Array, new: jax.Array | float, old: jax.Array) -> jax.Array:
    """Choose by lane: mask [B], values [B, ...]."""
    return jnp.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)
