"""Extra negatives: items that all lanes of a mini-batch share, beside each other's targets.

A mini-batch of B lanes has B - 1 negatives a lane, and popular ones. Hidasi and Karatzoglou (2018)
add items drawn by support^alpha: 1 draws them as the batch does, 0 all alike. They are drawn on the
device, for a chunk of steps at a time.

Items come and go: news of last week never were what a user might have read today. An item is on
offer from its first training event to its last, and some hours before and after; a target's
negatives can be confined to what was on offer then.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.event_log import EventLog
from hrnn_jax.user_batches import Array

_WORDS = 2**32


@struct.dataclass
class Offer:
    """When items are on offer."""

    begin: Array  # [V] int32 Unix minutes
    end: Array  # [V]


@struct.dataclass
class Sampler:
    """What items are drawn by, and which of them count."""

    bound: Array  # [V - 1] uint32, ascending: words from bound[i - 1] up to bound[i] draw i
    log_expected: Array  # [V] of how often an item is expected among a step's candidates
    offer: Offer | None  # None where all do, always


def offer(log: EventLog, hours: float) -> Offer:
    """Find when items are on offer, and `hours` before and after; log: of training events.

    An item without an event never is.
    """
    minutes = log.time // 60
    first = np.full(log.n_items, np.iinfo(np.int32).max, np.int64)
    last = np.full(log.n_items, np.iinfo(np.int32).min, np.int64)
    np.minimum.at(first, log.item, minutes)
    np.maximum.at(last, log.item, minutes)
    more = round(60 * hours)
    had = first <= last
    return Offer(
        begin=np.where(had, first - more, first).astype(np.int32),
        end=np.where(had, last + more, last).astype(np.int32),
    )


def on_offer(offer: Offer, time: jax.Array, item: jax.Array | None = None) -> jax.Array:
    """Tell which items are on offer at each time [N], in Unix minutes: [N, V].

    item: [C], or of each time [N, C], to tell of these alone; NO_ITEM never is.
    """
    begin, end = jnp.asarray(offer.begin), jnp.asarray(offer.end)
    if item is not None:
        begin = begin.at[item].get(mode="fill", fill_value=np.iinfo(np.int32).max)
        end = end.at[item].get(mode="fill", fill_value=np.iinfo(np.int32).min)
    begin, end = jnp.atleast_2d(begin), jnp.atleast_2d(end)
    return (begin <= time[:, None]) & (time[:, None] <= end)


def sampler(
    support: np.ndarray, *, n_extra: int, alpha: float, batch_size: int, offer: Offer | None = None
) -> Sampler:
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
        offer=offer,
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
