"""event_hash.py: the same events have one hash, whatever ids are called; others have another."""

import dataclasses
import hashlib
import struct

import numpy as np
import pytest

from hrnn_jax.event_log import EventLog
from hrnn_jax.preprocess.event_hash import event_hash

LOG = EventLog(
    user=np.array([0, 0, 0, 0, 1, 1, 1], np.int32),
    session=np.array([0, 0, 1, 1, 2, 2, 3], np.int32),
    item=np.array([0, 1, 1, 2, 2, 0, 0], np.int32),
    time=np.array([10, 11, 90, 95, 20, 21, 70], np.int64),
    test=np.array([0, 0, 1, 1, 0, 0, 1], bool),
    n_items=3,
)


def test_the_hash_is_that_of_the_documented_bytes():
    times = {0: (10, 21, 70), 1: (11, 90), 2: (20, 95)}
    items = {
        item: hashlib.sha256(struct.pack(f"<{len(of)}q", *of)).digest()[:8]
        for item, of in times.items()
    }

    def user(*events: tuple[int, int, int, int]) -> bytes:
        parts = [struct.pack("<i8sqB", s, items[i], t, test) for s, i, t, test in events]
        return hashlib.sha256(b"".join(parts)).digest()

    first = user((0, 0, 10, 0), (0, 1, 11, 0), (1, 1, 90, 1), (1, 2, 95, 1))
    second = user((0, 2, 20, 0), (0, 0, 21, 0), (1, 0, 70, 1))
    assert event_hash(LOG) == hashlib.sha256(b"".join(sorted([first, second]))).hexdigest()


def test_other_names_of_users_and_items_do_not_change_the_hash():
    order = np.array([4, 5, 6, 0, 1, 2, 3])  # the second user first
    renamed = EventLog(
        user=np.array([0, 0, 0, 1, 1, 1, 1], np.int32),
        session=np.array([0, 0, 1, 2, 2, 3, 3], np.int32),
        item=np.array([2, 0, 1], np.int32)[LOG.item[order]],
        time=LOG.time[order],
        test=LOG.test[order],
        n_items=3,
    )
    assert event_hash(renamed) == event_hash(LOG)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("item", 3, 0), ("time", 1, 12), ("test", 6, False), ("session", 5, 3)],
)
def test_any_other_event_changes_the_hash(name, place, value):
    column = getattr(LOG, name).copy()
    column[place] = value
    assert event_hash(dataclasses.replace(LOG, **{name: column})) != event_hash(LOG)
