"""Ranking losses over a mini-batch's candidates (Section 3.1) and their successors.

Scores [N, C] are those of lane i's representation (row) for C candidates. The first N are the
lanes' targets: the diagonal holds each lane's own, and another lane's serves as a negative sample.
Further ones are extra negatives. `among` [N, C] says which candidates count for a lane; where its
own does not, there is no target: padding equals absence. A loss takes r, the scores after the
output's activation, and returns one value a lane, [N], 0 where there is no target.

The max-losses are those of Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for
Session-based Recommendations" (CIKM 2018): negatives count by their softmax, so that those learn
that rank high.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax import model
from hrnn_jax.config import TrainConfig
from hrnn_jax.extras import negatives, user_past
from hrnn_jax.user_batches import NO_ITEM, Array, Steps

_TINY = 1e-24  # inside the logarithm of bpr_max

# Of the output, before the loss; ranks are those of the scores before it, which it keeps in order.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "linear": lambda scores: scores,
    "relu": jax.nn.relu,
    "elu": lambda scores: jax.nn.elu(scores, alpha=0.5),  # as published with bpr_max
}


def of_batch(where: jax.Array) -> jax.Array:
    """Return `among` of a mini-batch alone: the lanes that have a target [N] see each other's."""
    return where[:, None] & where[None, :]


def top1(r: jax.Array, among: jax.Array) -> jax.Array:
    """TOP1: mean_j [s(r_j - r_i) + s(r_j^2)] - s(r_i^2) / N, s = sigmoid."""
    r = _present(r, among)
    own = jnp.diagonal(r)
    terms = jax.nn.sigmoid(r - own[:, None]) + jax.nn.sigmoid(r**2)
    return _mean(_less_own(terms, jax.nn.sigmoid(own**2)), among)


def bpr(r: jax.Array, among: jax.Array) -> jax.Array:
    """BPR: mean_j -log s(r_i - r_j)."""
    r = _present(r, among)
    return _mean(-jax.nn.log_sigmoid(jnp.diagonal(r)[:, None] - r), among)


def top1_max(r: jax.Array, among: jax.Array) -> jax.Array:
    """TOP1-max: sum_j w_j [s(r_j - r_i) + s(r_j^2)], w the softmax of the negatives' r."""
    r, weight = _weighed(r, among)
    own = jnp.diagonal(r)[:, None]
    return (weight * (jax.nn.sigmoid(r - own) + jax.nn.sigmoid(r**2))).sum(axis=1)


def bpr_max(r: jax.Array, among: jax.Array, *, regularisation: float = 0.0) -> jax.Array:
    """BPR-max: -log sum_j w_j s(r_i - r_j) + regularisation sum_j w_j r_j^2, w as in TOP1-max."""
    r, weight = _weighed(r, among)
    own = jnp.diagonal(r)[:, None]
    won = (weight * jax.nn.sigmoid(own - r)).sum(axis=1)
    any_ = weight.any(axis=1)
    penalty = regularisation * (weight * r**2).sum(axis=1)
    return jnp.where(any_, penalty - jnp.log(jnp.where(any_, won, 1.0) + _TINY), 0.0)


def cross_entropy(r: jax.Array, among: jax.Array) -> jax.Array:
    """Cross-entropy of the softmax over the candidates: log sum_j exp(r_j) - r_i."""
    r, where = _present(r, among), jnp.diagonal(among)
    someone = among | ~where[:, None]  # the logarithm of an empty sum has no gradient
    total = jax.nn.logsumexp(r, axis=1, where=someone)
    return jnp.where(where, total - jnp.diagonal(r), 0.0)


@jax.custom_vjp
def full_softmax(
    hidden: jax.Array,
    item_out: jax.Array,
    item_bias: jax.Array,
    past: tuple[jax.Array, jax.Array] | None,
    target: jax.Array,
    where: jax.Array,
    among: jax.Array | None = None,
) -> jax.Array:
    """Cross-entropy of the softmax over the catalogue, [N], of representations [N, H].

    item_out: [V, H] and item_bias: [V], which score them. past: items [N, R], none twice in a row,
    and what is added to their scores [N, R]. target: [N]. among: [N, V], which items count, the
    target in any case; all by default.

    The gradient is written out: exp(scores) stays as it is, to be scaled where it is small, in
    [N, H], before and after the products, and no array [N, V] is made but that.
    """
    return _full_softmax(hidden, item_out, item_bias, past, target, where, among)[0]


