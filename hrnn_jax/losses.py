"""Candidates, their scores (Eq. 2) and the ranking losses: TOP1 (Section 3.1), BPR, cross-entropy.

A lane's candidates are its own target, the other lanes' targets as negative samples, and extra
negatives that all lanes share. The functions from `top1` to `cross_entropy` take scores of
candidates and say which of them count: a lane without a target has no loss, no gradient, and is no
other lane's negative. `full_softmax` takes all items as candidates.

TOP1 and BPR: Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based Recommendations with Recurrent
Neural Networks" (ICLR 2016). TOP1-max and BPR-max: Hidasi and Karatzoglou, "Recurrent Neural
Networks with Top-k Gains for Session-based Recommendations" (CIKM 2018).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.config import LOSSES, TrainConfig, add_loss
from hrnn_jax.errors import InputError
from hrnn_jax.extras import negatives
from hrnn_jax.files import registered_code
from hrnn_jax.model import Items, gather_rows
from hrnn_jax.training.user_batches import NO_ITEM, Array, Steps

_TINY = 1e-24  # inside the logarithm of bpr_max

# Of the output, g in Eq. 2, before the loss. Ranks are those of the scores before the activation,
# which keeps their order.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "linear": lambda scores: scores,
    "relu": jax.nn.relu,
    "elu": lambda scores: jax.nn.elu(scores, alpha=0.5),  # as published with bpr_max
}


def top1(r: jax.Array, among: jax.Array) -> jax.Array:
    """Compute TOP1: the approximate relative rank of the target, and a penalty on large scores.

    Section 3.1 of the paper; Hidasi et al., 2016, "Session-based Recommendations with Recurrent
    Neural Networks".

    Args:
        r: [N, C] scores after the output's activation: lane i's of candidate j. Candidates 0..N-1
            are the lanes' targets, so the diagonal holds each lane's own.
        among: [N, C] bool, whether candidate j counts for lane i; where a lane's own does not, the
            lane has no target.

    Returns:
        [N] the loss of each lane, 0 without a target: with r_i the target's score, s the sigmoid
        and the mean over the N_i candidates that count,

            mean_j [s(r_j - r_i) + s(r_j^2)] - s(r_i^2) / N_i
    """
    r = _counting(r, among)
    own = _own(r)
    terms = jax.nn.sigmoid(r - own[:, None]) + jax.nn.sigmoid(r**2)
    return _mean(_subtract_own(terms, jax.nn.sigmoid(own**2)), among)


def bpr(r: jax.Array, among: jax.Array) -> jax.Array:
    """Compute BPR: the mean logistic loss of the target against each candidate.

    Rendle et al., 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback"; Hidasi et
    al., 2016, "Session-based Recommendations with Recurrent Neural Networks".

    Args:
        r: [N, C] scores, see `top1`.
        among: [N, C] bool, which candidates count, see `top1`.

    Returns:
        [N] the loss of each lane, 0 without a target:

            mean_j [-log s(r_i - r_j)]
    """
    r = _counting(r, among)
    return _mean(-jax.nn.log_sigmoid(_own(r)[:, None] - r), among)


def top1_max(r: jax.Array, among: jax.Array) -> jax.Array:
    """Compute TOP1-max: TOP1 with each negative weighted by its softmax among the negatives.

    Hidasi and Karatzoglou, 2018, "Recurrent Neural Networks with Top-k Gains for Session-based
    Recommendations".

    Args:
        r: [N, C] scores, see `top1`.
        among: [N, C] bool, which candidates count, see `top1`.

    Returns:
        [N] the loss of each lane, 0 without a target or a negative:

            sum_j w_j [s(r_j - r_i) + s(r_j^2)],  w = softmax(r) over the negatives
    """
    r, weight = _negative_weights(r, among)
    own = _own(r)[:, None]
    return (weight * (jax.nn.sigmoid(r - own) + jax.nn.sigmoid(r**2))).sum(axis=1)


def bpr_max(r: jax.Array, among: jax.Array, *, regularisation: float = 0.0) -> jax.Array:
    """Compute BPR-max: BPR with each negative weighted by its softmax among the negatives.

    Hidasi and Karatzoglou, 2018, "Recurrent Neural Networks with Top-k Gains for Session-based
    Recommendations".

    Args:
        r: [N, C] scores, see `top1`.
        among: [N, C] bool, which candidates count, see `top1`.
        regularisation: weight of the penalty on the negatives' scores.

    Returns:
        [N] the loss of each lane, 0 without a target or a negative:

            -log sum_j w_j s(r_i - r_j) + regularisation sum_j w_j r_j^2,  w as in `top1_max`
    """
    r, weight = _negative_weights(r, among)
    own = _own(r)[:, None]
    won = (weight * jax.nn.sigmoid(own - r)).sum(axis=1)
    has_negative = weight.any(axis=1)
    penalty = regularisation * (weight * r**2).sum(axis=1)
    loss = penalty - jnp.log(jnp.where(has_negative, won, 1.0) + _TINY)
    return jnp.where(has_negative, loss, 0.0)


def cross_entropy(r: jax.Array, among: jax.Array) -> jax.Array:
    """Compute the cross-entropy of the softmax over the candidates.

    Section 3.1 names it; Hidasi and Karatzoglou, 2018, "Recurrent Neural Networks with Top-k Gains
    for Session-based Recommendations", use it over sampled candidates as here.

    Args:
        r: [N, C] scores, see `top1`.
        among: [N, C] bool, which candidates count, see `top1`.

    Returns:
        [N] the loss of each lane, 0 without a target:

            log sum_j exp(r_j) - r_i
    """
    r, has_target = _counting(r, among), jnp.diagonal(among)
    summed = among | ~has_target[:, None]  # the logarithm of an empty sum has no gradient
    total = jax.nn.logsumexp(jnp.where(summed, r, -jnp.inf), axis=1)
    return jnp.where(has_target, total - _own(r), 0.0)


# Each with the output's activation that it was published with.
SAMPLED: dict[str, tuple[Callable[..., jax.Array], str]] = {
    "top1": (top1, "tanh"),
    "bpr": (bpr, "tanh"),
    "top1_max": (top1_max, "tanh"),
    "bpr_max": (bpr_max, "elu"),
    "cross_entropy": (cross_entropy, "linear"),
}


def register(
    name: str, loss: Callable[[jax.Array, jax.Array], jax.Array], *, activation: str = "linear"
) -> None:
    """Add a loss, which `TrainConfig` then accepts by its name.

    Register it before the commands are imported, as their flags are made from the configs.

    Args:
        name: that of no other loss.
        loss: takes scores and what counts among them, [N, C] each, and returns the loss of each
            lane, [N]; see `top1`. It is compiled by jax, and its gradient taken.
        activation: of the output before the loss, one of `ACTIVATIONS`, where the config names no
            other.

    Raises:
        InputError: there is a loss of this name, or no such activation.
    """
    if name in LOSSES:
        raise InputError(f"`name`={name}: there is a loss of this name, choose another")
    if activation not in ACTIVATIONS:
        raise InputError(f"`activation`={activation}: give one of {', '.join(ACTIVATIONS)}")
    SAMPLED[name] = loss, activation
    registered_code.note("loss", name, loss)
    add_loss(name)


def _own(r: jax.Array) -> jax.Array:
    """Return the score of each lane's own target, [N]; its gradient is no scatter."""
    return jnp.where(np.eye(len(r), dtype=bool), r[:, : len(r)], 0.0).sum(axis=1)


