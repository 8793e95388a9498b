"""What an update sends between the shards of a mesh.

Every shard learns the ids of all lanes before a chunk of updates, so each knows which rows it must
send to whom (exchange.py). Each lane gets the rows of its inputs, and every shard the rows of all
targets, so that all lanes compete as on one device. Gradients of rows go back to their owner, which
adds those of the targets up over the shards. It then sums the occurrences of each of its rows in
the order of the lanes and updates these rows. The dense gradients are added up over the shards.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from hrnn_jax.extras import negatives
from hrnn_jax.losses import Candidates, OutputRows
from hrnn_jax.model import Items, Params, gather_rows
from hrnn_jax.sharding import full_softmax
from hrnn_jax.sharding.exchange import Places, Sent, add_up, exchange, lay_out, rows_here
from hrnn_jax.sharding.tables import AXIS
from hrnn_jax.training.placement import Lanes, OneDevice
from hrnn_jax.training.user_batches import NO_ITEM, Steps


@dataclasses.dataclass(frozen=True)
class OnMesh(OneDevice):
    """One shard of D, inside `jax.shard_map`; see `OneDevice`, whose methods it replaces."""

    n_shards: int  # D
    n_items: int  # V
    places: Places

    def all_lanes(self, steps: Steps) -> Lanes:
        """Gather what every shard must know: of a whole chunk at once, before its updates."""
        lanes = jax.tree.map(gather_lanes, Lanes.of(steps))
        return lanes._replace(sent=lay_out(lanes, self.n_shards, self.places))

    def touched(self, lanes: Lanes) -> tuple[jax.Array, jax.Array]:
        """Return the rows here of the inputs and of the targets, each list padded."""
        return _sent(lanes).inputs, _sent(lanes).targets

    def rows(self, items: jax.Array) -> jax.Array:
        """Return the rows of this shard's items, NO_ITEM for others and for NO_ITEM."""
        return rows_here(items, self.n_shards)

    def total(self, values: Any) -> Any:
        """Add up what the shards have."""
        return add_up(values)

    def first_lane(self, steps: Steps) -> jax.Array:
        """Return the number of the first lane here, for each of K steps."""
        n_steps, n_lanes = steps.input.shape
        return jnp.full(n_steps, jax.lax.axis_index(AXIS) * n_lanes)

    def seen(self, values: Params, lanes: Lanes, *, whole: bool) -> Params:
        """Send each row to the shards that need it."""
        sent, items = _sent(lanes), values.items
        inputs, targets, extra = _split(items, len(sent.inputs), len(sent.targets), whole=whole)
        if inputs is None and targets is None:
            return values
        received = _flat(exchange((self._by_shard(inputs), self._to_all(targets))))
        inputs, targets = _take(received[0], sent.place), _take(received[1], sent.target_place)
        extra = self._total_extra(extra)
        return Params(values.network, _joined(items, inputs, targets, extra, whole=whole))

    def total_gradients(self, grads: Params, lanes: Lanes, *, whole: bool) -> Params:
        """Send gradients to the owners of their rows, and add up those that all shards have."""
        sent, items = _sent(lanes), grads.items
        inputs, targets, extra = _split(items, len(sent.place), len(sent.target_place), whole=whole)
        inputs = self._by_shard(_take(inputs, sent.lane))
        targets = self._by_shard(_take(targets, sent.target_lane))
        # Each shard adds up a part of the dense gradients.
        dense, unravel = ravel_pytree(grads.network)
        parts = jnp.pad(dense, (0, -len(dense) % self.n_shards)).reshape(self.n_shards, -1)
        inputs, targets, parts = exchange((inputs, targets, parts))
        targets, part = jax.tree.map(_sum, (targets, parts))
        items = _joined(items, _flat(inputs), targets, self._total_extra(extra), whole=whole)
        total = jax.lax.all_gather(part, AXIS, tiled=True)
        return Params(unravel(total[: len(dense)]), items)

    def inputs(
        self, items: Items, rows: jax.Array, steps: Steps, lanes: Lanes, *, whole: bool
    ) -> jax.Array:
        """Return the inputs of the lanes here at K steps, [K, b, ...]."""
        if items.item_in is not None or not whole:
            return super().inputs(items, rows, steps, lanes, whole=whole)
        received = _flat(exchange(self._by_shard(gather_rows(items.item_out, rows))))
        return gather_rows(received, _sent(lanes).place).reshape(*steps.input.shape, -1)

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

    def _by_shard(self, rows: Any) -> Any:
        """Split rows [D C, ...] into [D, C, ...]."""
        return jax.tree.map(lambda a: a.reshape(self.n_shards, -1, *a.shape[1:]), rows)

    def _to_all(self, rows: Any) -> Any:
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (self.n_shards, *a.shape)), rows)

    def _total_extra(self, extra: Any) -> Any:
        return self.total(extra) if jax.tree.leaves(extra) else extra


def _sent(lanes: Lanes) -> Sent:
    assert lanes.sent is not None
    return lanes.sent


def _split(items: Items, n_inputs: int, n_targets: int, *, whole: bool) -> tuple[Any, Any, Any]:
    """Return the rows of the inputs, of the targets and of the extra negatives.

    The latter two are pairs of rows and biases. None are those that are not sent: output rows where
    `items` has the table, extra negatives where there are none.
    """
    if whole:
        return items.item_in, None, None
    output = items.item_out, items.item_bias
    tied = items.item_in is None
    inputs = items.item_out[-n_inputs:] if tied else items.item_in
    n_extra = len(items.item_out) - n_targets - n_inputs * tied
    targets = jax.tree.map(lambda a: a[:n_targets], output)
    extra = jax.tree.map(lambda a: a[n_targets : n_targets + n_extra], output)
    return inputs, targets, extra if n_extra else None


def _joined(items: Items, inputs: Any, targets: Any, extra: Any, *, whole: bool) -> Items:
    """Undo `_split`; `items` has what was not sent."""
    if whole:
        return dataclasses.replace(items, item_in=inputs)
    parts = [part for part in (targets, extra) if part is not None]
    if items.item_in is None:  # an input has no bias
        parts.append((inputs, jnp.zeros(len(inputs))))
    output, bias = (jnp.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Items(items.item_in if items.item_in is None else inputs, output, bias)


def _take(rows: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda a: gather_rows(a, index), rows)


def _sum(parts: jax.Array) -> jax.Array:
    """Add up the parts of all shards, in one loop; `jnp.sum` calls a library on CPUs."""
    return functools.reduce(operator.add, list(parts))


def _flat(rows: Any) -> Any:
    """Put the parts [D, C, ...] of rows one after the other."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rows)


def gather_lanes(values: jax.Array) -> jax.Array:
    """Gather values [..., b] of the lanes of all shards."""
    return jax.lax.all_gather(values, AXIS, axis=values.ndim - 1, tiled=True)