def _full_softmax(
    hidden: jax.Array,
    item_out: jax.Array,
    item_bias: jax.Array,
    past: tuple[jax.Array, jax.Array] | None,
    target: jax.Array,
    where: jax.Array,
    among: jax.Array | None,
) -> tuple[jax.Array, tuple]:
    hidden = jnp.where(where[:, None], hidden, 0.0)
    bias = item_bias[None]
    if among is not None:
        is_own = jnp.arange(len(item_out))[None] == target[:, None]
        bias = jnp.where(among | is_own | ~where[:, None], bias, -jnp.inf)
    scores = hidden @ item_out.T + bias
    if past is not None:
        item, bonus = past
        bonus = jnp.where(where[:, None], bonus, 0.0)
        scores = jax.vmap(user_past.add_at)(scores, item, bonus)
    own = jnp.take_along_axis(scores, jnp.where(where, target, 0)[:, None], axis=1)[:, 0]
    top = scores.max(axis=1)
    weight = jnp.exp(scores - top[:, None])
    total = weight.sum(axis=1)
    found = jnp.where(where, jnp.log(total) + top - own, 0.0)
    return found, (hidden, item_out, past, target, where, weight, total)


def _full_softmax_gradient(kept: tuple, given: jax.Array) -> tuple:
    hidden, item_out, past, target, where, weight, total = kept
    weight = jax.vmap(user_past.add_at)(
        weight, target, -total
    )  # softmax minus one-hot, times the total
    scale = jnp.where(where, given / total, 0.0)
    if past is not None:
        item = past[0]
        at_past = jax.vmap(lambda row, item: row.at[item].get(mode="fill", fill_value=0))
        past = None, scale[:, None] * at_past(weight, item)
    return (
        scale[:, None] * (weight @ item_out),
        weight.T @ (scale[:, None] * hidden),
        scale @ weight,
        past,
        None,
        None,
        None,
    )


full_softmax.defvjp(_full_softmax, _full_softmax_gradient)


def _present(r: jax.Array, among: jax.Array) -> jax.Array:
    """Clear the scores that do not count: not even a NaN there may reach a gradient."""
    return jnp.where(among, r, 0.0)


def _less_own(terms: jax.Array, own: jax.Array) -> jax.Array:
    """Subtract a value from each lane's term for its own target."""
    return terms - jnp.pad(jnp.diag(own), ((0, 0), (0, terms.shape[1] - len(own))))


def _weighed(r: jax.Array, among: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the scores and each negative's weight, zeros where a lane has none."""
    r, where = _present(r, among), jnp.diagonal(among)
    negative = among & where[:, None] & ~jnp.eye(*among.shape, dtype=bool)
    any_ = negative.any(axis=1, keepdims=True)
    weight = jax.nn.softmax(r, axis=1, where=negative | ~any_)
    return r, jnp.where(negative, weight, 0.0)


def _mean(terms: jax.Array, among: jax.Array) -> jax.Array:
    total = jnp.where(among, terms, 0.0).sum(axis=1)
    n_candidates = jnp.maximum(among.sum(axis=1), 1)
    return jnp.where(jnp.diagonal(among), total / n_candidates, 0.0)


# Each with the output's activation that it was published with.
SAMPLED: dict[str, tuple[Callable[..., jax.Array], str]] = {
    "top1": (top1, "tanh"),
    "bpr": (bpr, "tanh"),
    "top1_max": (top1_max, "tanh"),
    "bpr_max": (bpr_max, "elu"),
    "cross_entropy": (cross_entropy, "linear"),
}
NAMES = (*SAMPLED, "full_softmax")


@struct.dataclass
class Recalled:
    """The items of the users' pasts at one or more times, [..., R], and what is scored of them."""

    item: jax.Array
    bonus: jax.Array  # what is added to their scores
    row: Array = None  # [..., R, H] of item_out, constants; not for full softmax
    bias: Array = None  # [..., R]


def among_all(
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
    found = full_softmax(
        hidden,
        items.item_out,
        items.item_bias,
        together,
        steps.target.reshape(-1),
        steps.valid.reshape(-1),
        among,
    )
    return found.reshape(steps.target.shape)


def among_candidates(
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
        expected = model.gather_rows(sampler.log_expected, item)
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
    loss, activation = SAMPLED[config.loss]
    if config.loss == "bpr_max":
        loss = functools.partial(loss, regularisation=config.regularisation)
    # Cleared first: what does not count may be infinite, and its gradient then not a number.
    scores = jnp.where(among, scores, 0.0)
    return loss(ACTIVATIONS[config.activation or activation](scores), among)
