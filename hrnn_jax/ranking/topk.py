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
from hrnn_jax.model import Items
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import Mixture, Terms
from hrnn_jax.training.user_batches import NO_ITEM, Array

LEAST = float(np.finfo(np.float32).min) / 2  # score of an item that competes and cannot be
GROUP = 48  # items of a group: fewer make more groups to sort, more make more items to sort


@struct.dataclass
class RankedItems:
    """The M items that are scored, in the order of the columns of the scores, see `arrange`."""

    item: jax.Array  # [M] int32 item of each column
    item_out: jax.Array  # [M, H]; [H, M] if `by_unit`
    item_bias: jax.Array  # [M]
    column: jax.Array  # [V] int32 column of each item, M for one that is not ranked
    items: Items  # the whole catalogue: a target need not be among the ranked
    competes: jax.Array | None = None  # [M] bool, the items that are ranked; None: all
    by_unit: bool = struct.field(pytree_node=False, default=False)


@dataclasses.dataclass(frozen=True)
class RankSettings:
    """The static settings of `rank`."""

    n_first: int  # length of the recommendation lists
    ties: Ties
    rows: int  # cases whose scores are ranked together: as many as the cache holds; divides n


def arrange(
    items: Items, ranked: np.ndarray, *, whole: bool = False, by_unit: bool = False
) -> RankedItems:
    """Put the ranked items in the order of columns that makes finding the best scores fast.

    Column c is of group c mod G, for G groups. The best scores of all groups are then the maximum
    of rows of G columns, which compiles to vector instructions. The items of a group are a range of
    `ranked`. The last row may be shorter: some groups have one item less.

    Args:
        items: the catalogue.
        ranked: item numbers, ascending.
        whole: whether all items have a column, as the probabilities of a mixture are of them all;
            else those that are ranked.
        by_unit: whether to keep the weights by unit, not by item: the products of up to ten cases
            then take half of the time.
    """
    n_items = len(items.item_bias)
    competes = None
    if whole and len(ranked) < n_items:
        competes = np.isin(np.arange(n_items), ranked)
        ranked = np.arange(n_items)
    item = in_columns(ranked)
    column = np.full(n_items, len(ranked), np.int32)
    column[item] = np.arange(len(ranked))
    return RankedItems(
        item=jax.device_put(item),
        item_out=jnp.asarray(items.item_out[item].T, copy=True)
        if by_unit
        else items.item_out[item],
        item_bias=items.item_bias[item],
        column=jax.device_put(column),
        items=items,
        competes=None if competes is None else jax.device_put(competes[item]),
        by_unit=by_unit,
    )


