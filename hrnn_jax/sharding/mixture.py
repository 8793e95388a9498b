"""The mixture over a mesh: each shard has the neighbours and the probabilities of its items.

What a user's places say is computed where the user's lane is, and sent to all. Each shard then has
the logits of P_explore of its own items. The two sums of a case are added up over the shards, and
so are the scores of the places, of which one shard has each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.repeat_explore.history import History
from hrnn_jax.repeat_explore.mixture import FittedMixture, OwnTerms, Terms
from hrnn_jax.sharding.exchange import add_up, rows_here
from hrnn_jax.sharding.tables import AXIS
from hrnn_jax.training.user_batches import NO_ITEM

_AT_ONCE = 64  # users whose places are looked at together


def own_terms(fitted: FittedMixture, history: History) -> OwnTerms:
    """Compute the terms of this shard's users, and gather those of all shards.

    Args:
        fitted: the weights, and the counts of this shard's items.
        history: of N users here, in any order; those without an event cost nothing.

    Returns:
        The terms [D N, ...].
    """
    users = users_of_all(fitted.table)
    used = histories.used_places(history)
    size = min(_AT_ONCE, len(used))  # both are powers of two
    # By how many places they have used: a block costs as much as its user of the most.
    blocks = jnp.argsort(used).reshape(-1, size)

    def of_block(rows: jax.Array) -> OwnTerms:
        here: History = jax.tree.map(lambda values: values[rows], history)
        return mixtures.own_terms(fitted.weights, users, here, in_parts=True)

    def block(i: jax.Array, found: OwnTerms) -> OwnTerms:
        new = of_block(blocks[i])
        return jax.tree.map(lambda all_, one: all_.at[blocks[i]].set(one), found, new)

    like: Any = jax.eval_shape(of_block, blocks[0])
    none = jax.tree.map(lambda a: jnp.zeros((len(used), *a.shape[1:]), a.dtype), like)
    terms = jax.lax.fori_loop((used == 0).sum() // size, len(blocks), block, none)
    return jax.tree.map(lambda a: jax.lax.all_gather(a, AXIS, tiled=True), terms)


def users_of_all(table: neighbours.Table) -> jax.Array:
    """Return the users of the items of all shards, [D ceil(V / D), 2], on every shard."""
    # Item i is row i // D of shard i % D.
    return jax.lax.all_gather(table.users, AXIS, axis=1).reshape(-1, 2)


def after(
    table: neighbours.Table,
    last: jax.Array,
    n_shards: int,
    of_share: Callable[[jax.Array], jax.Array] = lambda share: share,
) -> tuple[jax.Array, jax.Array]:
    """Return the neighbours of the last items of n sessions, see `neighbours.after`.

    Args:
        table: the neighbours of the items of this shard.
        last: [n, L] see `neighbours.after`.
        n_shards: of the mesh.
        of_share: what is made of the shares [n, L, SHARES, K] before they are sent: [n, L, S, K].

    Returns:
        Items [n, L, K], and what `of_share` returns, on every shard.
    """
    row = rows_here(last, n_shards)
    item, share = neighbours.after(table, row)
    bits = jax.lax.bitcast_convert_type(of_share(share), jnp.int32)
    bits = jnp.concatenate([item[:, :, None], bits], axis=2)
    # One shard has an item's row; the others add zeros to its bits.
    bits = jax.lax.psum(jnp.where((row != NO_ITEM)[..., None, None], bits, 0), AXIS)
    item = jnp.where((last == NO_ITEM)[..., None], NO_ITEM, bits[:, :, 0])
    return item, jax.lax.bitcast_convert_type(bits[:, :, 1:], jnp.float32)


def log_probabilities(
    mixture: FittedMixture,
    own: OwnTerms,
    scores: jax.Array,
    is_real: jax.Array,
    columns: Callable[[jax.Array], jax.Array],
    n_shards: int,
    *,
    rows: int,
) -> jax.Array:
    """Return the logarithms of the probabilities of this shard's items, less a constant of a case.

    See `mixture.log_probabilities`. The sum of P_explore is added up in another order than there.

    Args:
        mixture: the weights, and the counts of this shard's items.
        own: of n cases.
        scores: [n, M] of the network.
        is_real: [M] bool, the columns that have an item.
        columns: returns the columns of items, M for those of other shards and for NO_ITEM.
        n_shards: of the mesh.
        rows: cases that are looked at together.

    Returns:
        [n, M].
    """
    weights = mixture.weights

    def bonus(share: jax.Array) -> jax.Array:
        return neighbours.bonus(share, weights.explore[1:])[:, :, None]

    item, values = after(mixture.table, own.last, n_shards, bonus)
    terms = Terms(**vars(own), neighbour=item, bonus=values[:, :, 0])

    def explored(case: Any) -> tuple[jax.Array, ...]:
        score, neighbour, bonus, place = case
        explore = jnp.where(is_real, weights.explore[0] * score, -jnp.inf)
        explore = explore.at[columns(neighbour)].add(bonus, mode="drop")
        at = columns(place)
        of_place = tuple(a.at[at].get(mode="fill", fill_value=0) for a in (score, explore))
        explore = explore.at[at].set(-jnp.inf, mode="drop")
        return explore, explore.max(), *of_place

    cases = scores, terms.neighbour, terms.bonus, terms.place
    explore, top, *of_place = jax.lax.map(explored, cases, batch_size=rows)
    top = jax.lax.pmax(top, AXIS)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    total = jnp.exp(explore - top[:, None]).sum(axis=1)
    total, of_score, of_own = add_up((total, *of_place))
    of_explore = jnp.log(total) + top
    repeat, _ = jax.vmap(mixtures.repeat_logits, (None, 0, 0, 0, 0))(
        weights, terms, of_score, of_own, of_explore
    )

    def put(explore: jax.Array, place: jax.Array, repeat: jax.Array) -> jax.Array:
        return explore.at[columns(place)].set(repeat, mode="drop")

    return jax.vmap(put)(explore, terms.place, repeat)
