"""Ranks and recommendations from dense scores: of each case, every item that is ranked.

The product of matrices that makes the scores is most of the work, so that nothing else looks at
all of them more often than it must: ranks are counted, not sorted, and only the items of the few
groups whose best score is among the best are sorted at all.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import lanes, model, ranking

GROUP = 64  # G, consecutive items: fewer make more groups to sort, more make more items to sort


class Ranked(NamedTuple):
    """The items that are ranked, dealt into M groups of G: the last is filled up."""

    items: np.ndarray  # [G M], item at each column, NO_ITEM for none
    column: np.ndarray  # [V], column of each item, G M for one that is not ranked
    weights: jax.Array  # [G M, H + 1], its output row and bias
    count: int  # of items


def deal(items: model.Items, chosen: np.ndarray) -> Ranked:
    """Deal the chosen items, ascending, into groups of consecutive ones.

    Group m has the columns m, M + m, 2 M + m, ...: the best scores of all groups are then a
    maximum of G rows of M scores, which compiles to vector instructions.
    """
    filled = np.pad(
        chosen.astype(np.int32), (0, -len(chosen) % GROUP), constant_values=lanes.NO_ITEM
    )
    dealt = filled.reshape(-1, GROUP).T.reshape(-1)
    column = np.full(len(items.item_bias), len(dealt), np.int32)
    held = np.flatnonzero(dealt != lanes.NO_ITEM)
    column[dealt[held]] = held
    return Ranked(dealt, column, _weights(items, jax.device_put(dealt)), len(chosen))


@jax.jit
def _weights(items: model.Items, dealt: jax.Array) -> jax.Array:
    """Put a bias beside each row. What fills the last group scores less than any item."""
    bias = items.item_bias.at[dealt].get(mode="fill", fill_value=-jnp.inf)
    return jnp.concatenate([model.rows(items.item_out, dealt), bias[:, None]], axis=1)


def rank(
    items: model.Items,
    weights: jax.Array,
    hidden: jax.Array,
    target: jax.Array,
    column: jax.Array,
    *,
    n_ranked: int,
    n_first: int,
    ties: ranking.Ties,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Rank the targets of n cases, [n], and find the columns of the `n_first` best, [n, n_first].

    hidden: [n, H]; target: [n], items; column: [n], where the target stands among the ranked;
    rows: cases whose scores are looked through at a time, while the cache still holds them.
    Scores are before the output's tanh, which saturates: items of different scores would tie. A
    score that is not a number counts as above all, and as below all if it is the target's.
    """
    # The bias is the weight of one unit more, which is always 1. TF32 would round it on a GPU.
    one = jnp.ones((len(hidden), 1), hidden.dtype)
    states = jnp.concatenate([hidden, one], axis=1)
    scores = jnp.matmul(states, weights.T, precision="highest")
    outside = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]

    def of_case(case: tuple) -> tuple[jax.Array, jax.Array]:
        scores, column, outside = case
        n_above = _above(scores, column, outside, n_ranked=n_ranked, ties=ties)
        return 1 + n_above, _first(scores, n_ranked=n_ranked, n_first=n_first)

    return jax.lax.map(of_case, (scores, column, outside), batch_size=rows)


def _above(
    scores: jax.Array,
    column: jax.Array,
    outside: jax.Array,
    *,
    n_ranked: int,
    ties: ranking.Ties,
) -> jax.Array:
    """Count the other ranked items that score [G M] above the target.

    A target among the ranked is compared by the very number in its column: no rounding apart.
    """
    inside = column < len(scores)
    own = jnp.where(inside, scores[jnp.minimum(column, len(scores) - 1)], outside)

    def above(scores: jax.Array) -> jax.Array:
        # Written so that a score that is not a number counts against the model.
        return ~(scores <= own) if ties == "for" else ~(scores < own)

    # Small integers add up faster; their sums keep XLA from one reduction that it would not fuse.
    of_groups = above(scores).reshape(GROUP, -1).sum(axis=0, dtype=jnp.uint8)
    # The target itself was counted, and what fills up the last group: its last column is last.
    fill = len(scores) - n_ranked
    return of_groups.sum(dtype=jnp.int32) - (inside & above(own)) - fill * above(scores[-1])


def _first(scores: jax.Array, *, n_ranked: int, n_first: int) -> jax.Array:
    """Find the columns of the `n_first` best scores [G M], of equal ones the lower item first.

    They are in the `n_first` groups of the best maxima, of equal maxima the lower groups. For an
    item of another group has n_first items before it, one of each of those groups: that with the
    maximum, which is higher than its own score, or as high and in a lower group, so a lower item.
    """
    groups = scores.reshape(GROUP, -1)  # [G, M]
    n_groups = groups.shape[1]
    best = _ordered(groups.max(axis=0))
    # In order again, so that what is gathered is in the order of the items.
    chosen = jnp.sort(jax.lax.top_k(best, min(n_first, n_groups))[1])
    member = jnp.arange(GROUP)[None]
    place = chosen[:, None] * GROUP + member  # in the order of the items
    few = jnp.where(place < n_ranked, _ordered(groups[:, chosen].T), -jnp.inf)
    column = (member * n_groups + chosen[:, None]).reshape(-1)
    return column[jax.lax.top_k(few.reshape(-1), n_first)[1]]


def _ordered(scores: jax.Array) -> jax.Array:
    """Put what is not a number above all: its place in top_k depends on its sign."""
    return jnp.where(jnp.isnan(scores), jnp.inf, scores)