def in_columns(ranked: np.ndarray) -> np.ndarray:
    """Return items [M], given in ascending order, in the order of their columns, see `arrange`."""
    n_groups = -(-len(ranked) // GROUP)
    order = np.argsort(np.arange(len(ranked)) % n_groups, kind="stable")
    item = np.empty(len(ranked), np.int32)
    item[order] = ranked
    return item


def rank(
    ranked: RankedItems,
    hidden: jax.Array,
    target: jax.Array,
    mixed: tuple[Mixture, Terms] | None,
    settings: RankSettings,
    *,
    excluded: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Rank the targets of n cases, and list the best items.

    Scores are those before the output's tanh, which saturates: items of different scores would
    tie. A score that is not a number counts against the model: above all others, and below all if
    it is the target's.

    Args:
        ranked: the items that compete.
        hidden: [n, H], the representations.
        target: [n] items, which need not be among the ranked.
        mixed: a mixture and its terms of the n cases; its probabilities are of all items with a
            column.
        settings: list length, ties, and how many cases are ranked together.
        excluded: [n, S] items that do not compete in a case, NO_ITEM for none; a target among them
            ranks behind all that compete.

    Returns:
        The ranks, [n], from 1, and the items with the best scores, [n, n_first], the best first, of
        equal scores the lower item first; NO_ITEM where all that are left are excluded.
    """
    products = _products(ranked, hidden)
    items = ranked.items
    of_target = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]
    mixture, terms = mixed or (None, None)

    def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        product, terms, column, own, excluded = case
        scores, _ = _scores(ranked, product, mixture, terms)
        if ranked.competes is not None:
            scores = jnp.maximum(scores, LEAST)  # above the items that do not compete
        own = _own(scores, column, own)
        if ranked.competes is not None:
            scores = jnp.where(ranked.competes, scores, -jnp.inf)
        if excluded is not None:
            scores = scores.at[excluded].set(-jnp.inf, mode="drop")
        n_above = count_above(scores, column, own, ties=settings.ties)
        columns = first_columns(scores, settings.n_first)
        listed = ranked.item[columns]
        if excluded is not None:
            listed = jnp.where(scores[columns] == -jnp.inf, NO_ITEM, listed)
        return 1 + n_above, listed

    column = ranked.column[target]
    if excluded is None:
        cases = products, terms, column, of_target, None
        return jax.lax.map(of_case, cases, batch_size=settings.rows)
    columns = ranked.column.at[excluded].get(mode="fill", fill_value=len(ranked.item))
    cases = products, terms, column, of_target, columns
    ranks, listed = jax.lax.map(of_case, cases, batch_size=settings.rows)
    competes = jnp.ones(len(ranked.item), bool) if ranked.competes is None else ranked.competes
    n_others = competes.sum() - competes.at[column].get(mode="fill", fill_value=False)
    return jnp.where((excluded == target[:, None]).any(axis=1), 1 + n_others, ranks), listed


def best(
    ranked: RankedItems,
    hidden: jax.Array,
    mixed: tuple[Mixture, Terms] | None,
    *,
    n_first: int,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """List the items with the best scores of n users.

    Args:
        ranked: the items that may be listed.
        hidden: [n, H], the representations.
        mixed: see `rank`.
        n_first: length of the lists.
        rows: users whose scores are ranked together, as many as the cache holds.

    Returns:
        The items and their scores, [n, n_first] each, in the order of `rank`.
    """
    mixture, terms = mixed or (None, None)

    def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        scores, constant = _scores(ranked, case[0], mixture, case[1])
        columns = first_columns(scores, n_first)
        return ranked.item[columns], scores[columns] + constant

    return jax.lax.map(of_case, (_products(ranked, hidden), terms), batch_size=rows)


def all_scores(
    ranked: RankedItems, hidden: jax.Array, mixed: tuple[Mixture, Terms] | None
) -> jax.Array:
    """Return the scores of all items with a column, of n users [n, M], see `best`."""
    mixture, terms = mixed or (None, None)

    def of_user(product: jax.Array, terms: Terms | None) -> jax.Array:
        scores, constant = _scores(ranked, product, mixture, terms)
        return scores + constant

    return jax.vmap(of_user)(_products(ranked, hidden), terms)


def _products(ranked: RankedItems, hidden: jax.Array) -> jax.Array:
    """Return the products of cases [n, H] and all items with a column, [n, M]."""
    return hidden @ (ranked.item_out if ranked.by_unit else ranked.item_out.T)


def _scores(
    ranked: RankedItems, product: jax.Array, mixture: Mixture | None, terms: Terms | None
) -> tuple[jax.Array, Any]:
    """Return the scores of a case, [M], less a constant, and that: the network's, or log P."""
    scores = product + ranked.item_bias
    if mixture is None or terms is None:
        return scores, 0
    return mixtures.log_probabilities(mixture, scores, ranked.column, terms)


def _own(scores: jax.Array, column: jax.Array, of_target: jax.Array) -> jax.Array:
    """Return the score of a case's target.

    That of a target with a column is taken from there, so that no rounding makes it differ from
    itself.
    """
    return jnp.where(column < len(scores), scores[jnp.minimum(column, len(scores) - 1)], of_target)


def above(scores: Array, own: jax.Array, ties: Ties) -> jax.Array:
    """Say whether items of some scores rank above the target, which scores `own`."""
    # Written so that a score that is not a number counts against the model.
    return ~(scores <= own) if ties == "for" else ~(scores < own)


def count_above(scores: jax.Array, column: jax.Array, own: jax.Array, *, ties: Ties) -> jax.Array:
    """Count the other ranked items that score [M] above the target, which scores `own`."""
    # Bytes add up faster, and not in one reduction with the rest, which XLA would not fuse.
    rows, rest = _by_group(scores)
    n_above = above(rows, own, ties).sum(axis=0, dtype=jnp.uint8).sum(dtype=jnp.int32)
    n_above += above(rest, own, ties).sum()
    at_target = scores[jnp.minimum(column, len(scores) - 1)]
    # The target itself is no other item.
    return n_above - ((column < len(scores)) & above(at_target, own, ties))


def first_columns(scores: jax.Array, n_first: int) -> jax.Array:
    """Return the columns of the `n_first` best scores [M], of equal ones the lower item first.

    They are in the `n_first` groups of the best maxima, of equal maxima the lower groups. Proof: an
    item of another group has n_first items before it, the best one of each of those groups, whose
    score is higher than its own, or as high and in a lower group, so of a lower item.
    """
    rows, rest = _by_group(scores)
    n_groups = rows.shape[1]
    rest = jnp.pad(rest, (0, n_groups - len(rest)), constant_values=-jnp.inf)
    maxima = nan_first(jnp.maximum(rows.max(axis=0), rest))
    best_groups = jax.lax.top_k(maxima, min(n_first, n_groups))[1]
    # By group, and within a group by column: in the order of the items.
    column = (jnp.sort(best_groups)[:, None] + n_groups * jnp.arange(GROUP)[None]).reshape(-1)
    few = jnp.where(column < len(scores), nan_first(scores[column]), -jnp.inf)
    return column[jax.lax.top_k(few, n_first)[1]]


def _by_group(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cut the columns [M] into full rows [R, G] and the rest, less than G."""
    n_groups = -(-len(scores) // GROUP)
    full = len(scores) // n_groups * n_groups
    return scores[:full].reshape(-1, n_groups), scores[full:]


def nan_first(scores: jax.Array) -> jax.Array:
    """Replace NaN by the largest number, as top_k orders NaN by its sign, and -inf by the least.

    The padding of a group, which is -inf, is then below all.
    """
    return jnp.nan_to_num(scores, nan=jnp.finfo(scores.dtype).max)
