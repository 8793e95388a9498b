"""The store of live users' states and stored events: what every backend does, and its SQL.

The backends are `sqlite_store` (a file of one process, the default) and `postgresql` (a database of
several processes); the tables are in `state_schema`. Events and the states after them are committed
in one transaction before they are acknowledged.
"""

from __future__ import annotations

import abc
import json
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType

from hrnn_jax import errors
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.live.store import state_file
from hrnn_jax.live.store.state_rows import (
    Row,
    StoredState,
    event_of,
    event_row,
    row_of,
    session_of,
    state_of,
)
from hrnn_jax.live.store.state_schema import COLUMNS, SESSION_COLUMNS

logger = logging.getLogger(__name__)
IN_MEMORY = state_file.IN_MEMORY
_LEFT_OUT = "damaged events in {} are left out of their users' histories"
_AFTER_ALL = "\U0010ffff" * 65  # the last code point, once more than an id can have it
_ALL = 2**62  # rows
_KEPT = "kept_events"  # the row of `about`
_KEYS_OF_A_STEP = 500  # whose states are read at a time


class StateStore(abc.ABC):
    """The states and stored events of all users.

    Every method raises StorageError where the store is damaged, lost or cannot be written; nothing
    has changed then, but see `delete`.

    Attributes:
        name: where the states are, for messages.
    """

    name: str
    # The rows of a parameter of JSON: the column `value` of keys, and columns of pairs.
    _KEYS: str
    _PAIRS: str

    def __init__(self, item_index: Mapping[str, int], start: LiveState, *, kept_events: int):
        """Take what states are made of.

        Args:
            item_index: the index of each item by its raw id as text; in the order of the indices.
            start: a state, for the shapes.
            kept_events: the newest events of each user that are stored.
        """
        self._item_index, self._start = item_index, start
        self._items = list(item_index)
        self._kept_events = kept_events

    @abc.abstractmethod
    def close(self) -> None:
        """Close the store."""

    @abc.abstractmethod
    def check_file(self) -> None:
        """Raise StorageError if the store cannot be used any more, or not at present."""

    @abc.abstractmethod
    def updating(self, keys: Collection[str] | None = None) -> AbstractContextManager[None]:
        """Let no other process change the states of some keys while the block reads and writes.

        Where other processes can, all that the block writes is one transaction.

        Args:
            keys: that the block writes; by default it may write any. In a block inside another one
                they are among those of the outer one.
        """

    @abc.abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """Let all queries of the block, which writes nothing, see the same rows."""

    @abc.abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Commit what the block writes, or nothing of it."""

    @abc.abstractmethod
    def _rows(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query, with values in the places of its question marks."""

    @abc.abstractmethod
    def _execute_many(self, statement: str, rows: Sequence[Row]) -> int:
        """Execute a statement for the values of each row; return how many rows it changed."""

    @abc.abstractmethod
    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows in the place of those with the same key, which may be damaged."""

    @property
    def about(self) -> dict[str, str]:
        """The rows of the table `about`: value by name."""
        return dict(self._rows("SELECT * FROM about"))

    def set_about(self, about: Mapping[str, str]) -> None:
        """Write rows of the table `about`."""
        with self.updating(), self._transaction():
            self._insert("about", list(about.items()))

    def get(
        self, keys: Collection[str]
    ) -> tuple[dict[str, StoredState], dict[str, OpenSession | None]]:
        """Return the states of those keys that have one.

        Returns:
            The states by key; and of the keys whose state is damaged the open session, None where
            it may be damaged too.
        """
        states: dict[str, StoredState] = {}
        damaged: dict[str, OpenSession | None] = {}
        for row in self._state_rows(keys):
            try:
                states[row[0]] = state_of(row, self._item_index, self._start)
            except errors.InputError:
                damaged[row[0]] = session_of(row)
        return states, damaged

    def cached(self, keys: Collection[str]) -> dict[str, StoredState]:
        """Return those states that are in memory; any thread may call this at any time."""
        return {}

    def _state_rows(self, keys: Collection[str]) -> list[Row]:
        """Return the rows of the table `states` of some keys."""
        return self._rows(f"SELECT * FROM states WHERE who IN ({self._KEYS})", as_json(keys))

    def written(self, keys: Collection[str]) -> dict[str, float]:
        """Return when the states of those keys were written that have one, in Unix seconds.

        Without those of which that may be damaged.
        """
        return {row[0]: row[-2] for row in self._state_rows(keys) if session_of(row) is not None}

    def write(
        self,
        states: Mapping[str, StoredState],
        events: Mapping[str, Sequence[StoredEvent]] = MappingProxyType({}),
        *,
        written: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Write states and the events that led to them, all or none, and delete old events.

        Args:
            states: by key.
            events: of each key, in order; there is a state of each of these keys.
            written: Unix seconds, for keys whose idle time goes on, as no event came; now for all
                others.
        """
        now = time.time()
        rows = [
            row_of(key, state, self._items, written.get(key, now)) for key, state in states.items()
        ]
        event_rows = [event_row(key, event) for key, some in events.items() for event in some]
        with self.updating(states), self._transaction():
            self._insert("states", rows)
            self._insert("events", event_rows)
            self._delete_old_events({key: states[key].session for key in events})

    def drop_old_events(self) -> int:
        """Delete what a store that kept more events of each user has left, also of idle users.

        Returns:
            The number of deleted events.
        """
        if self.about.get(_KEPT) == str(self._kept_events):
            return 0
        n_deleted = 0
        with self.updating(), self._transaction():
            query = "SELECT who FROM events GROUP BY who HAVING count(*) > ?"
            keys = [key for [key] in self._rows(query, self._kept_events)]
            for begin in range(0, len(keys), _KEYS_OF_A_STEP):
                rows = self._state_rows(keys[begin : begin + _KEYS_OF_A_STEP])
                # By the state's row where that is sound: an event's place may have changed.
                sessions = {row[0]: found for row in rows if (found := session_of(row))}
                n_deleted += self._delete_old_events(sessions)
            self._insert("about", [(_KEPT, str(self._kept_events))])
        return n_deleted

    def _delete_old_events(self, sessions: Mapping[str, OpenSession]) -> int:
        """Delete all but the newest events of some keys; return how many."""
        oldest = [(key, one.n_events - self._kept_events) for key, one in sessions.items()]
        return self._execute_many("DELETE FROM events WHERE who = ? AND place < ?", oldest)

    def events(self, key: str) -> list[StoredEvent]:
        """Return the stored events of a key, oldest first; damaged ones are left out."""
        with self.reading():
            rows = self._rows("SELECT * FROM events WHERE who = ? ORDER BY place", key)
            n_events = self._rows("SELECT CAST(events AS BIGINT) FROM states WHERE who = ?", key)
        events = [event for _, event in self._sound(rows)]
        # The places from the oldest event on are all there, if none has become another key's.
        oldest = events[0].place if events else 0
        if len(events) == len(rows) and len(events) != sum(row[0] for row in n_events) - oldest:
            logger.warning(_LEFT_OUT.format(self.name))
        return events

    def events_after(
        self, prefix: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int, int, str]]:
        """Return the next stored events of all keys with a prefix, in the order of the keys.

        Args:
            prefix: of the keys.
            after: key and place of the last event that was returned; ("", 0) at first.
            limit: the most events to return.

        Returns:
            Key, place, session and item of each.
        """
        query = (
            "SELECT who, place, session, item FROM events "
            "WHERE (who, place) > (?, ?) AND who >= ? AND who < ? ORDER BY who, place LIMIT ?"
        )
        return self._rows(query, *after, prefix, prefix + _AFTER_ALL, limit)

    def session_items(self, numbers: Mapping[str, int]) -> dict[str, set[str]]:
        """Return the items that are stored of one session of each key.

        Args:
            numbers: the session's number by key.
        """
        items: dict[str, set[str]] = {key: set() for key in numbers}
        for key, event in self._matching_events("session", numbers.items()):
            items[key].add(event.item)
        return items

    def delivered(self, event_ids: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those pairs of a key and an event id that are stored."""
        events = self._matching_events("event_id", event_ids)
        return {(key, event.event_id) for key, event in events if event.event_id is not None}

    def sessions(self, prefix: str = "", *, limit: int = _ALL) -> dict[str, OpenSession]:
        """Return the open sessions of all keys that start with a prefix, in the order of the keys.

        Args:
            prefix: of the keys.
            limit: the most sessions to return.
        """
        query = (
            f"SELECT who, {', '.join(SESSION_COLUMNS)} FROM states "
            "WHERE who >= ? AND who < ? ORDER BY who LIMIT ?"
        )
        rows = self._rows(query, prefix, prefix + _AFTER_ALL, limit)
        return {key: OpenSession(*session) for key, *session in rows}

    def keys_before(
        self, prefix: str, end: float, *, after: str, limit: int
    ) -> tuple[list[str], str | None]:
        """Look for states that were written before a time among the next keys with a prefix.

        Args:
            prefix: of the keys.
            end: Unix seconds.
            after: the last key that was looked at; the prefix at first.
            limit: the number of keys to look at.

        Returns:
            The keys of the old states, and the last key that was looked at; None after all.
        """
        query = "SELECT who, written FROM states WHERE who > ? AND who < ? ORDER BY who LIMIT ?"
        rows = self._rows(query, after, prefix + _AFTER_ALL, limit)
        old = [key for key, written in rows if written < end]
        return old, rows[-1][0] if len(rows) == limit else None

    def __len__(self) -> int:
        """Return the number of states."""
        return self._rows("SELECT count(*) FROM states")[0][0]

    def delete(self, keys: Sequence[str], *, before: float | None = None) -> int:
        """Delete the states and events of some keys; return the number of states.

        After a StorageError the rows may be deleted, and bytes of them left on the disk: a repeated
        call erases these.

        Args:
            keys: whose they are.
            before: Unix seconds; states that were written since then stay, with their events.
        """
        with self.updating(keys), self._transaction():
            if before is not None:
                query = f"SELECT who, written FROM states WHERE who IN ({self._KEYS})"
                keys = [key for key, at in self._rows(query, as_json(keys)) if at < before]
            rows = [(key,) for key in keys]
            self._execute_many("DELETE FROM events WHERE who = ?", rows)
            return self._delete_states(rows)

    def _delete_states(self, rows: Sequence[Row]) -> int:
        """Delete the states of keys, one in a row; return of how many there was one."""
        return self._execute_many("DELETE FROM states WHERE who = ?", rows)

    def dump(self) -> dict[str, list[Row]]:
        """Return the rows of each table in COLUMNS."""
        with self.reading():
            return {name: self._rows(f"SELECT * FROM {name}") for name in COLUMNS}

    def replace(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Replace the rows of all tables by those of a dump."""
        with self.updating(), self._transaction():
            for name in COLUMNS:
                self._execute_many(f"DELETE FROM {name}", [()])
                self._insert(name, tables[name])

    def _matching_events(
        self, column: str, pairs: Iterable[tuple[str, object]]
    ) -> list[tuple[str, StoredEvent]]:
        """Return the key and the event of those whose key and column are one of some pairs."""
        parameter = as_json(pairs)
        if parameter == "[]":
            return []
        query = f"SELECT events.* FROM {self._PAIRS.format(column)}"
        return self._sound(self._rows(query, parameter))

    def _sound(self, rows: Sequence[Row]) -> list[tuple[str, StoredEvent]]:
        """Return the key and the event in each row that is not damaged."""
        sound = [(row[0], event) for row in rows if (event := event_of(row)) is not None]
        if len(sound) < len(rows):
            logger.warning(_LEFT_OUT.format(self.name))
        return sound


def as_json(values: Iterable[object]) -> str:
    """Return values as a JSON array: one query then asks for all of them."""
    return json.dumps(list(values), ensure_ascii=False)
