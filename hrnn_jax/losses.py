"""Ranking losses over the items of a mini-batch (Section 3.1); padding equals absence.

Scores [N, N] are those of lane i's representation (row) for lane j's target (column): the
diagonal holds each lane's own target, the rest are its negative samples. `where` [N] marks the
lanes that have a target. A loss returns one value a lane, [N], 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def top1(scores: jax.Array, where: jax.Array) -> jax.Array:
    """TOP1 on r = tanh(scores): mean_j [s(r_j - r_i) + s(r_j^2)] - s(r_i^2) / N, s = sigmoid."""
    r = jnp.tanh(_present(scores, where))
    own = jnp.diagonal(r)
    terms = jax.nn.sigmoid(r - own[:, None]) + jax.nn.sigmoid(r**2)
    terms -= jnp.diag(jax.nn.sigmoid(own**2))
    return _mean_over_targets(terms, where)


def bpr(scores: jax.Array, where: jax.Array) -> jax.Array:
    """BPR on r = tanh(scores): mean_j -log s(r_i - r_j)."""
    r = jnp.tanh(_present(scores, where))
    return _mean_over_targets(-jax.nn.log_sigmoid(jnp.diagonal(r)[:, None] - r), where)


def cross_entropy(scores: jax.Array, where: jax.Array) -> jax.Array:
    """Cross-entropy of the softmax over the batch's targets: log sum_j exp(r_j) - r_i."""
    scores = _present(scores, where)
    someone = where | ~where.any()  # the logarithm of an empty sum has no gradient
    total = jax.nn.logsumexp(scores, axis=1, where=someone[None, :])
    return jnp.where(where, total - jnp.diagonal(scores), 0.0)


def full_softmax(scores: jax.Array, target: jax.Array, where: jax.Array) -> jax.Array:
    """Cross-entropy of the softmax over the catalogue: scores [N, V], target [N]."""
    scores = jnp.where(where[:, None], scores, 0.0)
    own = jnp.take_along_axis(scores, jnp.where(where, target, 0)[:, None], axis=1)[:, 0]
    return jnp.where(where, jax.nn.logsumexp(scores, axis=1) - own, 0.0)


def _present(scores: jax.Array, where: jax.Array) -> jax.Array:
    """Clear the scores of lanes without a target: not even a NaN there may reach a gradient."""
    return jnp.where(where[:, None] & where[None, :], scores, 0.0)


def _mean_over_targets(terms: jax.Array, where: jax.Array) -> jax.Array:
    total = jnp.where(where[None, :], terms, 0.0).sum(axis=1)
    return jnp.where(where, total / jnp.maximum(where.sum(), 1), 0.0)


SAMPLED: dict[str, Loss] = {"top1": top1, "bpr": bpr, "cross_entropy": cross_entropy}
NAMES = (*SAMPLED, "full_softmax")
