"""A SHA-256 of the events of a prepared log, by which two people compare theirs.

It does not depend on the format of any file, nor on how users and items are called or numbered. As
an item is known by its times alone, logs with coarse times, such as dates, may have one hash with
different events.
"""

from __future__ import annotations

import hashlib

import numpy as np

from hrnn_jax.event_log import EventLog

_ROW = np.dtype([("session", "<i4"), ("item", "V8"), ("time", "<i8"), ("test", "?")])  # packed


def event_hash(log: EventLog) -> str:
    """Return the SHA-256 of a log's events in hexadecimal digits.

    An item is known by the times of its events: the first 8 bytes of the SHA-256 of these times,
    sorted, as 64-bit integers. An event is the number of its session among its user's, from 0,
    as 32-bit integer, its item's 8 bytes, its time as 64-bit integer, and one byte, its `test`
    mark, which is of a whole session under some protocols alone. A user is the SHA-256 of their
    events in replay order, and the log is the SHA-256 of its users, sorted. Integers are
    little-endian.

    Args:
        log: a prepared log, see `prepared.load`.
    """
    by_item = log.time[np.argsort(log.item, kind="stable")].astype("<i8")
    ends = np.cumsum(np.bincount(log.item, minlength=log.n_items))
    items = b"".join(_sha256(np.sort(times))[:8] for times in np.split(by_item, ends[:-1]))
    opens = np.flatnonzero(log.opens_user)
    lengths = np.diff(opens, append=len(log))
    rows = np.empty(len(log), _ROW)
    rows["session"] = log.session - np.repeat(log.session[opens], lengths)
    rows["item"] = np.frombuffer(items, "V8")[log.item]
    rows["time"], rows["test"] = log.time, log.test
    users = sorted(_sha256(of_user) for of_user in np.split(rows, opens[1:]))
    return hashlib.sha256(b"".join(users)).hexdigest()


def _sha256(values: np.ndarray) -> bytes:
    return hashlib.sha256(values.tobytes()).digest()
