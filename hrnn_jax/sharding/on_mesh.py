"""What an update sends between the shards of a mesh.

Every shard learns the ids of all lanes before a chunk of updates, and fills in the rows that it
has. A sum over the shards, of which one has a row and the others have zeros, brings each lane its
inputs and every shard the rows of all targets, so that all lanes compete as on one device. The
gradients of the dense weights and of the targets' rows are added up over the shards, and those of
the inputs gathered. Each shard then sums the occurrences of its own rows in the order of the lanes
and updates these rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from hrnn_jax.extras import negatives
from hrnn_jax.losses import Candidates, OutputRows
from hrnn_jax.model import Items, Params, gather_rows
from hrnn_jax.placement import Lanes, OneDevice
from hrnn_jax.sharding import full_softmax
from hrnn_jax.sharding.tables import AXIS
from hrnn_jax.user_batches import NO_ITEM, Steps


@dataclasses.dataclass(frozen=True)
class OnMesh(OneDevice):
    """One shard of D, inside `jax.shard_map`; see `OneDevice`, whose methods it replaces."""

    n_shards: int  # D
    n_items: int  # V
    n_steps: int  # K, of an update

    def rows(self, items: jax.Array) -> jax.Array:
        """Return the rows of this shard's items, NO_ITEM for others and for NO_ITEM."""
        here = (items % self.n_shards == jax.lax.axis_index(AXIS)) & (items != NO_ITEM)
        return jnp.where(here, items // self.n_shards, NO_ITEM)

    def all_lanes(self, steps: Steps) -> Lanes:
        """Gather what every shard must know: of a whole chunk at once, before its updates."""
        return jax.tree.map(gather_lanes, Lanes.of(steps))

    def total(self, values: Any) -> Any:
        """Add up what the shards have, as one array: each that is sent waits for all shards."""
        flat, unravel = ravel_pytree(values)
        return unravel(jax.lax.psum(flat, AXIS))

    def first_lane(self, steps: Steps) -> jax.Array:
        """Return the number of the first lane here, for each of K steps."""
        n_steps, n_lanes = steps.input.shape
        return jnp.full(n_steps, jax.lax.axis_index(AXIS) * n_lanes)

    def seen(self, values: Params, *, whole: bool) -> Params:
        """Send each row to the shards that need it: one summand is not zero, so sums are exact."""
        items = values.items
        if items.item_in is not None:
            items = dataclasses.replace(items, item_in=self.own_lanes(items.item_in))
        if not whole:
            output = self.total((items.item_out, items.item_bias))
            items = dataclasses.replace(items, item_out=output[0], item_bias=output[1])
        return Params(values.network, items)

    def total_gradients(self, grads: Params, *, whole: bool) -> Params:
        """Add up the gradients of what all shards see; gather those of each lane's inputs."""
        items = grads.items
        if items.item_in is not None:
            by_step = self._by_step(items.item_in)
            gathered = jax.lax.all_gather(by_step, AXIS, axis=1, tiled=True)
            items = dataclasses.replace(items, item_in=_flat(gathered))
        if whole:
            return Params(self.total(grads.network), items)
        network, *output = self.total((grads.network, items.item_out, items.item_bias))
        items = dataclasses.replace(items, item_out=output[0], item_bias=output[1])
        return Params(network, items)

    def inputs(self, items: Items, rows: jax.Array, steps: Steps, *, whole: bool) -> jax.Array:
        """Return the inputs of the lanes here at K steps, [K, b, ...]."""
        if items.item_in is not None:
            x = items.item_in
        elif whole:
            x = self.own_lanes(gather_rows(items.item_out, rows))
        else:
            n_lanes, first = steps.input.shape[1], self.first_lane(steps)[0]
            x = self._by_step(items.item_out[-len(rows) :])
            x = jax.lax.dynamic_slice_in_dim(x, first, n_lanes, axis=1)
        return x.reshape(*steps.input.shape, -1)

    def candidates(
        self, gathered: Items, steps: Steps, lanes: Lanes, extra: jax.Array
    ) -> Candidates:
        """Split the gathered output rows: this shard's targets', the others', the extra ones'."""
        target = lanes.target
        n_targets, n_lanes = target.size, steps.target.shape[1]
        rows = gathered.item_out, gathered.item_bias
        of_targets = jax.tree.map(
            lambda a: a[:n_targets].reshape(*target.shape, *a.shape[1:]), rows
        )
        first = self.first_lane(steps)[0]
        # The lanes in turn from the first one here on.
        turned = jax.tree.map(lambda a: jnp.roll(a, -first, axis=1), (target, *of_targets))
        of_extra = jax.tree.map(lambda a: a[n_targets : n_targets + len(extra)], rows)
        return Candidates(
            target=OutputRows(*(a[:, :n_lanes] for a in turned)),
            extra=OutputRows(extra, *of_extra),
            others=OutputRows(*(a[:, n_lanes:] for a in turned)),
        )

    def full_softmax_loss(
        self,
        items: Items,
        hidden: jax.Array,
        steps: Steps,
        lanes: Lanes,
        sampler: negatives.Sampler | None,
    ) -> jax.Array:
        """Score the rows here for all lanes, and combine the sums of all shards."""
        number = jnp.arange(len(items.item_out)) * self.n_shards + jax.lax.axis_index(AXIS)
        number = jnp.where(number < self.n_items, number, NO_ITEM)
        among = (number != NO_ITEM)[None]
        if sampler is not None and sampler.offer is not None:
            among &= negatives.on_offer(sampler.offer, lanes.time.reshape(-1), number)
        output = Items(item_in=None, item_out=items.item_out, item_bias=items.item_bias)
        is_own = number[None] == lanes.target.reshape(-1, 1)
        return full_softmax.full_softmax(hidden, output, steps.valid, is_own, among)

    def own_lanes(self, rows: jax.Array) -> jax.Array:
        """Add up the rows [N, ...] of the shards; each gets those of its lanes."""
        by_step = self._by_step(rows)
        return _flat(jax.lax.psum_scatter(by_step, AXIS, scatter_dimension=1, tiled=True))

    def _by_step(self, rows: jax.Array) -> jax.Array:
        return rows.reshape(self.n_steps, -1, *rows.shape[1:])


def gather_lanes(values: jax.Array) -> jax.Array:
    """Gather values [..., b] of the lanes of all shards."""
    return jax.lax.all_gather(values, AXIS, axis=values.ndim - 1, tiled=True)


def _flat(rows: jax.Array) -> jax.Array:
    return rows.reshape(-1, *rows.shape[2:])
