"""A bonus for items that other sessions had together with the last items: counted, not learnt.

Not in the paper. With i_0, i_1, ... the last different items of the session, the latest first, the
bonus on the score of item j is

    sum over l of  weight * 0.5^l * log(1 + q(j | i_l) / 0.001)

where q(j | i) is the mean of two shares: that of j in the weights of the sequential rules of i, and
that of j in the cosines of i (Item-KNN). Of each item the largest q are kept. A network remembers
pairs of items badly that few sessions had; a table does not.

The bonus is added in evaluation and live recommendation only. A network that was trained with it
did not learn what the table knows, which is much from the start, and became worse at the rest.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import sparse

from hrnn_jax import atomic
from hrnn_jax.baselines import counting, sparse_ranking
from hrnn_jax.errors import InputError, reason
from hrnn_jax.event_log import EventLog
from hrnn_jax.user_batches import NO_ITEM, Array

FILE = "neighbours.npz"  # of a run folder
LAST = 5  # items of the session that give a bonus
DECAY = 0.5  # factor from one of them to the one before it
FLOOR = 0.001  # shares far below it give next to no bonus
_STEPS = 10  # largest distance in the sequential rules


@struct.dataclass
class Table:
    """The K neighbours of each item with their bonuses."""

    item: Array  # [V, K] int32, NO_ITEM where an item has fewer neighbours
    bonus: Array  # [V, K] float32, added to the neighbours' scores after the item; 0 for NO_ITEM


def count(log: EventLog, neighbours: int, weight: float) -> Table:
    """Count the neighbours of each item.

    Args:
        log: the training events.
        neighbours: K.
        weight: of the bonus, above 0.
    """
    rules = sparse_ranking.largest(counting.rules(log, max_steps=_STEPS), neighbours)
    shares = _shares(rules) + _shares(counting.cosines(log, neighbours))  # the sum of two
    nearest: Any = sparse_ranking.largest(sparse.csr_array(shares), neighbours)
    row = np.repeat(np.arange(log.n_items), np.diff(nearest.indptr))
    place = np.arange(len(row)) - nearest.indptr[row]
    item = np.full((log.n_items, neighbours), NO_ITEM, np.int32)
    bonus = np.zeros(item.shape, np.float32)
    item[row, place] = nearest.indices
    bonus[row, place] = weight * np.log1p(nearest.data / (2 * FLOOR))
    return Table(item=item, bonus=bonus)


def _shares(counts: sparse.csr_array) -> sparse.csr_array:
    """Divide each row by its sum."""
    total: Any = counts.sum(axis=1)
    shares = counts.data / np.repeat(total, np.diff(counts.indptr))
    return sparse.csr_array((shares, counts.indices, counts.indptr), shape=counts.shape)


def save(path: pathlib.Path, table: Table) -> None:
    """Write a table as npz.

    Raises:
        InputError: the file cannot be written.
    """

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, item=table.item, bonus=table.bonus)

    atomic.write(path, savez)


def load(path: pathlib.Path) -> Table:
    """Read a table onto the device.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return jax.device_put(Table(**file))
    except Exception as error:  # np.load has no error of its own for a damaged file
        raise InputError(
            f"{path} is missing or damaged ({reason(error)}): repeat the command of the run with "
            "`resume`"
        ) from error


def bonus_after(table: Table, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the items with a bonus after the last items of n sessions.

    Args:
        table: of all items.
        last: [n, L] different items, the latest first, NO_ITEM where a session has fewer.

    Returns:
        Items and bonuses, [n, L K] each; the bonuses of an item that occurs twice add up.
    """
    item = table.item.at[last].get(mode="fill", fill_value=NO_ITEM)
    bonus = table.bonus.at[last].get(mode="fill", fill_value=0)
    bonus *= DECAY ** jnp.arange(last.shape[1])[None, :, None]
    return item.reshape(len(last), -1), bonus.reshape(len(last), -1)
