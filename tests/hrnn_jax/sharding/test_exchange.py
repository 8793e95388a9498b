"""The places of the rows that an update sends: enough for each of them."""

import collections

import numpy as np
import pytest

from hrnn_jax.sharding import exchange
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_ITEM, Steps

N_STEPS, N_LANES = 12, 24


def made(input_, target):
    empty = np.zeros((N_STEPS, N_LANES), bool)
    numbers = np.zeros((N_STEPS, N_LANES), np.int32)
    steps = Steps(input_, target, empty, empty, empty, numbers, numbers.astype(np.int8), None)
    return steps._replace(opening=user_batches.opening_lanes(empty))


def random_items(rng):
    items = rng.integers(7, size=(N_STEPS, N_LANES), dtype=np.int32)
    return np.where(rng.random(items.shape) < 0.3, NO_ITEM, items).astype(np.int32)


@pytest.mark.parametrize(("window", "n_shards"), [(1, 4), (3, 2)])
def test_the_update_that_needs_most_places_sets_their_number(window, n_shards):
    """Bug: count padding as an item of some shard."""
    rng = np.random.default_rng(window)
    items, targets = random_items(rng), random_items(rng)
    found = exchange.count_places(made(items, targets), window, n_shards, n_shards)
    each, by_pair, by_owner = N_LANES // n_shards, collections.Counter(), collections.Counter()
    for step in range(N_STEPS):
        for lane in range(N_LANES):
            update = step // window
            if items[step, lane] != NO_ITEM:
                by_pair[update, lane // each, items[step, lane] % n_shards] += 1
            if targets[step, lane] != NO_ITEM:
                by_owner[update, targets[step, lane] % n_shards] += 1
    for places, counts in zip(found, (by_pair, by_owner), strict=True):
        most = max(counts.values())
        assert most <= places <= 1.125 * most + 1


def test_one_item_on_all_lanes_has_a_place_for_each():
    same = np.full((N_STEPS, N_LANES), 3, np.int32)
    assert exchange.count_places(made(same, same), 1, 2, 2) == (12, 24)
