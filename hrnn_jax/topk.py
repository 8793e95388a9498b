"""Ranks and recommendation lists from dense scores: every ranked item of every case is scored.

The matrix product that makes the scores is most of the work, so all scores are read as few times as
possible: ranks are counted, not sorted, and only the items of a few groups are sorted, those whose
best scores are the highest.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.config import Ties
from hrnn_jax.extras import item_neighbours, user_past
from hrnn_jax.model import Carry, DenseWeights, Items, past_bonus

GROUP = 48  # items of a group: fewer make more groups to sort, more make more items to sort


@struct.dataclass
class RankedItems:
    """The M items that are ranked, in the order of the columns of the scores, see `arrange`."""

    item: jax.Array  # [M] int32 item of each column
    item_out: jax.Array  # [M, H]
    item_bias: jax.Array  # [M]
    column: jax.Array  # [V] int32 column of each item, M for one that is not ranked
    items: Items  # the whole catalogue: a target need not be among the ranked


@struct.dataclass
class Bonus:
    """What is added to the scores of some items, for each of n users."""

    item: jax.Array  # [n, K], NO_ITEM for none; the bonuses of a repeated item add up
    column: jax.Array  # [n, K] columns of the items, M or more if they are not ranked
    value: jax.Array  # [n, K]


@dataclasses.dataclass(frozen=True)
class RankSettings:
    """The static settings of `rank`."""

    n_first: int  # length of the recommendation lists
    ties: Ties
    rows: int  # cases whose scores are ranked together: as many as the cache holds; divides n


def arrange(items: Items, ranked: np.ndarray) -> RankedItems:
    """Put the ranked items in the order of columns that makes finding the best scores fast.

    Column c is of group c mod G, for G groups. The best scores of all groups are then the maximum
    of rows of G columns, which compiles to vector instructions. The items of a group are a range of
    `ranked`. The last row may be shorter: some groups have one item less.

    Args:
        items: the catalogue.
        ranked: [M] item numbers, ascending.
    """
    n_groups = -(-len(ranked) // GROUP)
    order = np.argsort(np.arange(len(ranked)) % n_groups, kind="stable")
    item = np.empty(len(ranked), np.int32)
    item[order] = ranked
    column = np.full(len(items.item_bias), len(ranked), np.int32)
    column[item] = np.arange(len(ranked))
    return RankedItems(
        item=jax.device_put(item),
        item_out=items.item_out[item],
        item_bias=items.item_bias[item],
        column=jax.device_put(column),
        items=items,
    )


def bonus(
    network: DenseWeights,
    carry: Carry,
    hidden: jax.Array,
    ranked: RankedItems,
    table: item_neighbours.Table | None,
) -> Bonus | None:
    """Return what is added to the scores, None for a network that adds nothing.

    Args:
        network: the weights.
        carry: the state of n users, as `model.step` returns it; only its user's state and its past
            are read.
        hidden: [n, H], the representations as it returns them.
        ranked: the items with columns.
        table: the neighbours of each item, for a network with `neighbours`.
    """
    recalled = past_bonus(network, carry, hidden)
    parts = [] if recalled is None else [recalled]
    if table is not None and carry.past is not None:
        recent = user_past.recent_items(carry.past, item_neighbours.LAST)
        parts.append(item_neighbours.bonus_after(table, recent))
    if not parts:
        return None
    item, value = (jnp.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    n_items = len(ranked.column)
    column = ranked.column.at[item].get(mode="fill", fill_value=n_items)
    return Bonus(item=item, column=column, value=value)


def add_bonus(scores: jax.Array, item: jax.Array, bonus: Bonus | None) -> jax.Array:
    """Add the bonus to the scores of single items.

    Args:
        scores: [n], of one item each.
        item: [n].
        bonus: of n users, or of one user whom all scores belong to.
    """
    if bonus is None:
        return scores
    return scores + jnp.where(bonus.item == item[:, None], bonus.value, 0.0).sum(axis=1)


def rank(
    ranked: RankedItems,
    hidden: jax.Array,
    target: jax.Array,
    bonus: Bonus | None,
    settings: RankSettings,
) -> tuple[jax.Array, jax.Array]:
    """Rank the targets of n cases, and list the best items.

    Scores are those before the output's tanh, which saturates: items of different scores would
    tie. A score that is not a number counts against the model: above all others, and below all if
    it is the target's.

    Args:
        ranked: the items that compete.
        hidden: [n, H], the representations.
        target: [n] items, which need not be among the ranked.
        bonus: of the n cases.
        settings: list length, ties, and how many cases are ranked together.

    Returns:
        The ranks, [n], from 1, and the items with the best scores, [n, n_first], the best first, of
        equal scores the lower item first.
    """
    products = hidden @ ranked.item_out.T
    items = ranked.items
    of_target = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]
    of_target = add_bonus(of_target, target, bonus)

    def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        product, bonus, column, own = case
        scores = _add_to_columns(product + ranked.item_bias, bonus)
        n_above = _count_above(scores, column, own, ties=settings.ties)
        return 1 + n_above, ranked.item[_first_columns(scores, settings.n_first)]

    cases = products, bonus, ranked.column[target], of_target
    return jax.lax.map(of_case, cases, batch_size=settings.rows)


def best(
    ranked: RankedItems, hidden: jax.Array, bonus: Bonus | None, *, n_first: int, rows: int
) -> tuple[jax.Array, jax.Array]:
    """List the items with the best scores of n users.

    Args:
        ranked: the items that may be listed.
        hidden: [n, H], the representations.
        bonus: of the n users.
        n_first: length of the lists.
        rows: users whose scores are ranked together, as many as the cache holds.

    Returns:
        The items and their scores, [n, n_first] each, in the order of `rank`.
    """

    def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        product, bonus = case
        scores = _add_to_columns(product + ranked.item_bias, bonus)
        columns = _first_columns(scores, n_first)
        return ranked.item[columns], scores[columns]

    return jax.lax.map(of_case, (hidden @ ranked.item_out.T, bonus), batch_size=rows)


def _add_to_columns(scores: jax.Array, bonus: Bonus | None) -> jax.Array:
    """Add the bonus to the scores [M] of a case."""
    return scores if bonus is None else user_past.add_at(scores, bonus.column, bonus.value)


def _count_above(
    scores: jax.Array, column: jax.Array, of_target: jax.Array, *, ties: Ties
) -> jax.Array:
    """Count the other ranked items that score [M] above the target.

    The score of a target among the ranked is taken from its column, so that no rounding makes it
    differ from itself.
    """
    is_ranked = column < len(scores)
    own = jnp.where(is_ranked, scores[jnp.minimum(column, len(scores) - 1)], of_target)

    def above(scores: jax.Array) -> jax.Array:
        # Written so that a score that is not a number counts against the model.
        return ~(scores <= own) if ties == "for" else ~(scores < own)

    # Bytes add up faster, and not in one reduction with the rest, which XLA would not fuse.
    rows, rest = _by_group(scores)
    n_above = above(rows).sum(axis=0, dtype=jnp.uint8).sum(dtype=jnp.int32) + above(rest).sum()
    return n_above - (is_ranked & above(own))  # the target itself is no other item


def _first_columns(scores: jax.Array, n_first: int) -> jax.Array:
    """Return the columns of the `n_first` best scores [M], of equal ones the lower item first.

    They are in the `n_first` groups of the best maxima, of equal maxima the lower groups. Proof: an
    item of another group has n_first items before it, the best one of each of those groups, whose
    score is higher than its own, or as high and in a lower group, so of a lower item.
    """
    rows, rest = _by_group(scores)
    n_groups = rows.shape[1]
    rest = jnp.pad(rest, (0, n_groups - len(rest)), constant_values=-jnp.inf)
    maxima = _nan_first(jnp.maximum(rows.max(axis=0), rest))
    best_groups = jax.lax.top_k(maxima, min(n_first, n_groups))[1]
    # By group, and within a group by column: in the order of the items.
    column = (jnp.sort(best_groups)[:, None] + n_groups * jnp.arange(GROUP)[None]).reshape(-1)
    few = jnp.where(column < len(scores), _nan_first(scores[column]), -jnp.inf)
    return column[jax.lax.top_k(few, n_first)[1]]


def _by_group(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cut the columns [M] into full rows [R, G] and the rest, less than G."""
    n_groups = -(-len(scores) // GROUP)
    full = len(scores) // n_groups * n_groups
    return scores[:full].reshape(-1, n_groups), scores[full:]


def _nan_first(scores: jax.Array) -> jax.Array:
    """Replace NaN by the largest number: top_k orders NaN by its sign; no score is infinite."""
    return jnp.nan_to_num(scores, nan=jnp.finfo(scores.dtype).max)
