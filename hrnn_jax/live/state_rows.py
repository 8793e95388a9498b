"""A state as a row of the state file, and back; a damaged row is noticed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hrnn_jax import errors
from hrnn_jax.extras import idle_time
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession

Row = tuple[Any, ...]  # of a table


class StoredState(NamedTuple):
    """The state of a live user, and the user's open session."""

    live: LiveState
    session: OpenSession


def row_of(key: str, state: StoredState, items: Sequence[str], written: float) -> Row:
    """Return the row of the table `states`.

    Args:
        key: of the user or anonymous session.
        state: the state.
        items: the raw id of each item, as text.
        written: when, in Unix seconds.
    """
    (carry, past, item, *flags), session = state
    arrays = carry.tobytes(), past.tobytes()
    return (key, *arrays, zlib.crc32(b"".join(arrays)), items[item], *flags, *session, written)


def state_of(row: Row, item_index: Mapping[str, int], start: LiveState) -> StoredState:
    """Return the state in a row of the table `states`.

    Args:
        row: of the table.
        item_index: the index of each item by its raw id as text.
        start: a state, for the shapes.

    Raises:
        InputError: the row is damaged: its bytes have changed, it is of another shape or of an item
            that is not known, or it has a value that no state has.
    """
    _, carry, past, crc, item, opens_session, gap, fed, *session, _ = row
    opened = OpenSession(*session)
    try:
        fault = _fault(carry, past, crc, start)
        if not fault and item not in item_index:
            fault = f"its item {item!r} is not in the catalogue"
        if not fault and not (type(gap) is int and 0 <= gap <= idle_time.NONE):
            fault = f"its gap is {gap!r}"
        if not fault and not is_session(opened):
            fault = "its open session has values that no session has"
    except TypeError:
        fault = "a value is of another type"
    if fault:
        raise errors.InputError(fault)
    live = LiveState(
        carry=np.frombuffer(carry, np.float32).reshape(start.carry.shape),
        past=np.frombuffer(past, np.int32).reshape(start.past.shape),
        item=item_index[item],
        opens_session=bool(opens_session),
        gap=gap,
        fed=bool(fed),
    )
    return StoredState(live, opened)


def _fault(carry: bytes, past: bytes, crc: int, start: LiveState) -> str:
    """Return what is wrong with the arrays of a row; nothing if it is empty."""
    if zlib.crc32(carry + past) != crc:
        return "its bytes have changed (CRC-32)"
    if (len(carry), len(past)) != (start.carry.nbytes, start.past.nbytes):
        return "it is of another shape"
    return ""


def is_session(values: Sequence[Any]) -> bool:
    """Tell whether values that were read as an open session can be those of one."""
    *times, id_, number, n_events = values
    return (
        all(isinstance(time, int | float) and math.isfinite(time) for time in times)
        and all(type(count) is int and count >= 0 for count in (number, n_events))
        and isinstance(id_, str | None)
    )
