"""States and events as rows of the state file, and back; a damaged row is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hrnn_jax import errors
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.training.user_batches import NO_ITEM

Row = tuple[Any, ...]  # of a table
_OPENS, _ENDED = 1, 2  # bits of the column `opens`: `LiveState.opens_session` and `ended`


class StoredState(NamedTuple):
    """The state of a live user, and the user's open session."""

    live: LiveState
    session: OpenSession


def crc_of(values: Sequence[Any]) -> int:
    """Return the CRC-32 of a row's values, whatever types of numbers SQLite stores them in."""
    plain = [float(value) if isinstance(value, int | float) else value for value in values]
    return zlib.crc32(repr(plain).encode("utf-8", "surrogatepass"))


def row_of(key: str, state: StoredState, items: Sequence[str], written: float) -> Row:
    """Return the row of the table `states`.

    Args:
        key: of the user or anonymous session.
        state: the state.
        items: the raw id of each item, as text.
        written: when, in Unix seconds.
    """
    live, session = state
    arrays = live.carry.tobytes(), live.past.tobytes()
    others = (
        zlib.crc32(b"".join(arrays)),
        "" if live.item == NO_ITEM else items[live.item],
        live.opens_session * _OPENS | live.ended * _ENDED,
        live.gap,
        live.fed,
        *session,
        written,
    )
    return (key, *arrays, *others, crc_of((key, *others)))


def session_of(row: Row) -> OpenSession | None:
    """Return the open session in a row of the table `states`; None if it may be damaged."""
    key, _, _, *others, crc = row
    return OpenSession(*others[5:10]) if crc_of((key, *others)) == crc else None


def state_of(row: Row, item_index: Mapping[str, int], start: LiveState) -> StoredState:
    """Return the state in a row of the table `states`.

    Args:
        row: of the table.
        item_index: the index of each item by its raw id as text.
        start: a state, for the shapes.

    Raises:
        InputError: the row is damaged: its bytes have changed, it is of another shape or of an item
            that is not known.
    """
    _, carry, past, crc, item, opens, gap, fed, *_ = row
    session = session_of(row)
    are_bytes = isinstance(carry, bytes) and isinstance(past, bytes)
    if session is None or not are_bytes or zlib.crc32(carry + past) != crc:
        raise errors.InputError("its bytes have changed (CRC-32)")
    if (len(carry), len(past)) != (start.carry.nbytes, start.past.nbytes):
        raise errors.InputError("it is of another shape")
    if item and item not in item_index:
        raise errors.InputError(f"its item {item!r} is not in the catalogue")
    live = LiveState(
        carry=np.frombuffer(carry, np.float32).reshape(start.carry.shape),
        past=np.frombuffer(past, np.int32).reshape(start.past.shape),
        item=item_index[item] if item else NO_ITEM,  # of events that were all of unknown items
        opens_session=bool(opens & _OPENS),
        gap=gap,
        fed=bool(fed),
        ended=bool(opens & _ENDED),
    )
    return StoredState(live, session)


def event_row(key: str, event: StoredEvent) -> Row:
    """Return the row of the table `events`."""
    return (key, *event, crc_of((key, *event)))


def event_of(row: Row) -> StoredEvent | None:
    """Return the event in a row of the table `events`; None if it is damaged."""
    *values, crc = row
    return StoredEvent(*values[1:]) if crc_of(values) == crc else None
