"""A loss of your own: a margin between the score of the target and that of each negative.

Run it like experiments.run, with the same flags:

    python -m docs.examples.own_loss --flagfile=video.flags --loss=margin
"""

import runpy

import jax
import jax.numpy as jnp

from hrnn_jax import losses


def margin(r: jax.Array, among: jax.Array) -> jax.Array:
    """Return [N], of each lane the mean over its negatives j of max(0, 1 + r_j - r_i).

    Args:
        r: [N, C] scores: lane i's of candidate j. The diagonal holds those of the lanes' targets.
        among: [N, C] bool, whether candidate j counts for lane i; none does for a lane of padding.
    """
    r = jnp.where(among, r, 0.0)  # not even the gradient may see a score that does not count
    negative = among & ~jnp.eye(*r.shape, dtype=bool)
    terms = jax.nn.relu(1 + r - jnp.diagonal(r)[:, None])
    return jnp.where(negative, terms, 0.0).sum(axis=1) / jnp.maximum(negative.sum(axis=1), 1)


losses.register("margin", margin)

if __name__ == "__main__":  # now that --loss knows the name
    runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
