"""The gated recurrent unit of Eq. 1, 3 and 5, in the form of Cho et al. 2014."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Recurrence:
    """The weights of a GRU but for its input's. Columns of 3H: candidate | reset | update."""

    w_cand: jax.Array  # [H, H]
    w_gates: jax.Array  # [H, 2H], reset | update
    b: jax.Array  # [3H]


def cell(weights: Recurrence, x: jax.Array, h: jax.Array) -> jax.Array:
    """Advance the state h [B, H] by the projected input x [B, 3H], without its bias.

    r, z = sigmoid(x + h W_gates), c = tanh(x + (r h) W_cand), h' = (1 - z) h + z c.
    The reset gate acts *before* the recurrent matrix, as in the paper's source; flax's GRU cells
    reset after it.
    """
    units = h.shape[-1]
    x = x + weights.b[None]
    r, z = jnp.split(jax.nn.sigmoid(x[:, units:] + h @ weights.w_gates), 2, axis=1)
    candidate = jnp.tanh(x[:, :units] + (r * h) @ weights.w_cand)
    return (1 - z) * h + z * candidate
