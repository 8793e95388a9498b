"""Ranks and recommendations from dense scores: of each case, every item that is ranked.

The product of matrices that makes the scores is most of the work, so that nothing else looks at
all of them more often than it must: ranks are counted, not sorted, and only the items of the few
groups whose best score is among the best are sorted at all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax import model, neighbours, ranking
from hrnn_jax import past as past_lib

GROUP = 48  # items of a group: fewer make more groups to sort, more make more items to sort


@struct.dataclass
class Past:
    """What is added to the scores of items of the past of n users."""

    item: jax.Array  # [n, R], see `model.recall`
    column: jax.Array  # [n, R], where the item stands among the ranked, or beyond them
    bonus: jax.Array  # [n, R]


@struct.dataclass
class Near:
    """What is mixed into the scores of the items nearest to the last ones of n users."""

    item: jax.Array  # [n, K]
    column: jax.Array  # [n, K], where the item stands among the ranked, or beyond them
    score: jax.Array  # [n, K], the logarithm of what e^score gains; -inf for no item


def beside(
    items: model.Items,
    table: neighbours.Table | None,
    hidden: jax.Array,
    recalled: tuple[jax.Array, jax.Array] | None,
    gated: tuple[jax.Array, jax.Array] | None,
    columns: jax.Array,
) -> tuple[Past | None, Near | None]:
    """Return what is added to the scores of n users, and what is mixed into them.

    hidden: [n, H]; recalled, gated: [n, ...] each, see `model.recall` and `model.gate_last`;
    columns: [V], those of all items. (1 - g) e^s / total + g P orders items as
    e^s + total g / (1 - g) P does: what is mixed in is put on the scale of the scores.
    """

    def column(item: jax.Array) -> jax.Array:
        return columns.at[item].get(mode="fill", fill_value=len(columns))

    past = near = None
    if recalled is not None:
        item, bonus = recalled
        past = Past(item=item, column=column(item), bonus=bonus)
    if gated is not None and table is not None:
        last, gate = gated
        found = neighbours.nearest(table, last, gate)
        score = found.log_odds + _log_total(items, hidden, recalled)[:, None]
        near = Near(item=found.item, column=column(found.item), score=score)
    return past, near


def of_items(scores: jax.Array, item: jax.Array, past: Past | None, near: Near | None) -> jax.Array:
    """Add and mix into the scores [n] of one item each, [n]; past, near: of n users, or of one."""
    if past is not None:
        scores += jnp.where(past.item == item[:, None], past.bonus, 0.0).sum(axis=1)
    if near is not None:
        gain = jnp.where(near.item == item[:, None], near.score, -jnp.inf).max(axis=1)
        scores = jnp.logaddexp(scores, gain)
    return scores


def _log_total(
    items: model.Items, hidden: jax.Array, past: tuple[jax.Array, jax.Array] | None
) -> jax.Array:
    """Return the logarithm of the sum of e^score over all items, [n]."""
    scores = hidden @ items.item_out.T + items.item_bias[None]
    if past is not None:
        scores = jax.vmap(past_lib.onto)(scores, *past)
    return jax.nn.logsumexp(scores, axis=1)


def deal(chosen: np.ndarray) -> np.ndarray:
    """Order ascending items so that column c is of group c mod M: M groups, each of a range.

    The best scores of all groups are then a maximum of rows of M columns, which compiles to vector
    instructions. The last row may be cut off: some groups have one item less.
    """
    n_groups = -(-len(chosen) // GROUP)
    columns = np.arange(len(chosen))
    dealt = np.empty_like(chosen)
    dealt[np.argsort(columns % n_groups, kind="stable")] = chosen
    return dealt


def rank(
    items: model.Items,
    ranked: tuple[jax.Array, jax.Array],
    hidden: jax.Array,
    target: jax.Array,
    column: jax.Array,
    past: Past | None,
    near: Near | None = None,
    *,
    n_first: int,
    ties: ranking.Ties,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Rank the targets of n cases, [n], and find the columns of the `n_first` best, [n, n_first].

    ranked: output rows and biases of the items, as dealt; hidden: [n, H]; target: [n] items;
    column: [n], where the target stands among the ranked, or their number if it does not; past,
    near: of a network that looks at them; rows: cases, a divisor of n, whose scores are looked
    through while the cache holds them. Scores are before the output's tanh, which saturates: items
    of different scores would tie. One that is not a number counts as above all, and as below all if
    it is the target's.
    """
    item_out, item_bias = ranked
    products = hidden @ item_out.T
    outside = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]
    outside = of_items(outside, target, past, near)

    def of_case(case: tuple) -> tuple[jax.Array, jax.Array]:
        product, past, near, column, outside = case
        scores = _with_near(_with_past(product + item_bias, past), near)
        return 1 + _above(scores, column, outside, ties=ties), _first(scores, n_first)

    return jax.lax.map(of_case, (products, past, near, column, outside), batch_size=rows)


