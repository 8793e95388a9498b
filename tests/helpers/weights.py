"""Weights under the names of the reference, and weights large enough to show every term."""

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model
from hrnn_jax.config import ModelConfig


def named(params: model.Params) -> dict[str, np.ndarray]:
    """Return the weights of one session layer, or a tree like them, by the reference's names."""
    (session,) = params.network.session
    names = {
        "item_in": params.items.item_in,
        "session_w_cand": session.w_cand,
        "session_w_gates": session.w_gates,
        "session_b": session.b,
        "item_out": params.items.item_out,
        "item_bias": params.items.item_bias,
    }
    user = params.network.user
    if user is not None:
        names |= {
            "user_w_in": user.w_in,
            "user_w_cand": user.gru.w_cand,
            "user_w_gates": user.gru.w_gates,
            "user_b": user.gru.b,
            "init_w": user.init_w,
            "init_b": user.init_b,
        }
        if user.to_session_w is not None:
            units, columns = user.to_session_w.shape
            # With user_input="gates" there are no columns for the candidate.
            names["user_to_session_w"] = np.pad(
                user.to_session_w, ((0, 0), (3 * units - columns, 0))
            )
    return {name: np.asarray(value) for name, value in names.items()}


def drawn(config: ModelConfig, *, seed: int = 0, scale: float = 0.5) -> model.Params:
    """Draw weights, biases too, from a normal distribution."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init_params(jax.random.key(0), config))
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32), shapes
    )
