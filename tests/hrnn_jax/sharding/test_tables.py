"""Row r of a table is on shard r mod D, as its row r // D."""

import numpy as np
import pytest

from hrnn_jax.sharding import tables


@pytest.mark.parametrize(("n_items", "n_shards"), [(1, 1), (12, 4), (13, 4), (3, 8)])
def test_rows_are_dealt_out_in_turn(n_items, n_shards):
    table = np.arange(1, n_items + 1)[:, None] * [1, 10]
    found = np.concatenate([tables.rows_of(table, n, n_shards) for n in range(n_shards)])
    rows = tables.n_rows(n_items, n_shards)
    assert found.shape == (rows * n_shards, 2)
    for r in range(n_items):
        assert (found[r % n_shards * rows + r // n_shards] == table[r]).all()
    assert np.count_nonzero(found) == table.size  # the rest is padding
    np.testing.assert_array_equal(tables.in_order(found, n_shards, n_items), table)
