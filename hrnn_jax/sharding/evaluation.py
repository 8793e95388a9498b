"""Rank the test cases over a mesh: the ranks and lists of one device, case by case.

What predicts the cases comes from replay.py. Each shard scores all cases of a chunk among its rows.
The shard that has a target tells its score; a rank is 1 + the sum over the shards of the items
above it; and a list is merged of each shard's best. With a mixture, whose sums over the items are
added up in another order than on one device, an item that scores next to nothing more or less than
the target may change sides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrnn_jax.model import Items, Params, gather_rows
from hrnn_jax.network import Network
from hrnn_jax.ranking import evaluation, topk
from hrnn_jax.ranking.evaluation import Cases, RankedChunk, ToRank
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.ranking.replay import Seen, lay_out
from hrnn_jax.ranking.topk import RankSettings
from hrnn_jax.repeat_explore.mixture import FittedMixture, Mixture
from hrnn_jax.sharding import mixture as mixtures
from hrnn_jax.sharding import tables
from hrnn_jax.sharding.exchange import rows_here
from hrnn_jax.sharding.on_mesh import gather_lanes
from hrnn_jax.sharding.replay import replay
from hrnn_jax.sharding.tables import AXIS, BY_SHARD, REPLICATED, put_global
from hrnn_jax.sharding.training import put_global_tree
from hrnn_jax.training.user_batches import NO_ITEM


class _Ranked(NamedTuple):
    """The items that a shard ranks, M columns of which the last may be padding."""

    item: jax.Array  # [M] int32, NO_ITEM for padding
    column: jax.Array  # [R] int32 column of each row of the shard, M for one that is not ranked
    item_out: jax.Array  # [M, H]
    item_bias: jax.Array  # [M]
    competes: jax.Array  # [M] bool; a mixture's probabilities are of all items, of which some may


def rank(
    network: Network,
    params: Params,
    mesh: Mesh,
    mixture: Mixture | None = None,
    *,
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> Ranking:
    """Rank the test cases of the network's log; all processes must call it.

    Args:
        network: that was trained; its neighbours are by shard, see `tables.put_rows`.
        params: of one seed, by shard, as `tables.put_state` returns them.
        mesh: of `tables.make_mesh`.
        mixture: of a network with `places`, the same in all processes.
        on_cases: see `evaluation.rank`.

    Returns:
        The ranking, in all processes.
    """
    model_config, config = network.ranking_config, network.evaluation_config
    given = evaluation.to_rank(network.log, model_config, config)
    laid = lay_out(given.log, given.cases, model_config, config, n_shards=mesh.size)
    ranked = _arrange(given, params.items, model_config.n_items, mesh, whole=mixture is not None)
    fitted = None
    if mixture is not None:
        assert network.table is not None
        fitted = FittedMixture(put_global_tree(mixture, mesh), network.table)
    n_ranked = len(ranked.item) // mesh.size
    size, rows = evaluation.block_size(n_ranked, config.score_values, config.cached_values)
    settings = RankSettings(n_first=given.n_first, ties=config.ties, rows=rows)
    rank_blocks = _rank_program(settings, len(given.candidates), model_config.n_items, mesh)

    def chunks() -> Iterator[RankedChunk]:
        length = config.chunk_steps
        for events, at, seen in replay(params, given.log, laid, model_config, length, mesh):
            order = np.arange(len(events))
            cases, case, n_blocks = evaluation.in_blocks(given.of(events), order, size, laid.n_rows)
            on_all = put_global_tree((cases, at[case], n_blocks), mesh)
            found = rank_blocks(params.items, ranked, seen, fitted, *on_all)
            ranks, lists = (np.asarray(a.addressable_data(0)) for a in found)
            n = len(events)
            yield events, ranks.reshape(-1)[:n], lists.reshape(-1, given.n_first)[:n]

    return evaluation.collect(given, chunks(), config, on_cases)


def _arrange(given: ToRank, tables_: Items, n_items: int, mesh: Mesh, *, whole: bool) -> _Ranked:
    """Arrange the candidates of each shard, or all its items, see `topk.arrange`.

    Each has as many columns.
    """
    n_shards, n_rows = mesh.size, tables.n_rows(n_items, mesh.size)
    scored = np.arange(n_items) if whole else given.candidates
    own = [scored[scored % n_shards == n] for n in range(n_shards)]
    n_columns = max(map(len, own))
    items, columns = [], []
    for of_shard in own:
        padding = (0, n_columns - len(of_shard))
        item = topk.in_columns(np.pad(of_shard, padding, constant_values=NO_ITEM))
        column = np.full(n_rows, n_columns, np.int32)
        [real] = np.nonzero(item != NO_ITEM)
        column[item[real] // n_shards] = real
        items.append(item)
        columns.append(column)
    of_all = np.concatenate(items)
    item, column, competes = (
        put_global(values, mesh, BY_SHARD)
        for values in (of_all, np.concatenate(columns), np.isin(of_all, given.candidates))
    )

    def in_columns(item: jax.Array, table: jax.Array) -> jax.Array:
        return gather_rows(table, jnp.where(item == NO_ITEM, NO_ITEM, item // n_shards))

    take = jax.jit(
        jax.shard_map(in_columns, mesh=mesh, in_specs=BY_SHARD, out_specs=BY_SHARD, check_vma=False)
    )
    item_out, item_bias = (take(item, table) for table in (tables_.item_out, tables_.item_bias))
    return _Ranked(item, column, item_out, item_bias, competes)


@functools.lru_cache(8)
def _rank_program(
    settings: RankSettings, n_candidates: int, n_items: int, mesh: Mesh
) -> Callable[..., Any]:
    """Return the compiled function that ranks blocks of cases, see `evaluation.in_blocks`.

    It takes the tables, what is ranked, what was seen, a mixture, cases, rows of what was seen, and
    the number of blocks; and returns ranks and lists in blocks, on every shard.
    """

    def rank_blocks(
        items: Items,
        ranked: _Ranked,
        seen: Seen,
        mixture: FittedMixture | None,
        cases: Cases,
        rows: jax.Array,
        n_blocks: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        n_columns, n_listed = len(ranked.item), min(settings.n_first, len(ranked.item))
        is_real, competes = ranked.item != NO_ITEM, ranked.competes
        hidden = jax.lax.all_gather(seen.hidden, AXIS, tiled=True)
        terms = None
        if mixture is not None and seen.history is not None:
            terms = mixtures.own_terms(mixture, seen.history)

        def columns_of(items: jax.Array) -> jax.Array:
            row = rows_here(items, mesh.size)
            return ranked.column.at[row].get(mode="fill", fill_value=n_columns)

        def block(i: jax.Array, found: Any) -> Any:
            here, target = hidden[rows[i]], cases.target[i]
            products = here @ ranked.item_out.T
            row, column = rows_here(target, mesh.size), columns_of(target)
            if mixture is None or terms is None:
                own = _own(products, ranked, column, here, items, row)
            else:
                products = mixtures.log_probabilities(
                    mixture,
                    jax.tree.map(lambda values: values[rows[i]], terms),
                    products + ranked.item_bias[None],
                    is_real,
                    columns_of,
                    mesh.size,
                    rows=settings.rows,
                )
                if n_candidates < n_items:  # above the items that do not compete
                    products = jnp.maximum(products, topk.LEAST)
                at = jnp.minimum(column, n_columns - 1)
                own = jnp.where(row == NO_ITEM, 0.0, products[jnp.arange(len(at)), at])
            is_ranked = competes.at[column].get(mode="fill", fill_value=False)
            own, is_ranked = jax.lax.psum(jnp.stack([own, is_ranked]), AXIS)

            def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, ...]:
                product, column, own, excluded = case
                scores = product if terms is not None else product + ranked.item_bias
                scores = jnp.where(competes, scores, -jnp.inf)
                if excluded is not None:
                    scores = scores.at[columns_of(excluded)].set(-jnp.inf, mode="drop")
                n_above = topk.count_above(scores, column, own, ties=settings.ties)
                padding = topk.above(-jnp.inf, own, settings.ties) * (~is_real).sum()
                columns = topk.first_columns(scores, n_listed)
                best = scores[columns]
                listed = ranked.item[columns]
                if excluded is not None:
                    listed = jnp.where(best == -jnp.inf, NO_ITEM, listed)
                return n_above - padding, topk.nan_first(best), listed

            excluded = None if cases.excluded is None else cases.excluded[i]
            each = products, column, own, excluded
            new = jax.lax.map(of_case, each, batch_size=settings.rows)
            last = jnp.zeros_like(target, bool)
            if excluded is not None:
                last = (excluded == target[:, None]).any(axis=1)
            n_others = jnp.where(last, n_candidates - is_ranked.astype(jnp.int32), 0)
            new = *new, last, n_others
            return tuple(a.at[i].set(one) for a, one in zip(found, new, strict=True))

        shape = rows.shape
        none = (
            jnp.zeros(shape, jnp.int32),
            jnp.zeros((*shape, n_listed)),
            jnp.zeros((*shape, n_listed), jnp.int32),
            jnp.zeros(shape, bool),
            jnp.zeros(shape, jnp.int32),
        )
        n_above, best, listed, last, n_others = jax.lax.fori_loop(0, n_blocks, block, none)
        ranks = 1 + jnp.where(last, n_others, jax.lax.psum(n_above, AXIS))
        best, listed = gather_lanes(best), gather_lanes(listed)
        # Of equal scores the lower item, as on one device.
        _, listed = jax.lax.sort((-best, listed), num_keys=2)
        return ranks, listed[..., : settings.n_first]

    def over_mesh(items: Items, *rest: Any) -> tuple[jax.Array, jax.Array]:
        of_mixture: Any = FittedMixture(REPLICATED, BY_SHARD)  # pyright: ignore
        if rest[2] is None:
            of_mixture = None
        mapped = jax.shard_map(
            rank_blocks,
            mesh=mesh,
            in_specs=(BY_SHARD, BY_SHARD, BY_SHARD, of_mixture, *[REPLICATED] * 3),
            out_specs=(REPLICATED, REPLICATED),
            check_vma=False,
        )
        return mapped(items, *rest)

    return jax.jit(over_mesh)


def _own(
    products: jax.Array,
    ranked: _Ranked,
    column: jax.Array,
    hidden: jax.Array,
    items: Items,
    row: jax.Array,
) -> jax.Array:
    """Return the scores of the targets that are here, [n], 0 for others.

    That of a target with a column is taken from there, so that no rounding makes it differ from
    itself.
    """
    at = jnp.minimum(column, products.shape[1] - 1)
    in_column = products[jnp.arange(len(at)), at] + ranked.item_bias[at]
    of_row = (hidden * gather_rows(items.item_out, row)).sum(axis=1)
    of_row += gather_rows(items.item_bias, row)
    own = jnp.where(column < products.shape[1], in_column, of_row)
    return jnp.where(row == NO_ITEM, 0.0, own)
