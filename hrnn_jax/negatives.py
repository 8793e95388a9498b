"""Extra negatives: items that all lanes of a mini-batch share, beside each other's targets.

A mini-batch of B lanes has B - 1 negatives a lane, and popular ones. Hidasi and Karatzoglou (2018)
add items drawn by support^alpha: 1 draws them as the batch does, 0 all alike. They are drawn on the
device, for a chunk of steps at a time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax import lanes

_WORDS = 2**32


@struct.dataclass
class Sampler:
    """What items are drawn by."""

    bound: lanes.Array  # [V - 1] uint32, ascending: words from bound[i - 1] up to bound[i] draw i
    log_expected: lanes.Array  # [V] of how often an item is expected among a step's candidates


def sampler(support: np.ndarray, *, n_extra: int, alpha: float, batch_size: int) -> Sampler:
    """Prepare to draw `n_extra` items an update by support^alpha; support: [V] training events.

    Items that are expected never to be drawn have a finite log_expected all the same.
    """
    # Bounds are whole numbers: float32 would lose rare items at the end of a large catalogue.
    share = _share(np.asarray(support, np.float64) ** alpha)
    bound = np.minimum(np.rint(np.cumsum(share)[:-1] * _WORDS), _WORDS - 1)
    expected = n_extra * share + batch_size * _share(np.asarray(support, np.float64))
    return Sampler(
        bound=bound.astype(np.uint32),
        log_expected=np.log(np.maximum(expected, 1e-30)).astype(np.float32),
    )


def draw(key: jax.Array, sampler: Sampler, *, n_updates: int, n_extra: int) -> jax.Array:
    """Draw items [n_updates, n_extra], ascending for each update; some may be drawn twice.

    One word is drawn in each of n_extra equal parts of all words: an item is expected n_extra times
    its share, as in independent draws, and the number of times varies less.
    """
    begins = np.array([part * _WORDS // n_extra for part in range(n_extra + 1)], np.uint64)
    words = jax.random.bits(key, (n_updates, n_extra))
    width = np.minimum(np.diff(begins), _WORDS - 1).astype(np.uint32)
    words = begins[:-1].astype(np.uint32)[None] + words % width[None]
    return jnp.searchsorted(sampler.bound, words, side="right").astype(jnp.int32)


def _share(weight: np.ndarray) -> np.ndarray:
    return weight / weight.sum()
