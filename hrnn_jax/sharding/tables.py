"""The mesh, and where the rows of the item tables live on it.

The mesh has one axis, `shard`, over all devices of all processes. Row r of each item table, and of
its optimizer's state, lives on shard r mod D as its row r // D; so each shard has ceil(V / D) rows,
of which the last may be padding. The dense weights are on every shard.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.model import Params
from hrnn_jax.training.train import TrainState, draw_state, make_optimizer, what_is_drawn
from hrnn_jax.training.user_batches import NO_ITEM

AXIS = "shard"
BY_SHARD, REPLICATED = PartitionSpec(AXIS), PartitionSpec()
BY_LANE = PartitionSpec(None, AXIS)  # of arrays [T, B]
_SENT_AT_ONCE = 1 << 26  # numbers of an array that is gathered


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh over some devices, by default all of all processes, in the order of these.

    The devices of a process must follow each other.
    """
    return Mesh(np.array(jax.devices() if devices is None else list(devices)), (AXIS,))


def n_rows(n_items: int, n_shards: int) -> int:
    """Return how many rows of a table of V items each shard has."""
    return -(-n_items // n_shards)


def state_specs(state: TrainState, config: TrainConfig) -> TrainState:
    """Return for each array of a state whether it is by shard or replicated."""
    params = Params(
        network=jax.tree.map(lambda _: REPLICATED, state.params.network),
        items=jax.tree.map(lambda _: BY_SHARD, state.params.items),
    )
    opt_state = optax.tree.map_params(
        make_optimizer(config),
        lambda _, spec: spec,
        state.opt_state,
        params,
        transform_non_params=lambda _: REPLICATED,
    )
    return TrainState(params, opt_state)


def init_state(seed: int, model_config: ModelConfig, config: TrainConfig, mesh: Mesh) -> TrainState:
    """Draw the state of `train.init_state` over a mesh, each shard its rows; see `put_state`."""
    model_config, config = what_is_drawn(model_config, config)
    like = jax.eval_shape(lambda: draw_state(0, model_config, config))
    rows = n_rows(model_config.n_items, mesh.size)

    def draw(seed: jax.Array) -> TrainState:
        item = jnp.arange(rows) * mesh.size + jax.lax.axis_index(AXIS)
        item = jnp.where(item < model_config.n_items, item, NO_ITEM)
        return draw_state(seed, model_config, config, item)

    specs: Any = state_specs(like, config)
    mapped = jax.shard_map(draw, mesh=mesh, in_specs=REPLICATED, out_specs=specs, check_vma=False)
    return jax.jit(mapped)(put_global(np.asarray(seed, np.int32), mesh, REPLICATED))


def put_state(state: TrainState, mesh: Mesh, config: TrainConfig) -> TrainState:
    """Put a state of one device onto a mesh.

    Args:
        state: of one seed; the same in all processes.
        mesh: of `make_mesh`.
        config: of the training.

    Returns:
        The state with its item tables by shard, [D ceil(V / D), ...]: shard after shard.
    """

    def put(leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
        values = np.asarray(leaf)
        return put_rows(values, mesh) if spec == BY_SHARD else put_global(values, mesh, spec)

    return jax.tree.map(put, state, state_specs(state, config))


def put_rows(table: np.ndarray, mesh: Mesh) -> jax.Array:
    """Put a table [V, ...] that all processes have onto a mesh by row: [D ceil(V / D), ...]."""
    rows = n_rows(len(table), mesh.size)
    shape = rows * mesh.size, *table.shape[1:]

    def own(index: Any) -> np.ndarray:
        return rows_of(table, index[0].indices(shape[0])[0] // rows, mesh.size)

    return jax.make_array_from_callback(shape, NamedSharding(mesh, BY_SHARD), own)


def take_state(state: TrainState, mesh: Mesh, config: TrainConfig, n_items: int) -> TrainState:
    """Undo `put_state`; all processes must call it.

    Returns:
        The state as numpy arrays, the rows of the tables in the order of the items.
    """

    def take(leaf: jax.Array, spec: PartitionSpec) -> np.ndarray:
        if spec == REPLICATED:
            return np.asarray(leaf.addressable_data(0))
        return in_order(gathered(leaf), mesh.size, n_items)

    return jax.tree.map(take, state, state_specs(state, config))


def rows_of(table: np.ndarray, shard: int, n_shards: int) -> np.ndarray:
    """Return the rows of a table [V, ...] that are on a shard, padded: [ceil(V / D), ...]."""
    own = table[shard::n_shards]
    padding = n_rows(len(table), n_shards) - len(own)
    return np.pad(own, [(0, padding), *[(0, 0)] * (table.ndim - 1)])


def in_order(table: np.ndarray, n_shards: int, n_items: int) -> np.ndarray:
    """Return the rows of the first `n_items` items in their order, from shard after shard."""
    by_row = table.reshape(n_shards, -1, *table.shape[1:]).swapaxes(0, 1)
    return by_row.reshape(table.shape)[:n_items]


def put_global(values: np.ndarray, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
    """Put an array that all processes have as a whole onto the mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def put_local(values: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Put arrays of which each process has the part of its own shards onto the mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda part: jax.make_array_from_process_local_data(sharding, np.asarray(part)), values
    )


def gathered(leaf: jax.Array) -> np.ndarray:
    """Return an array by shard as a whole, in every process.

    Of several processes some rows are sent at a time, as each device then has them of all.
    """
    if leaf.is_fully_addressable:
        return np.asarray(leaf)
    sharding: Any = leaf.sharding
    mesh: Mesh = sharding.mesh
    rows = len(leaf) // mesh.size  # of a shard
    n_sent = max(1, min(rows, _SENT_AT_ONCE * rows // leaf.size))
    whole = np.empty((mesh.size, rows, *leaf.shape[1:]), leaf.dtype)
    for begin in range(0, rows, n_sent):
        begin = min(begin, rows - n_sent)  # the last rows perhaps twice
        sent = _some_rows(
            leaf, put_global(np.asarray(begin, np.int32), mesh, REPLICATED), mesh, n_sent
        )
        whole[:, begin : begin + n_sent] = sent.addressable_data(0)
    return whole.reshape(leaf.shape)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _some_rows(leaf: jax.Array, begin: jax.Array, mesh: Mesh, n: int) -> jax.Array:
    """Gather n rows of each shard from one on, [D, n, ...]."""

    def take(leaf: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.all_gather(jax.lax.dynamic_slice_in_dim(leaf, begin, n), AXIS)

    return jax.shard_map(
        take, mesh=mesh, in_specs=(BY_SHARD, REPLICATED), out_specs=REPLICATED, check_vma=False
    )(leaf, begin)
