"""What a mixture's weights are learnt from, read over a mesh, see repeat_explore/replayed.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Params
from hrnn_jax.ranking.replay import Seen, lay_out
from hrnn_jax.repeat_explore import neighbours, replayed
from hrnn_jax.repeat_explore.replayed import Inputs
from hrnn_jax.sharding import mixture as mixtures
from hrnn_jax.sharding.replay import replay
from hrnn_jax.sharding.tables import BY_SHARD, REPLICATED, gathered, in_order, put_global

_AT_ONCE = 256  # events of a shard whose features are computed together


class Reader(replayed.Reader):
    """Reads a network, its neighbours and the histories of users, each by shard.

    All processes make the same calls, and get the same. Each has the output rows as a whole, in its
    host's memory.
    """

    def __init__(self, params: Params, table: neighbours.Table, mesh: Mesh, n_items: int) -> None:
        """Read with the weights of one seed, and neighbours counted from its training events."""
        self._params, self._table, self._mesh = params, table, mesh
        self.item_out, self.item_bias = (
            in_order(gathered(rows), mesh.size, n_items)
            for rows in (params.items.item_out, params.items.item_bias)
        )

    def inputs(
        self, log: EventLog, events: np.ndarray, config: ModelConfig, drops_repeats: bool
    ) -> Iterator[tuple[np.ndarray, Inputs]]:
        """Replay a log, see `replayed.Reader.inputs`; each shard reads the places of its lanes."""
        mesh, how = self._mesh, EvaluationConfig()
        laid = lay_out(log, events, config, how, n_shards=mesh.size)
        drops = put_global(np.asarray(drops_repeats), mesh, REPLICATED)
        for found, at, seen in replay(self._params, log, laid, config, how.chunk_steps, mesh):
            n_rows = len(seen.hidden) // mesh.size
            shard, row = np.divmod(at, n_rows)
            size = min(n_rows, _AT_ONCE)
            program = _inputs_program(size, mesh)
            parts = []
            for begin in range(0, int(row.max()) + 1, size):
                values = program(
                    seen,
                    put_global(np.asarray(begin, np.int32), mesh, REPLICATED),
                    drops,
                    self._table,
                )
                parts.append(
                    [a.reshape(mesh.size, size, *a.shape[1:]) for a in map(gathered, values)]
                )
            of_shards = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
            yield found, tuple(a[shard, row] for a in of_shards)

    def after(self, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of the last items of sessions, see `neighbours.after`."""
        program = _after_program(self._mesh)
        found = program(self._table, put_global(last, self._mesh, REPLICATED))
        item, share = (np.asarray(a.addressable_data(0)) for a in found)
        return item, share


@functools.lru_cache(8)
def _inputs_program(size: int, mesh: Mesh) -> Callable[..., Any]:
    """Return the compiled `replayed.inputs_of` of some rows of each shard, from one on."""

    def inputs(
        seen: Seen, begin: jax.Array, drops_repeats: jax.Array, table: neighbours.Table
    ) -> tuple[jax.Array, ...]:
        here = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, begin, size), seen)
        return replayed.inputs_of(here, drops_repeats, mixtures.users_of_all(table))

    return _jitted(inputs, mesh, (BY_SHARD, REPLICATED, REPLICATED, BY_SHARD), BY_SHARD)


@functools.lru_cache(8)
def _after_program(mesh: Mesh) -> Callable[..., Any]:
    """Return the compiled function of `mixture.after`, of the table and the last items."""

    def after(table: neighbours.Table, last: jax.Array) -> tuple[jax.Array, jax.Array]:
        return mixtures.after(table, last, mesh.size)

    return _jitted(after, mesh, (BY_SHARD, REPLICATED), REPLICATED)


def _jitted(function: Callable[..., Any], mesh: Mesh, given: Any, returned: Any) -> Any:
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=given, out_specs=returned, check_vma=False)
    )