def best(
    ranked: tuple[jax.Array, jax.Array],
    hidden: jax.Array,
    past: Past | None,
    near: Near | None = None,
    *,
    n_first: int,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Find the columns of the `n_first` best of n cases, and their scores: [n, n_first] each.

    Arguments as of `rank`; rows need not divide n.
    """
    item_out, item_bias = ranked

    def of_case(case: tuple) -> tuple[jax.Array, jax.Array]:
        product, past, near = case
        scores = _with_near(_with_past(product + item_bias, past), near)
        columns = _first(scores, n_first)
        return columns, scores[columns]

    return jax.lax.map(of_case, (hidden @ item_out.T, past, near), batch_size=rows)


def _with_past(scores: jax.Array, past: Past | None) -> jax.Array:
    """Add to the scores [V] of a case what the user's past adds."""
    return scores if past is None else past_lib.onto(scores, past.column, past.bonus)


def _with_near(scores: jax.Array, near: Near | None) -> jax.Array:
    """Mix into the scores [V] of a case, with those of the past, what is near to its last item."""
    if near is None:
        return scores
    before = scores.at[near.column].get(mode="fill", fill_value=0)
    return scores.at[near.column].set(jnp.logaddexp(before, near.score), mode="drop")


def _above(
    scores: jax.Array, column: jax.Array, outside: jax.Array, *, ties: ranking.Ties
) -> jax.Array:
    """Count the other ranked items that score [V] above the target.

    A target among the ranked is compared by the very number in its column: no rounding apart.
    """
    inside = column < len(scores)
    own = jnp.where(inside, scores[jnp.minimum(column, len(scores) - 1)], outside)

    def above(scores: jax.Array) -> jax.Array:
        # Written so that a score that is not a number counts against the model.
        return ~(scores <= own) if ties == "for" else ~(scores < own)

    # Bytes add up faster, and not in one reduction with the rest, which XLA would not fuse.
    rows, rest = _by_group(scores)
    n_above = above(rows).sum(axis=0, dtype=jnp.uint8).sum(dtype=jnp.int32) + above(rest).sum()
    return n_above - (inside & above(own))  # itself is not another


def _first(scores: jax.Array, n_first: int) -> jax.Array:
    """Find the columns of the `n_first` best scores [V], of equal ones the lower item first.

    They are in the `n_first` groups of the best maxima, of equal maxima the lower groups. For an
    item of another group has n_first items before it, one of each of those groups: that with the
    maximum, which is higher than its own score, or as high and in a lower group, so a lower item.
    """
    rows, rest = _by_group(scores)
    n_groups = rows.shape[1]
    rest = jnp.pad(rest, (0, n_groups - len(rest)), constant_values=-jnp.inf)
    maxima = _ordered(jnp.maximum(rows.max(axis=0), rest))
    best = jax.lax.top_k(maxima, min(n_first, n_groups))[1]
    # By group again, and in a group by column: in the order of the items.
    column = (jnp.sort(best)[:, None] + n_groups * jnp.arange(GROUP)[None]).reshape(-1)
    few = jnp.where(column < len(scores), _ordered(scores[column]), -jnp.inf)
    return column[jax.lax.top_k(few, n_first)[1]]


def _by_group(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cut the columns [V] into full rows [R, M] and the rest, less than M."""
    n_groups = -(-len(scores) // GROUP)
    full = len(scores) // n_groups * n_groups
    return scores[:full].reshape(-1, n_groups), scores[full:]


def _ordered(scores: jax.Array) -> jax.Array:
    """Put what is not a number above all, where top_k goes by its sign; nothing is infinite."""
    return jnp.nan_to_num(scores, nan=jnp.finfo(scores.dtype).max)
