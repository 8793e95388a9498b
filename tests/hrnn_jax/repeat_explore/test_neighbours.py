"""The table of neighbours equals counting by hand in fractions."""

import collections
import math
from fractions import Fraction

import numpy as np
import pytest

from hrnn_jax import errors
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import logs, networks


def rules(sessions, longest):
    """Return by item how often others came after it, each time divided by the distance."""
    rows = collections.defaultdict(collections.Counter)
    for session in sessions:
        for x, first in enumerate(session):
            for y in range(x + 1, min(x + longest + 1, len(session))):
                rows[first][session[y]] += Fraction(1, y - x)
    return rows


def cosines(sessions, limit):
    """Return by item the `limit` most similar others: of equal ones the lower."""
    n = collections.Counter(item for session in sessions for item in set(session))
    both = collections.Counter(
        (i, j) for session in sessions for i in set(session) for j in set(session) if i != j
    )
    rows = {}
    for i in n:
        row = {
            j: together / math.sqrt(n[i] * n[j]) for (one, j), together in both.items() if one == i
        }
        rows[i] = dict(sorted(row.items(), key=lambda pair: (-round(pair[1], 9), pair[0]))[:limit])
    return rows


def shares(row):
    total = sum(row.values())
    return {j: float(value / total) for j, value in row.items() if value}


@pytest.mark.parametrize("limit", [3, 100])
def test_the_table_equals_counting_by_hand(limit):
    log = networks.log().train
    table = neighbours.count(log, limit)
    sessions = [log.item[log.session == session].tolist() for session in np.unique(log.session)]
    kinds = [rules(sessions, 1), rules(sessions, 10), cosines(sessions, limit)]
    cut_off = 0
    for i in range(log.n_items):
        expected = [shares(kind.get(i, {})) for kind in kinds]
        total = collections.Counter()
        for kind in expected:
            total.update(kind)
        found = dict(zip(table.item[i].tolist(), table.share[i].T.tolist(), strict=True))
        assert found.pop(NO_ITEM, [0, 0, 0]) == [0, 0, 0]
        assert len(found) == min(limit, len(total))
        # Which of equal ones is cut off is a matter of rounding.
        least = sorted(total.values(), reverse=True)[: len(found)][-1:]
        assert all(total[j] >= least[0] - 1e-6 for j in found)
        for j, values in found.items():
            of_kind = [math.log(1 + kind.get(j, 0) / 0.001) for kind in expected]
            np.testing.assert_allclose(values, of_kind, rtol=1e-5)
        cut_off += len(total) > limit
        events = collections.Counter(log.user[log.item == i].tolist()).values()
        assert table.users[i].tolist() == [len(events), sum(n > 1 for n in events)]
    assert (cut_off > 3) == (limit == 3)


def test_a_lag_has_its_items_and_the_third_halves_them():
    """Bug: count the last item as the one before it."""
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1 / 2], [0, 0, 1 / 4]]
    np.testing.assert_array_equal(neighbours.lag_weights(5), expected)
    np.testing.assert_array_equal(neighbours.lag_weights(2), expected[:2])


def test_a_missing_item_has_no_neighbours():
    table = neighbours.count(networks.log().train, 4)
    item, share = neighbours.after(table, np.array([[3, NO_ITEM], [5, 2]]))
    np.testing.assert_array_equal(item[0, 0], table.item[3])
    np.testing.assert_array_equal(share[1], table.share[[5, 2]])
    assert (np.asarray(item[0, 1]) == NO_ITEM).all()
    assert not np.any(share[0, 1])


def test_items_without_a_second_one_in_a_session_have_none():
    """... nor do all items of a log whose sessions have one item again and again."""
    table = neighbours.count(logs.of([[[0, 0], [0, 0], [1, 1]]], n_items=3).train, 2)
    assert np.isfinite(table.share).all()
    assert (table.item[1:] == NO_ITEM).all()


def test_a_log_whose_sessions_have_one_event_gives_an_empty_table():
    """Bug: look up the shares of no neighbours at all."""
    table = neighbours.count(logs.of([[[0], [1], [2]], [[1], [0]]]).train, 2)
    assert (table.item == NO_ITEM).all()
    assert table.share.shape == (3, neighbours.SHARES, 2)
    assert not table.share.any()


def test_the_table_is_no_wider_than_the_catalogue():
    """Bug: allocate all neighbours that were asked for."""
    log = logs.random(1, n_items=9).train
    table = neighbours.count(log, 1_000_000)
    assert table.item.shape == (9, 9)
    networks.assert_identical(table, neighbours.count(log, 9))


def test_a_saved_table_loads_and_a_damaged_one_is_refused(tmp_path):
    table = neighbours.count(logs.random(1, n_items=9).train, 3)
    path = tmp_path / neighbours.FILE
    neighbours.save(path, table)
    networks.assert_identical(neighbours.load(path), table)
    np.savez(path, item=table.item, share=table.share)  # as of an earlier version
    with pytest.raises(errors.InputError, match=rf"^{path} .*it has no `users`, .*`resume`$"):
        neighbours.load(path)
    neighbours.save(path, table)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(errors.InputError, match=rf"^{path} is missing or damaged .*`resume`$"):
        neighbours.load(path)
    path.unlink()
    with pytest.raises(errors.InputError, match=rf"^{path} is missing .*`resume`$"):
        neighbours.load(path)
