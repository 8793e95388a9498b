"""What other sessions had beside the last item: counted, and mixed with the network's softmax.

Not in the paper. P(item) = (1 - g) softmax(scores) + g cosine(last, item) / sum_j cosine(last, j).
The cosines are Item-KNN's, of the K items nearest to the last one. The gate g is learnt from the
session's and the user's state and from how much is known of the last item: a network remembers
pairs of items badly that few sessions had, a table does not.
"""

from __future__ import annotations

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax import baselines, errors, lanes
from hrnn_jax import log as log_lib

FILE = "neighbours.npz"  # of a run folder
_CLOSED = -2.0  # its sigmoid is 0.12


@struct.dataclass
class Table:
    """Each item's nearest, counted in the training sessions."""

    item: lanes.Array  # [V, K] int32, NO_ITEM where there are fewer
    cosine: lanes.Array  # [V, K] float32, 0 there
    sessions: lanes.Array  # [V] float32, those with the item


@struct.dataclass
class Weights:
    """What the gate is made with, before its sigmoid."""

    mean: lanes.Array  # []
    by_known: lanes.Array  # [], with the logarithm of 1 + the sum of the cosines
    by_session: lanes.Array  # [H], with the state of the uppermost layer
    by_user: lanes.Array  # [H], with c_{u,m}


@struct.dataclass
class Near:
    """The last items' nearest, for scoring."""

    item: jax.Array  # [..., K]
    log_odds: jax.Array  # [..., K] log(g / (1 - g) P(item)), -inf for NO_ITEM


def count(log: log_lib.EventLog, neighbours: int) -> Table:
    """Find the nearest `neighbours` of each item in the sessions of a log of training events."""
    cosines = baselines.cosines(log, neighbours)
    found = np.diff(cosines.indptr)
    row = np.repeat(np.arange(log.n_items), found)
    place = np.arange(len(row)) - np.repeat(cosines.indptr[:-1], found)
    item = np.full((log.n_items, neighbours), lanes.NO_ITEM, np.int32)
    cosine = np.zeros(item.shape, np.float32)
    item[row, place], cosine[row, place] = cosines.indices, cosines.data
    pairs = np.unique(np.stack([log.session, log.item]), axis=1)
    sessions = np.bincount(pairs[1], minlength=log.n_items).astype(np.float32)
    return Table(item=item, cosine=cosine, sessions=sessions)


def save(path: pathlib.Path, table: Table) -> None:
    """Write a table, beside its place and then renamed."""
    beside = path.with_name(path.name + ".partial")
    with beside.open("wb") as file:
        np.savez(file, item=table.item, cosine=table.cosine, sessions=table.sessions)
    os.replace(beside, path)


def load(path: pathlib.Path) -> Table:
    """Read a table. Raises InputError, naming the file, where there is none or it is damaged."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return jax.device_put(Table(**file))
    except Exception as error:  # whatever the reader trips over, the file is what is wrong
        raise errors.InputError(
            f"{path} is missing or damaged ({error}): end the run anew, by the command that began "
            "it and --resume"
        ) from error


def init(units: int) -> Weights:
    """Return a gate that is nearly closed, and the same for all."""
    return Weights(
        mean=jnp.full((), _CLOSED),
        by_known=jnp.zeros(()),
        by_session=jnp.zeros(units),
        by_user=jnp.zeros(units),
    )


def gate(weights: Weights, known: jax.Array, hidden: jax.Array, user: jax.Array) -> jax.Array:
    """Return the gate before its sigmoid, log(g / (1 - g)), [...]; -inf where nothing is known.

    known: [...], the sum of the last item's cosines; hidden, user: [..., H].
    """
    hidden, user = jax.lax.stop_gradient((hidden, user))
    of_state = hidden @ weights.by_session + user @ weights.by_user
    value = weights.mean + of_state + weights.by_known * jnp.log1p(known)
    return jnp.where(known > 0, value, -jnp.inf)


def without_own(table: Table, last: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return P(target) after the last item and the sum of its cosines, [...] each, for training.

    The target's session, which was counted as well, is left out of what is said of the target:
    what follows would always have been seen to follow. Zeros where there is no item or target.
    """
    item, cosine = _take(table, last)
    own = jnp.where(item == target[..., None], cosine, 0.0).sum(axis=-1)
    of_last, of_target = (
        table.sessions.at[index].get(mode="fill", fill_value=1) for index in (last, target)
    )
    both = jnp.round(own * jnp.sqrt(of_last * of_target))
    others = (of_last - 1) * (of_target - 1)
    left = jnp.where(both > 1, (both - 1) / jnp.sqrt(jnp.maximum(others, 1)), 0.0)
    known = jnp.maximum(cosine.sum(axis=-1) - own, 0.0) + left
    return jnp.where(known > 0, left / jnp.where(known > 0, known, 1.0), 0.0), known


def known(table: Table, last: jax.Array) -> jax.Array:
    """Return the sum of the last items' cosines, [...]."""
    return _take(table, last)[1].sum(axis=-1)


def nearest(table: Table, last: jax.Array, gate: jax.Array) -> Near:
    """Look up the nearest of the last items [...], whose `gate` is [...]."""
    item, cosine = _take(table, last)
    share = cosine / jnp.maximum(cosine.sum(axis=-1, keepdims=True), 1e-30)
    return Near(item=item, log_odds=gate[..., None] + jnp.log(share))


def mixed(loss: jax.Array, gate: jax.Array, probability: jax.Array) -> jax.Array:
    """Mix -log P of the network's softmax with P of the table: -log((1 - g) e^-loss + g P)."""
    known = gate > -jnp.inf
    open_ = jnp.where(known, gate, 0.0)
    of_table = jax.nn.log_sigmoid(open_) + jnp.log(jnp.maximum(probability, 1e-30))
    return jnp.where(known, -jnp.logaddexp(jax.nn.log_sigmoid(-open_) - loss, of_table), loss)


def _take(table: Table, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    item = table.item.at[last].get(mode="fill", fill_value=lanes.NO_ITEM)
    return item, table.cosine.at[last].get(mode="fill", fill_value=0)
