"""The gated recurrent unit of Eq. 1, 3 and 5, in the form of Cho et al. 2014."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Recurrence:
    """The weights of a GRU but for its input's. Columns of 3H: candidate | reset | update."""

    w_cand: jax.Array  # [H, H]
    w_gates: jax.Array  # [H, 2H], reset | update
    b: jax.Array  # [3H]


def cell(
    weights: Recurrence, x: jax.Array, h: jax.Array, moving: jax.Array | None = None
) -> jax.Array:
    """Advance the state h [B, H] by the projected input x [B, 3H], without its bias.

    r, z = sigmoid(x + h W_gates), c = tanh(x + (r h) W_cand), h' = (1 - z) h + z c.
    The reset gate acts *before* the recurrent matrix, as in the paper's source; flax's GRU cells
    reset after it. moving: see `product`.
    """
    units = h.shape[-1]
    x = x + weights.b[None]
    gates = jax.nn.sigmoid(x[:, units:] + product(h, moving, weights.w_gates))
    r, z = jnp.split(gates, 2, axis=1)
    candidate = jnp.tanh(x[:, :units] + (r * h) @ weights.w_cand)
    return (1 - z) * h + z * candidate


def take(values: jax.Array, lanes: jax.Array) -> jax.Array:
    """Gather the rows of some lanes, ascending; zeros beyond the last lane."""
    return values.at[lanes].get(mode="fill", fill_value=0, **_IN_ORDER)


def put(values: jax.Array, lanes: jax.Array, new: jax.Array) -> jax.Array:
    """Replace the rows of some lanes, ascending; what is beyond the last lane is dropped."""
    return values.at[lanes].set(new, mode="drop", **_IN_ORDER)


# Without it, the gradient of `put` first finds out by a scatter which of equal lanes came last.
_IN_ORDER: dict[str, Any] = {
    "unique_indices": True,
    "indices_are_sorted": True,
    "wrap_negative_indices": False,
}


def product(h: jax.Array, moving: jax.Array | None, w: jax.Array) -> jax.Array:
    """Return h @ w, [B, H] @ [H, N].

    moving: [W], the lanes whose h depends on a weight, ascending, B and more for none; all if not
    given. The others are constants, and no gradient is computed for them: it would cost as much
    as the product itself.
    """
    return h @ w if moving is None else _product_of_moving(h, moving, w)


@jax.custom_vjp
def _product_of_moving(h: jax.Array, moving: jax.Array, w: jax.Array) -> jax.Array:
    return h @ w


def _forward(h: jax.Array, moving: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple]:
    return h @ w, (h, moving, w)


def _backward(saved: tuple, given: jax.Array) -> tuple:
    h, moving, w = saved
    # Not `rows @ w.T`: transposing the weights takes longer than the product.
    rows = (w @ take(given, moving).T).T
    return put(jnp.zeros_like(h), moving, rows), None, h.T @ given


_product_of_moving.defvjp(_forward, _backward)
