"""Rank the test cases over a mesh: the ranks and lists of one device, case by case.

The lanes that replay the users' histories are divided among the shards, as in training. Each shard
then scores all cases of a chunk among its rows. The shard that has a target tells its score; a rank
is 1 + the sum over the shards of the items above it; and a list is merged of each shard's best.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from hrnn_jax import evaluation, topk
from hrnn_jax.config import ModelConfig
from hrnn_jax.evaluation import Cases, Laid, RankedChunk, ToRank
from hrnn_jax.metrics import Ranking
from hrnn_jax.model import Carry, Items, Params, StepInputs, gather_rows, start_carry
from hrnn_jax.network import Network
from hrnn_jax.sharding import tables
from hrnn_jax.sharding.exchange import rows_here
from hrnn_jax.sharding.on_mesh import gather_lanes
from hrnn_jax.sharding.tables import AXIS, BY_SHARD, REPLICATED, put_global
from hrnn_jax.sharding.training import by_shard, opening_width
from hrnn_jax.topk import RankSettings
from hrnn_jax.user_batches import NO_ITEM, Steps

_BY_LANE = PartitionSpec(None, AXIS)  # of arrays [T, B]
_AT_ONCE = 16  # steps whose inputs are sent together


class _Ranked(NamedTuple):
    """The items that a shard ranks, M columns of which the last may be padding."""

    item: jax.Array  # [M] int32, NO_ITEM for padding
    column: jax.Array  # [R] int32 column of each row of the shard, M for one that is not ranked
    item_out: jax.Array  # [M, H]
    item_bias: jax.Array  # [M]


def rank(
    network: Network,
    params: Params,
    mesh: Mesh,
    *,
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> Ranking:
    """Rank the test cases of the network's log; all processes must call it.

    Args:
        network: that was trained, without a mixture.
        params: of one seed, by shard, as `tables.put_state` returns them.
        mesh: of `tables.make_mesh`.
        on_cases: see `evaluation.rank`.

    Returns:
        The ranking, in all processes.
    """
    model_config, config = network.ranking_config, network.evaluation_config
    given = evaluation.to_rank(network.log, model_config, config)
    laid = evaluation.lay_out(given.log, given.cases, model_config, config, n_shards=mesh.size)
    ranked = _arrange(given, params.items, model_config.n_items, mesh)
    n_ranked = len(ranked.item) // mesh.size
    size, rows = evaluation.block_size(n_ranked, config.score_values, config.cached_values)
    settings = RankSettings(n_first=given.n_first, ties=config.ties, rows=rows)
    rank_blocks = _rank_program(settings, len(given.candidates), mesh)

    def chunks() -> Iterator[RankedChunk]:
        for events, hidden in _replay(params, laid, model_config, config.chunk_steps, mesh):
            order = np.arange(len(events))
            blocks = evaluation.in_blocks(given.of(events), order, size, laid.n_rows)
            on_all = jax.tree.map(lambda a: put_global(a, mesh, REPLICATED), blocks)
            found = rank_blocks(params.items, ranked, hidden, *on_all)
            ranks, lists = (np.asarray(a.addressable_data(0)) for a in found)
            n = len(events)
            yield events, ranks.reshape(-1)[:n], lists.reshape(-1, given.n_first)[:n]

    return evaluation.collect(given, chunks(), config, on_cases)


def _arrange(given: ToRank, tables_: Items, n_items: int, mesh: Mesh) -> _Ranked:
    """Arrange the candidates of each shard, see `topk.arrange`; as many columns on each."""
    n_shards, n_rows = mesh.size, tables.n_rows(n_items, mesh.size)
    own = [given.candidates[given.candidates % n_shards == n] for n in range(n_shards)]
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
    item, column = (
        put_global(np.concatenate(arrays), mesh, BY_SHARD) for arrays in (items, columns)
    )

    def in_columns(item: jax.Array, table: jax.Array) -> jax.Array:
        return gather_rows(table, jnp.where(item == NO_ITEM, NO_ITEM, item // n_shards))

    take = jax.jit(
        jax.shard_map(in_columns, mesh=mesh, in_specs=BY_SHARD, out_specs=BY_SHARD, check_vma=False)
    )
    return _Ranked(item, column, take(item, tables_.item_out), take(item, tables_.item_bias))


def _replay(
    params: Params, laid: Laid, model_config: ModelConfig, length: int, mesh: Mesh
) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """Yield the predicted events of each chunk, and what predicts them, see `evaluation.replay`."""
    carry = start_carry(laid.row.shape[1:], model_config)
    carry = jax.tree.map(lambda a: put_global(a, mesh, BY_SHARD), carry)
    width = opening_width(laid.steps, mesh.size)
    program = _replay_program(model_config, laid.n_rows, mesh)
    for steps, _, row, events in laid.chunks(length):
        chunk = by_shard(steps, mesh.size, length, width), row
        on_lanes = jax.tree.map(lambda a: put_global(a, mesh, _BY_LANE), chunk)
        carry, hidden = program(params, carry, *on_lanes)
        if len(events):
            yield events, hidden


@functools.lru_cache(8)
def _replay_program(model_config: ModelConfig, n_rows: int, mesh: Mesh) -> Callable[..., Any]:
    """Return the compiled function that replays a chunk.

    It takes weights, the lanes' states, steps and rows, [T, B]; and returns the states after the
    chunk, and the representations [n_rows, H] that predict its events, on every shard.
    """

    def replay(
        params: Params, carry: Carry, steps: Steps, row: jax.Array
    ) -> tuple[Carry, jax.Array]:
        length = len(steps.input)
        at_once = math.gcd(length, _AT_ONCE)
        table = params.items.item_out if params.items.item_in is None else params.items.item_in
        of_all = rows_here(gather_lanes(steps.input), mesh.size)
        of_all = of_all.reshape(length // at_once, at_once, -1)

        def inputs(rows: jax.Array) -> jax.Array:
            # One summand is not zero, so the sum is exact.
            x = gather_rows(table, rows)
            return jax.lax.psum_scatter(x, AXIS, scatter_dimension=1, tiled=True)

        def together(i: jax.Array, found: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
            x = inputs(of_all[i])

            def body(k: jax.Array, found: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
                carry, seen = found
                now: Steps
                now, at = jax.tree.map(lambda a: a[i * at_once + k], (steps, row))
                carry, hidden = evaluation.advance(
                    params.network, carry, StepInputs(x[k], now), model_config
                )
                return carry, seen.at[at].set(hidden, mode="drop")

            return jax.lax.fori_loop(0, at_once, body, found)

        seen = jnp.zeros((n_rows, model_config.hidden_units))
        carry, seen = jax.lax.fori_loop(0, len(of_all), together, (carry, seen))
        # A case is on one lane, so the sum is exact.
        return carry, jax.lax.psum(seen, AXIS)

    def over_mesh(params: Params, *rest: Any) -> tuple[Carry, jax.Array]:
        mapped = jax.shard_map(
            replay,
            mesh=mesh,
            in_specs=(_specs(params), BY_SHARD, _BY_LANE, _BY_LANE),
            out_specs=(BY_SHARD, REPLICATED),
            check_vma=False,
        )
        return mapped(params, *rest)

    return jax.jit(over_mesh)


def _specs(params: Params) -> Any:
    return Params(network=REPLICATED, items=BY_SHARD)  # pyright: ignore


@functools.lru_cache(8)
def _rank_program(settings: RankSettings, n_candidates: int, mesh: Mesh) -> Callable[..., Any]:
    """Return the compiled function that ranks blocks of cases, see `evaluation.in_blocks`.

    It takes the tables, what is ranked, the representations [N, H], cases, rows of these, and the
    number of blocks; and returns ranks and lists in blocks, on every shard.
    """

    def rank_blocks(
        items: Items,
        ranked: _Ranked,
        hidden: jax.Array,
        cases: Cases,
        rows: jax.Array,
        n_blocks: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        n_columns, n_listed = len(ranked.item), min(settings.n_first, len(ranked.item))
        is_real = ranked.item != NO_ITEM

        def block(i: jax.Array, found: Any) -> Any:
            here, target = hidden[rows[i]], cases.target[i]
            products = here @ ranked.item_out.T
            row = rows_here(target, mesh.size)
            column = ranked.column.at[row].get(mode="fill", fill_value=n_columns)
            own = _own(products, ranked, column, here, items, row)
            own, is_ranked = jax.lax.psum(jnp.stack([own, column < n_columns]), AXIS)

            def of_case(case: tuple[Any, ...]) -> tuple[jax.Array, ...]:
                product, column, own, excluded = case
                scores = jnp.where(is_real, product + ranked.item_bias, -jnp.inf)
                if excluded is not None:
                    left_out = ranked.column.at[rows_here(excluded, mesh.size)].get(
                        mode="fill", fill_value=n_columns
                    )
                    scores = scores.at[left_out].set(-jnp.inf, mode="drop")
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
        mapped = jax.shard_map(
            rank_blocks,
            mesh=mesh,
            in_specs=(BY_SHARD, BY_SHARD, *[REPLICATED] * 4),
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
