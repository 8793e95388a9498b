"""Where the rows of the item tables and the lanes of a batch are while an update is made.

`OneDevice` has all of them in one place, and sends nothing. Over a mesh of devices each holds some
of the rows and some of the lanes (hrnn_jax.sharding): it sends what the others need. The update
(train.py) and the losses are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hrnn_jax import losses
from hrnn_jax.extras import negatives
from hrnn_jax.losses import Candidates, OutputRows
from hrnn_jax.model import Items, Params, gather_rows
from hrnn_jax.training.user_batches import Steps


class Lanes(NamedTuple):
    """What every device knows of all lanes, B of them, at some steps; see `Steps`."""

    input: jax.Array  # [..., B]
    target: jax.Array  # [..., B]
    valid: jax.Array  # [..., B]
    time: jax.Array  # [..., B]
    sent: Any = None  # over a mesh: which rows are sent, and where to

    @classmethod
    def of(cls, steps: Steps) -> Lanes:
        """Return what is known of the lanes of `steps`."""
        return cls(*map(jnp.asarray, (steps.input, steps.target, steps.valid, steps.time)))


class OneDevice:
    """All rows and all lanes are here.

    In a subclass N is the number of pairs of K steps and *all* lanes, of which `steps` has some.
    """

    def all_lanes(self, steps: Steps) -> Lanes | None:
        """Return what is known of all lanes at steps [..., B]; None where `steps` has them all."""
        return None

    def touched(self, lanes: Lanes) -> tuple[jax.Array, jax.Array]:
        """Return where the tables here have the rows of the inputs and of the targets, [N] each.

        In a subclass these are the rows that are here, in the order of the lanes and with NO_ITEM
        between them: their number is another.
        """
        return lanes.input.reshape(-1), lanes.target.reshape(-1)

    def rows(self, items: jax.Array) -> jax.Array:
        """Return where the tables here have the rows of items; NO_ITEM where they have not."""
        return items

    def total(self, values: Any) -> Any:
        """Add up what the devices have."""
        return values

    def first_lane(self, steps: Steps) -> jax.Array | None:
        """Return the number of the first lane here, for each of K steps; None where it is 0."""
        return None

    def seen(self, values: Params, lanes: Lanes, *, whole: bool) -> Params:
        """Return the weights that the loss of the lanes here is computed with.

        Args:
            values: the dense weights, the rows of the inputs and those of the scored items, as
                `touched` lists them.
            lanes: all of them.
            whole: whether the output rows are the table.

        Returns:
            The same with the rows of all N targets, and of the inputs of the lanes here.
        """
        return values

    def total_gradients(self, grads: Params, lanes: Lanes, *, whole: bool) -> Params:
        """Add up the gradients with respect to what `seen` returned: those of its argument."""
        return grads

    def inputs(
        self, items: Items, rows: jax.Array, steps: Steps, lanes: Lanes, *, whole: bool
    ) -> jax.Array:
        """Return the inputs of GRU_ses at K steps, [K, B, ...].

        Args:
            items: as `seen` returned them.
            rows: where the inputs' rows are, see `touched`.
            steps: K of them.
            lanes: all of them.
            whole: whether `items.item_out` is the table.
        """
        if items.item_in is not None:
            x = items.item_in
        elif whole:
            x = gather_rows(items.item_out, rows)
        else:
            x = items.item_out[-steps.input.size :]
        return x.reshape(*steps.input.shape, -1)

    def candidates(
        self, gathered: Items, steps: Steps, lanes: Lanes, extra: jax.Array
    ) -> Candidates:
        """Split the gathered output rows: the targets' first, then the extra negatives'."""
        shape, n_targets = steps.target.shape, steps.target.size
        own, more = (
            jax.tree.map(
                lambda rows, part=part: rows[part], (gathered.item_out, gathered.item_bias)
            )
            for part in (slice(n_targets), slice(n_targets, n_targets + len(extra)))
        )
        return Candidates(
            target=OutputRows(steps.target, own[0].reshape(*shape, -1), own[1].reshape(shape)),
            extra=OutputRows(extra, *more),
        )

    def full_softmax_loss(
        self,
        items: Items,
        hidden: jax.Array,
        steps: Steps,
        lanes: Lanes,
        sampler: negatives.Sampler | None,
    ) -> jax.Array:
        """Compute `losses.full_softmax_loss` of the lanes here over all items."""
        return losses.full_softmax_loss(items, hidden, steps, sampler)


ONE_DEVICE = OneDevice()
