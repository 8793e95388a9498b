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

from hrnn_jax import model
from hrnn_jax.config import Ties
from hrnn_jax.extras import item_neighbours, user_past

GROUP = 48  # items of a group: fewer make more groups to sort, more make more items to sort


@struct.dataclass
class Bonus:
    """What is added to the scores of some items, of n users."""

    item: jax.Array  # [n, M], NO_ITEM for none; one may come more than once
    column: jax.Array  # [n, M], where the item stands among the ranked, or beyond them
    value: jax.Array  # [n, M]


def bonus(
    table: item_neighbours.Table | None,
    recalled: tuple[jax.Array, jax.Array] | None,
    recent: jax.Array | None,
    columns: jax.Array,
) -> Bonus | None:
    """Return what is added to the scores of n users, None for a network that adds nothing.

    recalled: [n, R] each, see `model.past_bonus`; recent: [n, L], see `user_past.recent_items`;
    columns: [V], those of all items.
    """
    given = [] if recalled is None else [recalled]
    if table is not None and recent is not None:
        given.append(item_neighbours.bonus_after(table, recent))
    if not given:
        return None
    item, value = (jnp.concatenate(parts, axis=1) for parts in zip(*given, strict=True))
    column = columns.at[item].get(mode="fill", fill_value=len(columns))
    return Bonus(item=item, column=column, value=value)


def of_items(scores: jax.Array, item: jax.Array, bonus: Bonus | None) -> jax.Array:
    """Add to the scores [n] of one item each, [n]; bonus: of n users, or of one."""
    if bonus is None:
        return scores
    return scores + jnp.where(bonus.item == item[:, None], bonus.value, 0.0).sum(axis=1)


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
    bonus: Bonus | None,
    *,
    n_first: int,
    ties: Ties,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Rank the targets of n cases, [n], and find the columns of the `n_first` best, [n, n_first].

    ranked: output rows and biases of the items, as dealt; hidden: [n, H]; target: [n] items;
    column: [n], where the target stands among the ranked, or their number if it does not; bonus: of
    a network that adds one; rows: cases, a divisor of n, whose scores are looked through while the
    cache holds them. Scores are before the output's tanh, which saturates: items of different
    scores would tie. One that is not a number counts as above all, and as below all if it is the
    target's.
    """
    item_out, item_bias = ranked
    products = hidden @ item_out.T
    outside = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]
    outside = of_items(outside, target, bonus)

    def of_case(case: tuple) -> tuple[jax.Array, jax.Array]:
        product, bonus, column, outside = case
        scores = _with(product + item_bias, bonus)
        return 1 + _above(scores, column, outside, ties=ties), _first(scores, n_first)

    return jax.lax.map(of_case, (products, bonus, column, outside), batch_size=rows)


def best(
    ranked: tuple[jax.Array, jax.Array],
    hidden: jax.Array,
    bonus: Bonus | None,
    *,
    n_first: int,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Find the columns of the `n_first` best of n cases, and their scores: [n, n_first] each.

    Arguments as of `rank`; rows need not divide n.
    """
    item_out, item_bias = ranked

    def of_case(case: tuple) -> tuple[jax.Array, jax.Array]:
        product, bonus = case
        scores = _with(product + item_bias, bonus)
        columns = _first(scores, n_first)
        return columns, scores[columns]

    return jax.lax.map(of_case, (hidden @ item_out.T, bonus), batch_size=rows)


def _with(scores: jax.Array, bonus: Bonus | None) -> jax.Array:
    """Add to the scores [V] of a case."""
    return scores if bonus is None else user_past.add_at(scores, bonus.column, bonus.value)


def _above(scores: jax.Array, column: jax.Array, outside: jax.Array, *, ties: Ties) -> jax.Array:
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
