"""What other sessions had beside the last items: counted, and added to the network's scores.

Not in the paper. With i_0, i_1, ... the last different items of the session, item j gains
sum_l weight 0.5^l log(1 + q(j | i_l) / 0.001). q is the mean of two shares: j's of what followed
i_l (sequential rules), and j's of what was near to it (Item-KNN's cosines). A network remembers
pairs of items badly that few sessions had, a table does not.

The network is trained as if there were no table. One that learns beside it leaves it all that it
knows, which is much from the start, and becomes worse at what it does not know.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import sparse

from hrnn_jax import atomic, errors
from hrnn_jax.baselines import counting, sparse_ranking
from hrnn_jax.event_log import EventLog
from hrnn_jax.user_batches import NO_ITEM, Array

FILE = "neighbours.npz"  # of a run folder
LAST = 5  # items of the session that are looked at
DECAY = 0.5  # from one to that before it
FLOOR = 0.001  # shares far below it add nothing
_STEPS = 10  # of sequential rules


@struct.dataclass
class Table:
    """Each item's nearest, counted in the training sessions."""

    item: Array  # [V, K] int32, NO_ITEM where there are fewer
    bonus: Array  # [V, K] float32, what their scores gain after it; 0 there


def count(log: EventLog, neighbours: int, weight: float) -> Table:
    """Find the nearest `neighbours` of each item in the sessions of a log of training events."""
    rules = sparse_ranking.largest(counting.rules(log, max_steps=_STEPS), neighbours)
    shares = _shares(rules) + _shares(counting.cosines(log, neighbours))  # the sum of two
    nearest: Any = sparse_ranking.largest(sparse.csr_array(shares), neighbours)
    found = np.diff(nearest.indptr)
    row = np.repeat(np.arange(log.n_items), found)
    place = np.arange(len(row)) - np.repeat(nearest.indptr[:-1], found)
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
    """Write a table. Raises InputError where that fails."""

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, item=table.item, bonus=table.bonus)

    atomic.write(path, savez)


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


def after(table: Table, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return items and what their scores gain, [n, L K] each; an item may come more than once.

    last: [n, L], the last items, the very last first, NO_ITEM where there are fewer.
    """
    item = table.item.at[last].get(mode="fill", fill_value=NO_ITEM)
    bonus = table.bonus.at[last].get(mode="fill", fill_value=0)
    bonus *= DECAY ** jnp.arange(last.shape[1])[None, :, None]
    return item.reshape(len(last), -1), bonus.reshape(len(last), -1)
