"""Which rows each shard sends to which others at an update.

A row is sent by its owner alone. All shards send arrays of the same size, so the rows of an update
take places: of the inputs C for each pair of an owner and a shard that reads them, of the targets
C' for each owner. The host counts how many an epoch needs, so that every row has a place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from hrnn_jax.sharding.tables import AXIS
from hrnn_jax.training.placement import Lanes
from hrnn_jax.training.user_batches import NO_ITEM, Steps

_BLOCK = 4096  # updates counted at a time


class Places(NamedTuple):
    """How many rows are sent at an update, those of padding counted."""

    inputs: int  # C
    targets: int  # C'


class Sent(NamedTuple):
    """The rows that a shard sends and receives at each update, N = K B of all lanes, n here."""

    inputs: jax.Array  # [..., D C] int32 rows here: C for each shard, in the order of its lanes
    targets: jax.Array  # [..., C'] int32 rows here, in the order of the lanes; NO_ITEM for padding
    place: jax.Array  # [..., n] int32, where the inputs of the lanes here are among those received
    lane: jax.Array  # [..., D C] int32, its inverse
    target_place: jax.Array  # [..., N] int32, where the targets are among the D C' received
    target_lane: jax.Array  # [..., D C'] int32, its inverse


def count_places(
    steps: Steps, n_steps: int, n_shards: int, n_local: int, total: Any = np.asarray
) -> Places:
    """Count the places that the rows of an epoch need.

    Args:
        steps: of the lanes of this process; a multiple of K of them.
        n_steps: K, of an update.
        n_shards: D, over all processes.
        n_local: the shards of this process, which have as many lanes each.
        total: adds up an array over the processes.

    Returns:
        The places that the lanes here need of the inputs, and those that all need of the targets.
    """
    n_updates, inputs, targets = len(steps.input) // n_steps, 1, 1
    for begin in range(0, n_updates, _BLOCK):
        part = steps.window(begin * n_steps, (begin + _BLOCK) * n_steps)
        of_inputs, of_targets = (
            _by_owner(np.asarray(items), n_steps, n_shards, n_local)
            for items in (part.input, part.target)
        )
        inputs = max(inputs, int(of_inputs.max()))
        targets = max(targets, int(total(of_targets.sum(axis=1)).max()))
    return Places(_rounded(inputs), _rounded(targets))


def _rounded(n: int) -> int:
    """Round up by an eighth at most, so that epochs rarely differ in it and recompile."""
    step = 2 ** max(0, n.bit_length() - 4)
    return -(-n // step) * step


def _by_owner(items: np.ndarray, n_steps: int, n_shards: int, n_local: int) -> np.ndarray:
    """Count the items [T, b] that each shard owns, by update and shard here: [U, n_local, D]."""
    by_shard = items.reshape(-1, n_steps, n_local, items.shape[1] // n_local).swapaxes(1, 2)
    rows = by_shard.reshape(-1, by_shard[0, 0].size)
    owner = np.where(rows == NO_ITEM, n_shards, rows % n_shards)
    owner += (n_shards + 1) * np.arange(len(rows), dtype=owner.dtype)[:, None]
    counts = np.bincount(owner.ravel(), minlength=len(rows) * (n_shards + 1))
    return counts.reshape(-1, n_local, n_shards + 1)[..., :n_shards]


def rows_here(items: jax.Array, n_shards: int) -> jax.Array:
    """Return the rows of this shard's items, NO_ITEM for others and for NO_ITEM."""
    here = (items % n_shards == jax.lax.axis_index(AXIS)) & (items != NO_ITEM)
    return jnp.where(here, items // n_shards, NO_ITEM)


def lay_out(lanes: Lanes, n_shards: int, places: Places) -> Sent:
    """Lay out what is sent at each of U updates, whose ids all shards know.

    Args:
        lanes: [U, K, B].
        n_shards: D.
        places: as many as the rows need, or more.
    """
    n_updates = len(lanes.input)
    inputs, place = list_inputs(lanes.input, n_shards, places.inputs)
    targets, target_place = _list(lanes.target.reshape(n_updates, 1, -1), n_shards, places.targets)
    # Each row has its place from its owner, and 0 from the other shards.
    place, target_place = jax.lax.psum((place, target_place), AXIS)
    inputs, targets = (rows.reshape(n_updates, -1) for rows in (inputs, targets))
    place, target_place = place[:, jax.lax.axis_index(AXIS)] - 1, target_place[:, 0] - 1
    lane = _inverse(place, n_shards * places.inputs)
    target_lane = _inverse(target_place, n_shards * places.targets)
    return Sent(inputs, targets, place, lane, target_place, target_lane)


def list_inputs(items: jax.Array, n_shards: int, n_places: int) -> tuple[jax.Array, jax.Array]:
    """List the rows here of the inputs [U, K, B] of all lanes, for each shard that reads them.

    Returns:
        Rows [U, D, C]; and the places + 1 of each shard's inputs among the D C rows that it
        receives, [U, D, K B / D], 0 for those that others send: to be added up over the shards.
    """
    n_updates, n_steps, _ = items.shape
    by_shard = items.reshape(n_updates, n_steps, n_shards, -1).swapaxes(1, 2)
    return _list(by_shard.reshape(n_updates, n_shards, -1), n_shards, n_places)


def _list(items: jax.Array, n_shards: int, n_places: int) -> tuple[jax.Array, jax.Array]:
    """List the rows of items [U, G, M] that are here, [U, G, places]; return their places + 1."""
    rows = rows_here(items, n_shards)
    here = rows != NO_ITEM
    number = jnp.cumsum(here.astype(jnp.int32), axis=2)
    place = jnp.where(here, jax.lax.axis_index(AXIS) * n_places + number, 0)
    listed = jnp.full((*items.shape[:2], n_places), NO_ITEM, jnp.int32)
    first, second, _ = jnp.indices(items.shape, sparse=True)
    at = jnp.where(here, number - 1, n_places)
    return listed.at[first, second, at].set(rows, mode="drop"), place


def _inverse(place: jax.Array, n_places: int) -> jax.Array:
    """Return which of [U, N] has each of the places, [U, places]; N for none. -1 is no place."""
    first, lane = jnp.indices(place.shape, sparse=True)
    none = jnp.full((len(place), n_places), place.shape[1], jnp.int32)
    at = jnp.where(place < 0, n_places, place)
    return none.at[first, at].set(jnp.broadcast_to(lane, place.shape), mode="drop")


def exchange(parts: Any) -> Any:
    """Send part d of arrays [D, ...] to shard d, all as one array; return the parts received."""
    _, unravel = ravel_pytree(jax.tree.map(lambda a: a[0], parts))
    flat = jax.vmap(lambda part: ravel_pytree(part)[0])(parts)
    return jax.vmap(unravel)(jax.lax.all_to_all(flat, AXIS, 0, 0, tiled=True))


def add_up(values: Any) -> Any:
    """Add up what the shards have, as one array: each that is sent waits for all shards."""
    flat, unravel = ravel_pytree(values)
    return unravel(jax.lax.psum(flat, AXIS))
