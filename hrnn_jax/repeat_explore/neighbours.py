"""What other sessions had together with the last items, and how many users an item had: counted.

Not in the paper. Three counts give shares q(j | i) of the items j after or beside an item i: a
Markov chain, sequential rules, and the cosines of Item-KNN (baselines/counting.py). Of each item
the K items with the largest sum of the three are kept. A network remembers pairs of items badly
that few sessions had; a table does not. How much each share weighs is learnt on sessions that were
not counted, see fit.py. The users of an item are an input of the place network, see features.py.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import sparse

from hrnn_jax.baselines import counting, sparse_ranking
from hrnn_jax.errors import InputError, reason
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic
from hrnn_jax.training.user_batches import NO_ITEM, Array

FILE = "neighbours.npz"  # of a run folder
SHARES = 3  # Markov, sequential rules, cosines
LAST = 5  # items of the session that have neighbours
LAGS = 3  # the last item, the one before, and those before it
_DECAY = 0.5  # of the third lag, from one of its items to the one before
_FLOOR = 0.001  # shares far below it count next to nothing
_STEPS = 10  # largest distance in the sequential rules


@struct.dataclass
class Table:
    """The K neighbours and the users of each item."""

    item: Array  # [V, K] int32, NO_ITEM where an item has fewer
    share: Array  # [V, SHARES, K] float32, log(1 + q / 0.001); 0 for NO_ITEM
    users: Array  # [V, 2] int32, who had the item, and who had it more than once


def count(log: EventLog, neighbours: int) -> Table:
    """Count the neighbours and the users of each item.

    Args:
        log: the training events.
        neighbours: K at most; the table is no wider than the catalogue.
    """
    neighbours = min(neighbours, log.n_items)
    counts = (
        counting.rules(log, max_steps=1),
        counting.rules(log, max_steps=_STEPS),
        counting.cosines(log, neighbours),
    )
    shares = [counting.shares(sparse.csr_array(each)) for each in counts]
    total: Any = shares[0] + shares[1] + shares[2]
    nearest: Any = sparse_ranking.largest(sparse.csr_array(total), neighbours)
    row = np.repeat(np.arange(log.n_items), np.diff(nearest.indptr))
    place = np.arange(len(row)) - nearest.indptr[row]
    item = np.full((log.n_items, neighbours), NO_ITEM, np.int32)
    share = np.zeros((log.n_items, SHARES, neighbours), np.float32)
    item[row, place] = nearest.indices
    for kind, each in enumerate(shares if len(row) else ()):  # scipy takes no empty choice
        values: Any = each[row, nearest.indices]
        share[row, kind, place] = np.log1p(values / _FLOOR)
    return Table(item=item, share=share, users=count_users(*user_items(log), log.n_items))


def count_users(pairs: np.ndarray, events: np.ndarray, n_items: int) -> np.ndarray:
    """Count who had each item, and who had it more than once.

    Args:
        pairs: of `user_items`.
        events: of each pair.
        n_items: V.

    Returns:
        [V, 2] int32.
    """
    of_item = pairs % n_items
    counts = (np.bincount(some, minlength=n_items) for some in (of_item, of_item[events > 1]))
    return np.stack([*counts], axis=1).astype(np.int32)


def user_items(log: EventLog) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a user and an item, as user x V + item, ascending, and their events."""
    return np.unique(log.user.astype(np.int64) * log.n_items + log.item, return_counts=True)


def after(table: Table, last: Array) -> tuple[jax.Array, jax.Array]:
    """Return the neighbours of the last items of n sessions.

    Args:
        table: of all items.
        last: [n, L] different items, the latest first, NO_ITEM where a session has fewer.

    Returns:
        Items [n, L, K], and their shares [n, L, SHARES, K].
    """
    item = jnp.asarray(table.item).at[last].get(mode="fill", fill_value=NO_ITEM)
    return item, jnp.asarray(table.share).at[last].get(mode="fill", fill_value=0)


def lag_weights(n_last: int) -> np.ndarray:
    """Return by which factor the neighbours of each of the last items count at each lag.

    Args:
        n_last: the last items L.

    Returns:
        [L, LAGS]: an item has one lag, the others are 0; of the third, each item half of the one
        after it.
    """
    places = np.arange(n_last)
    weights = np.zeros((n_last, LAGS), np.float32)
    weights[places, np.minimum(places, LAGS - 1)] = _DECAY ** np.maximum(places - LAGS + 1, 0)
    return weights


def bonus(share: Array, weights: Array) -> Array:
    """Return what the shares add to the logits of the neighbours, [n, L, K].

    Args:
        share: [n, L, SHARES, K], see `after`.
        weights: [LAGS * SHARES], of each lag and share.
    """
    of_item = lag_weights(share.shape[1]) @ weights.reshape(LAGS, SHARES)  # [L, SHARES]
    # One after the other, which compiles to one loop; a sum over an axis takes three times as long.
    parts = [of_item[None, :, kind, None] * share[:, :, kind] for kind in range(SHARES)]
    return functools.reduce(operator.add, parts)


def save(path: pathlib.Path, table: Table) -> None:
    """Write a table as npz.

    Raises:
        InputError: the file cannot be written.
    """

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, **vars(table))

    atomic.write(path, savez)


def load(path: pathlib.Path) -> Table:
    """Read a table.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            for field in dataclasses.fields(Table):
                if field.name not in file:
                    raise ValueError(f"it has no `{field.name}`, which this version reads")
            return Table(**file)
    except Exception as error:  # np.load has no error of its own for a damaged file
        raise InputError(
            f"{path} is missing or damaged ({reason(error)}): repeat the command of the run with "
            "`resume`"
        ) from error
