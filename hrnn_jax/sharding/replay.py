"""Replay histories over a mesh: the lanes are divided among the shards, as in training.

A lane's states are on its shard, and so are the places of its user and what was seen before the
predicted events. The rows of some steps' inputs are sent together, each from its owner alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrnn_jax.config import ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Carry, Params, StepInputs, gather_rows, start_carry
from hrnn_jax.ranking.replay import Laid, Seen, advance, start_history
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore.history import History
from hrnn_jax.sharding.exchange import count_places, exchange, list_inputs
from hrnn_jax.sharding.on_mesh import gather_lanes
from hrnn_jax.sharding.tables import AXIS, BY_LANE, BY_SHARD, REPLICATED, put_global
from hrnn_jax.sharding.training import by_shard, opening_width
from hrnn_jax.training.user_batches import NO_ITEM, Steps

_AT_ONCE = 16  # steps whose inputs are sent together


def replay(
    params: Params, log: EventLog, laid: Laid, model_config: ModelConfig, length: int, mesh: Mesh
) -> Iterator[tuple[np.ndarray, np.ndarray, Seen]]:
    """Replay a log, see `ranking.replay`; all processes must call it.

    Args:
        params: of one seed, by shard.
        log: that is replayed.
        laid: the log on lanes of which each shard has as many.
        model_config: of the network.
        length: steps of a chunk.
        mesh: of `tables.make_mesh`.

    Yields:
        The predicted events [n] of a chunk, the row of each [n], and what predicts them: rows
        [D N, ...] by shard, of which each shard has those of its lanes.
    """
    shape = laid.row.shape[1:]
    states = start_carry(shape, model_config), start_history(log, shape, model_config)
    states = jax.tree.map(lambda a: put_global(a, mesh, BY_SHARD), states)
    of_chunks = (laid.row < laid.n_rows).reshape(len(laid.events), length, mesh.size, -1)
    n_rows = 1 << (int(of_chunks.sum(axis=(1, 3)).max(initial=1)) - 1).bit_length()
    width = opening_width(laid.steps, mesh.size)
    at_once = math.gcd(length, _AT_ONCE)
    n_places = count_places(laid.steps, at_once, mesh.size, mesh.size).inputs
    program = _program(model_config, n_rows, at_once, n_places, mesh)
    for steps, minute, row, events in laid.chunks(length):
        own, at = _by_shard(row, len(events), n_rows, mesh.size)
        chunk = by_shard(steps, mesh.size, length, width), minute, own
        on_lanes = jax.tree.map(lambda a: put_global(a, mesh, BY_LANE), chunk)
        states, seen = program(params, states, *on_lanes)
        if len(events):
            yield events, at, seen


def _by_shard(
    row: np.ndarray, n_events: int, n_rows: int, n_shards: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number the predicted events of a chunk within the shards.

    Args:
        row: [T, B] see `Laid`.
        n_events: the predicted events n of the chunk.
        n_rows: N of a shard.
        n_shards: D.

    Returns:
        The row [T, B] within the shard, N for none; and that of each event [n] of all shards' rows.
    """
    of_shards = row.reshape(len(row), n_shards, -1).swapaxes(0, 1)
    has_row = of_shards < n_events
    number = np.cumsum(has_row.reshape(n_shards, -1), axis=1).reshape(has_row.shape) - 1
    at = np.zeros(n_events, np.int32)
    first = n_rows * np.arange(n_shards)[:, None, None]
    at[of_shards[has_row]] = (first + number)[has_row]
    own = np.where(has_row, number, n_rows).astype(np.int32)
    return own.swapaxes(0, 1).reshape(row.shape), at


@functools.lru_cache(8)
def _program(
    model_config: ModelConfig, n_rows: int, at_once: int, n_places: int, mesh: Mesh
) -> Callable[..., Any]:
    """Return the compiled function that replays a chunk.

    It takes weights, the lanes' states, steps, minutes and rows, [T, B]; and returns the states
    after the chunk, and what was seen, N rows on each shard.
    """

    def replay(
        params: Params,
        states: tuple[Carry, History | None],
        steps: Steps,
        minute: jax.Array,
        row: jax.Array,
    ) -> tuple[Any, Seen]:
        table = params.items.item_out if params.items.item_in is None else params.items.item_in
        of_all = gather_lanes(steps.input)
        n_parts = len(of_all) // at_once
        rows, place = list_inputs(of_all.reshape(n_parts, at_once, -1), mesh.size, n_places)
        place = jax.lax.psum(place, AXIS)[:, jax.lax.axis_index(AXIS)] - 1

        def together(i: jax.Array, found: Any) -> Any:
            received = exchange(gather_rows(table, rows[i])).reshape(-1, table.shape[1])
            x = gather_rows(received, place[i]).reshape(at_once, -1, table.shape[1])

            def body(k: jax.Array, found: Any) -> Any:
                (carry, history), seen = found
                now: Steps
                now, then, at = jax.tree.map(lambda a: a[i * at_once + k], (steps, minute, row))
                carry, hidden = advance(params.network, carry, StepInputs(x[k], now), model_config)
                if history is not None:
                    history = histories.step(history, now, then)
                seen = jax.tree.map(
                    lambda all_, new: all_.at[at].set(new, mode="drop"), seen, Seen(hidden, history)
                )
                return (carry, history), seen

            return jax.lax.fori_loop(0, at_once, body, found)

        seen = _nothing(Seen(states[0].session[-1], states[1]), n_rows)
        return jax.lax.fori_loop(0, n_parts, together, (states, seen))

    def over_mesh(params: Params, *rest: Any) -> Any:
        specs: Any = Params(network=REPLICATED, items=BY_SHARD)  # pyright: ignore
        mapped = jax.shard_map(
            replay,
            mesh=mesh,
            in_specs=(specs, BY_SHARD, *[BY_LANE] * 3),
            out_specs=(BY_SHARD, BY_SHARD),
            check_vma=False,
        )
        return mapped(params, *rest)

    return jax.jit(over_mesh)


def _nothing(like: Seen, n_rows: int) -> Seen:
    """Return rows of users who have had nothing."""
    seen: Seen = jax.tree.map(lambda a: jnp.zeros((n_rows, *a.shape[1:]), a.dtype), like)
    if seen.history is None:
        return seen
    item = jnp.full_like(seen.history.item, NO_ITEM)
    return seen._replace(history=dataclasses.replace(seen.history, item=item))
