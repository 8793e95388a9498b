"""Extra negatives: items that all lanes of a mini-batch share, next to each other's targets.

A mini-batch of B lanes has B - 1 negatives a lane, and popular ones. Hidasi and Karatzoglou,
"Recurrent Neural Networks with Top-k Gains for Session-based Recommendations" (CIKM 2018), add
items drawn by support^alpha: 1 draws them as often as the batch does, 0 all equally often. They are
drawn on the device.

The items that a user could have chosen change over time: last week's news are not a choice today.
An item is on offer from its first training event to its last, and some hours before and after. A
target's negatives can be restricted to what was on offer at its time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.config import TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.training.user_batches import Array

_WORDS = 2**32
_MOST_BUCKETS_LOG2 = 20  # 4 MB of `Sampler.first`


@struct.dataclass
class Offer:
    """When items are on offer."""

    begin: Array  # [V] int32 Unix minutes
    end: Array  # [V] int32 Unix minutes


@struct.dataclass
class Sampler:
    """How items are drawn as negatives, and when they count as such."""

    bound: Array  # [V - 1] uint32, ascending: words from bound[i - 1] up to bound[i] draw item i
    first: Array  # [2^n + 1] int32, the item that the first word of each of 2^n equal buckets draws
    halvings: int = struct.field(pytree_node=False)  # to find a word's item within its bucket
    log_expected: Array  # [V] logarithm of how often an item is expected among a step's candidates
    offer: Offer | None  # None: all items, always


def make_sampler(log: EventLog, config: TrainConfig) -> Sampler | None:
    """Return the sampler that a config asks for, None where it asks for none.

    Args:
        log: the training events.
        config: whose extra_negatives, log_q or negative_hours need a sampler.

    Returns:
        The sampler, as numpy arrays.
    """
    if not (config.extra_negatives or config.log_q or config.negative_hours):
        return None
    return sampler(
        log.support,
        n_extra=config.extra_negatives,
        alpha=config.negative_alpha,
        batch_size=config.batch_size,
        offer=offer(log, config.negative_hours) if config.negative_hours else None,
    )


def sampler(
    support: np.ndarray, *, n_extra: int, alpha: float, batch_size: int, offer: Offer | None = None
) -> Sampler:
    """Prepare to draw items by support^alpha.

    Args:
        support: [V] training events of each item.
        n_extra: the extra negatives E of an update.
        alpha: the exponent.
        batch_size: the lanes B, whose targets are candidates too.
        offer: when items count as negatives; None for always.

    Returns:
        The sampler. An item that is never expected as a candidate has a finite log_expected.
    """
    # Bounds are whole numbers: float32 would lose rare items at the end of a large catalogue.
    share = _share(np.asarray(support, np.float64) ** alpha)
    bound = np.minimum(np.rint(np.cumsum(share)[:-1] * _WORDS), _WORDS - 1).astype(np.uint32)
    n_buckets = 1 << min(len(support).bit_length(), _MOST_BUCKETS_LOG2)
    starts = np.arange(n_buckets + 1) * (_WORDS // n_buckets)
    first = np.searchsorted(bound, starts, side="right").astype(np.int32)
    # A lane's own target counts in full: what is drawn are the targets of the others.
    expected = n_extra * share + (batch_size - 1) * _share(np.asarray(support, np.float64))
    return Sampler(
        bound=bound,
        first=first,
        halvings=int(np.diff(first).max()).bit_length(),
        log_expected=np.log(np.maximum(expected, 1e-30)).astype(np.float32),
        offer=offer,
    )


def offer(log: EventLog, hours: float) -> Offer:
    """Find when items are on offer: from some hours before their first event to after their last.

    Args:
        log: the training events.
        hours: before and after.

    Returns:
        The times. An item without an event is never on offer.
    """
    minutes = log.time // 60
    first = np.full(log.n_items, np.iinfo(np.int32).max, np.int64)
    last = np.full(log.n_items, np.iinfo(np.int32).min, np.int64)
    np.minimum.at(first, log.item, minutes)
    np.maximum.at(last, log.item, minutes)
    margin = round(60 * hours)
    has_event = first <= last
    return Offer(
        begin=np.where(has_event, first - margin, first).astype(np.int32),
        end=np.where(has_event, last + margin, last).astype(np.int32),
    )


def on_offer(offer: Offer, time: jax.Array, item: jax.Array | None = None) -> jax.Array:
    """Return which items are on offer at each time.

    Args:
        offer: when items are.
        time: [N] Unix minutes.
        item: [C] items to look at, or [N, C] of each time; all by default. NO_ITEM is never on
            offer.

    Returns:
        [N, C] bool, [N, V] for all items.
    """
    begin, end = jnp.asarray(offer.begin), jnp.asarray(offer.end)
    if item is not None:
        begin = begin.at[item].get(mode="fill", fill_value=np.iinfo(np.int32).max)
        end = end.at[item].get(mode="fill", fill_value=np.iinfo(np.int32).min)
    begin, end = jnp.atleast_2d(begin), jnp.atleast_2d(end)
    return (begin <= time[:, None]) & (time[:, None] <= end)


def draw(key: jax.Array, sampler: Sampler, n_extra: int) -> jax.Array:
    """Draw the extra negatives of an update.

    One word is drawn in each of n_extra equal parts of all words: an item is expected n_extra times
    its share, as in independent draws, and the number of times varies less.

    Args:
        key: a random key.
        sampler: how items are drawn.
        n_extra: the number of items E.

    Returns:
        [E] int32 items, ascending; some may occur twice.
    """
    words = _words(key, n_extra)
    # The number of bounds up to each word, between those of its bucket's ends.
    first, bound = jnp.asarray(sampler.first), jnp.asarray(sampler.bound)
    bucket = words // np.uint32(_WORDS // (len(first) - 1))
    low, high = first[bucket], first[bucket + 1]
    for _ in range(sampler.halvings):
        middle = (low + high) // 2
        is_above = (middle < high) & (bound.at[middle].get(mode="clip") <= words)
        low, high = jnp.where(is_above, middle + 1, low), jnp.where(is_above, high, middle)
    return low


def _words(key: jax.Array, n: int) -> jax.Array:
    """Draw one word in each of n equal parts of all words: [n] uint32, ascending."""
    begins = np.array([part * _WORDS // n for part in range(n + 1)], np.uint64)
    width = np.minimum(np.diff(begins), _WORDS - 1).astype(np.uint32)
    return jnp.asarray(begins[:-1].astype(np.uint32)) + jax.random.bits(key, (n,)) % width


def _share(weight: np.ndarray) -> np.ndarray:
    return weight / weight.sum()
