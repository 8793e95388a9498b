"""What an update minimises: the loss of each lane among its candidates."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax import losses, model
from hrnn_jax.config import TrainConfig
from hrnn_jax.extras import negatives
from hrnn_jax.user_batches import NO_ITEM, Array, Steps

if TYPE_CHECKING:
    pass


@struct.dataclass
class Recalled:
    """The items of the users' pasts at one or more times, [..., R], and what is scored of them."""

    item: jax.Array
    bonus: jax.Array  # what is added to their scores
    row: Array = None  # [..., R, H] of item_out, constants; not for full softmax
    bias: Array = None  # [..., R]


def full_softmax(
    items: model.Items,
    hidden: jax.Array,
    steps: Steps,
    past: Recalled | None,
    sampler: negatives.Sampler | None,
) -> jax.Array:
    """Return the losses among all items, or all on offer, [K, B]; hidden: [K, B, H]."""
    together = None if past is None else (past.item, past.bonus)
    hidden, together = jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), (hidden, together))
    among = None
    if sampler is not None and sampler.offer is not None:
        among = negatives.on_offer(sampler.offer, steps.time.reshape(-1))
    found = losses.full_softmax(
        hidden,
        items.item_out,
        items.item_bias,
        together,
        steps.target.reshape(-1),
        steps.valid.reshape(-1),
        among,
    )
    return found.reshape(steps.target.shape)


def sampled(
    candidates: model.Items,
    extra: jax.Array,
    hidden: jax.Array,
    steps: Steps,
    past: Recalled | None,
    sampler: negatives.Sampler | None,
    *,
    config: TrainConfig,
) -> jax.Array:
    """Return the losses among the lanes' targets, extra negatives and the users' pasts, [K, B].

    candidates: output rows and biases of the targets, [K B], then of the extra negatives, [E], then
    of whatever else; extra: [E] items; hidden: [K, B, H].
    """
    n_own = steps.target.size
    own = candidates.item_out[:n_own].reshape(*steps.target.shape, -1)
    own_bias = candidates.item_bias[:n_own].reshape(steps.target.shape)
    of_step = functools.partial(
        _of_step,
        jax.tree.map(
            lambda rows: rows[n_own : n_own + len(extra)],
            (candidates.item_out, candidates.item_bias),
        ),
        extra,
        sampler,
        config=config,
    )
    return jax.vmap(of_step)((own, own_bias), hidden, steps, past)


def _of_step(
    more: tuple[jax.Array, jax.Array],
    extra: jax.Array,
    sampler: negatives.Sampler | None,
    own: tuple[jax.Array, jax.Array],
    hidden: jax.Array,
    steps: Steps,
    past: Recalled | None,
    *,
    config: TrainConfig,
) -> jax.Array:
    """Return the losses of one time, [B]. more, own: rows and biases, [E, H] and [B, H]."""
    target, valid = steps.target, steps.valid
    row, bias = (jnp.concatenate(both) for both in zip(own, more, strict=True))
    item = jnp.concatenate([target, extra])  # [C]
    scores = hidden @ row.T + bias[None]
    is_own = np.eye(len(target), len(item), dtype=bool)
    among = valid[:, None] & jnp.concatenate([valid, jnp.ones(len(extra), bool)])[None]
    if config.mask_false_negatives:
        among &= (item[None] != target[:, None]) | is_own
    offer = None if sampler is None else sampler.offer
    if offer is not None:
        among &= is_own | negatives.on_offer(offer, steps.time, item)
    if config.log_q:
        # So that the sum over the candidates is in the mean that over all items. A lane's own
        # target is among its candidates in any case.
        assert sampler is not None
        expected = model.rows(sampler.log_expected, item)
        scores -= jnp.where(is_own, 0.0, expected[None])
    if past is not None:
        # Items of the user's past are candidates of their own, each once: were only those scored
        # that are drawn by chance, the bonus would be too large. Nothing is reduced over its last
        # axis: XLA's CPU backend does that number by number.
        same = past.item == target[:, None]
        scores += jnp.where(is_own, jnp.where(same, past.bonus, 0.0).sum(axis=1)[:, None], 0.0)
        among &= is_own | ~(item[None, None] == past.item.T[:, :, None]).any(axis=0)
        again = jnp.einsum("brh,bh->br", past.row, hidden) + past.bias + past.bonus
        scores = jnp.concatenate([scores, again], axis=1)
        there = valid[:, None] & (past.item != NO_ITEM) & ~same
        if offer is not None:
            there &= negatives.on_offer(offer, steps.time, past.item)
        among = jnp.concatenate([among, there], axis=1)
    loss, activation = losses.SAMPLED[config.loss]
    if config.loss == "bpr_max":
        loss = functools.partial(loss, regularisation=config.regularisation)
    # Cleared first: what does not count may be infinite, and its gradient then not a number.
    scores = jnp.where(among, scores, 0.0)
    return loss(losses.ACTIVATIONS[config.activation or activation](scores), among)