def _counting(r: jax.Array, among: jax.Array) -> jax.Array:
    """Clear the scores that do not count: not even a NaN there may reach a gradient."""
    return jnp.where(among, r, 0.0)


def _subtract_own(terms: jax.Array, own: jax.Array) -> jax.Array:
    """Subtract `own` [N] from each lane's term for its own target."""
    return terms - jnp.pad(jnp.diag(own), ((0, 0), (0, terms.shape[1] - len(own))))


def _negative_weights(r: jax.Array, among: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the scores and each negative's softmax weight, zeros where a lane has none."""
    r, has_target = _counting(r, among), jnp.diagonal(among)
    negative = among & has_target[:, None] & ~jnp.eye(*among.shape, dtype=bool)
    has_negative = negative.any(axis=1, keepdims=True)
    weight = jax.nn.softmax(r, axis=1, where=negative | ~has_negative)
    return r, jnp.where(negative, weight, 0.0)


def _mean(terms: jax.Array, among: jax.Array) -> jax.Array:
    total = jnp.where(among, terms, 0.0).sum(axis=1)
    n_candidates = jnp.maximum(among.sum(axis=1), 1)
    return jnp.where(jnp.diagonal(among), total / n_candidates, 0.0)


@struct.dataclass
class OutputRows:
    """Items with their rows and biases of the output layer, which score them."""

    item: Array  # [..., N] int32, NO_ITEM for none
    row: Array  # [..., N, H]
    bias: Array  # [..., N]


@struct.dataclass
class Candidates:
    """What the targets of K steps are compared with."""

    target: OutputRows  # [K, B]
    extra: OutputRows  # [E], the same for all steps and lanes
    others: OutputRows | None = None  # [K, O] targets of lanes that are on other devices


def sampled_loss(
    candidates: Candidates,
    hidden: jax.Array,
    steps: Steps,
    sampler: negatives.Sampler | None,
    *,
    config: TrainConfig,
) -> jax.Array:
    """Compute the configured loss of K steps among their candidates.

    Args:
        candidates: of these steps.
        hidden: [K, B, H] the representations that are scored.
        steps: K of them.
        sampler: which items are on offer when, and how often each is expected as a candidate (for
            `log_q`); None for a config that asks for neither.
        config: names the loss and its settings.

    Returns:
        [K, B] losses, 0 where a lane has no target.
    """
    of_step = functools.partial(_sampled_loss_of_step, config=config)
    axes: Any = Candidates(target=0, extra=None, others=0)  # pyright: ignore
    return jax.vmap(of_step, in_axes=(axes, 0, 0, None))(candidates, hidden, steps, sampler)


def _sampled_loss_of_step(
    candidates: Candidates,
    hidden: jax.Array,
    steps: Steps,
    sampler: negatives.Sampler | None,
    *,
    config: TrainConfig,
) -> jax.Array:
    """Compute the losses of one step, [B]: `sampled_loss` without the axis of steps."""
    target, valid = steps.target, steps.valid
    n_extra = len(candidates.extra.item)
    others = [] if candidates.others is None else [candidates.others]
    # C = B + E candidates that all lanes share, and perhaps those of other devices.
    shared = jax.tree.map(
        lambda *rows: jnp.concatenate(rows), candidates.target, candidates.extra, *others
    )
    scores = item_scores(hidden, shared.row) + shared.bias[None]
    is_own = np.eye(len(target), len(shared.item), dtype=bool)
    among = (
        valid[:, None]
        & jnp.concatenate(
            [valid, jnp.ones(n_extra, bool), *(rows.item != NO_ITEM for rows in others)]
        )[None]
    )
    if config.mask_false_negatives:
        among &= (shared.item[None] != target[:, None]) | is_own
    offer = None if sampler is None else sampler.offer
    if offer is not None:
        among &= is_own | negatives.on_offer(offer, steps.time, shared.item)
    if config.log_q:
        # Then the sum over the candidates is in the mean the sum over all items, provided that a
        # lane's own item, which counts in full, is masked among its negatives.
        assert sampler is not None
        expected = gather_rows(sampler.log_expected, shared.item)
        scores -= jnp.where(is_own, 0.0, expected[None])
    loss, activation = SAMPLED[config.loss]
    if config.loss == "bpr_max":
        loss = functools.partial(loss, regularisation=config.regularisation)
    # Cleared first: a score that does not count may be infinite, and its gradient then NaN.
    scores = _counting(scores, among)
    values = loss(ACTIVATIONS[config.activation or activation](scores), among)
    _check_shape(config.loss, values, len(target))
    return values


def _check_shape(name: str, values: Any, n_lanes: int) -> None:
    """Raise InputError unless a loss returned a value for each lane; others would broadcast."""
    shape = getattr(values, "shape", None)
    if shape != (n_lanes,):
        returned = type(values).__name__ if shape is None else f"the shape {list(shape)}"
        raise InputError(
            f"`loss`={name} returned {returned}, and [{n_lanes}] is expected: one value for each "
            f"of the {n_lanes} lanes, the rows of the scores"
        )


def item_scores(hidden: jax.Array, row: jax.Array) -> jax.Array:
    """Compute the scores of items, without their biases.

    `hidden @ row.T` is slower: XLA copies the transposed rows, and its gradient reads the copy.

    Args:
        hidden: [N, H] the representations that are scored.
        row: [C, H] the items' rows of the output layer.

    Returns:
        [N, C] scores.
    """
    return jnp.einsum("nh,ch->nc", hidden, row)


def full_softmax_loss(
    items: Items,
    hidden: jax.Array,
    steps: Steps,
    sampler: negatives.Sampler | None,
) -> jax.Array:
    """Compute `full_softmax` of K steps over all items, or all on offer at the target's time.

    Args:
        items: the output layer's rows and biases.
        hidden: [K, B, H] the representations that are scored.
        steps: K of them.
        sampler: which items are on offer when, if the config asks for it.

    Returns:
        [K, B] losses, 0 where a lane has no target.
    """
    hidden = hidden.reshape(-1, hidden.shape[-1])
    among = None
    if sampler is not None and sampler.offer is not None:
        among = negatives.on_offer(sampler.offer, steps.time.reshape(-1))
    target, where = steps.target.reshape(-1), steps.valid.reshape(-1)
    output = Items(item_in=None, item_out=items.item_out, item_bias=items.item_bias)
    return full_softmax(hidden, output, target, where, among).reshape(steps.target.shape)


@jax.custom_vjp
def full_softmax(
    hidden: jax.Array,
    items: Items,
    target: jax.Array,
    where: jax.Array,
    among: jax.Array | None = None,
) -> jax.Array:
    """Compute the cross-entropy of the softmax over the catalogue, with its gradient written out.

    exp(scores) stays as it is and is scaled where that is cheap, in [N, H], before and after the
    products: no other array [N, V] is made.

    Args:
        hidden: [N, H] the representations that are scored.
        items: the output layer's rows [V, H] and biases [V]; `item_in` is None.
        target: [N] int32.
        where: [N] bool, whether the lane has a target.
        among: [N, V] bool, which items count; the target does in any case. None for all.

    Returns:
        [N] the losses, 0 without a target: with r the scores over all items,

            log sum_j exp(r_j) - r_target
    """
    return _full_softmax_forward(hidden, items, target, where, among)[0]


def _full_softmax_forward(
    hidden: jax.Array,
    items: Items,
    target: jax.Array,
    where: jax.Array,
    among: jax.Array | None,
) -> tuple[jax.Array, tuple[Any, ...]]:
    hidden = jnp.where(where[:, None], hidden, 0.0)
    bias = items.item_bias[None]
    if among is not None:
        is_own = jnp.arange(len(items.item_out))[None] == target[:, None]
        bias = jnp.where(among | is_own | ~where[:, None], bias, -jnp.inf)
    scores = item_scores(hidden, items.item_out) + bias
    own = jnp.take_along_axis(scores, jnp.where(where, target, 0)[:, None], axis=1)[:, 0]
    top = scores.max(axis=1)
    weight = jnp.exp(scores - top[:, None])
    total = weight.sum(axis=1)
    loss = jnp.where(where, jnp.log(total) + top - own, 0.0)
    return loss, (hidden, items.item_out, target, where, weight, total)


def _full_softmax_backward(saved: tuple[Any, ...], grad: jax.Array) -> tuple[Any, ...]:
    hidden, item_out, target, where, weight, total = saved
    # Softmax minus one-hot, times the total.
    weight = jax.vmap(_add_at)(weight, target, -total)
    scale = jnp.where(where, grad / total, 0.0)
    items = Items(
        item_in=None, item_out=weight.T @ (scale[:, None] * hidden), item_bias=scale @ weight
    )
    return scale[:, None] * (weight @ item_out), items, None, None, None


def _add_at(scores: jax.Array, item: jax.Array, value: jax.Array) -> jax.Array:
    return scores.at[item].add(value, mode="drop")


full_softmax.defvjp(_full_softmax_forward, _full_softmax_backward)
