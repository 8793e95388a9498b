"""The state file: the states of live users and their stored events, in SQLite behind a cache.

    states  who, carry and past (bytes of `LiveState`'s arrays), crc (CRC-32 of both), item (raw id
            as text), the rest of `LiveState` and of `OpenSession`, written (Unix seconds, by the
            clock of this machine)
    events  the newest events of each key: who, and the fields of `StoredEvent`
    about   format, weights (fingerprint of the weights that made the states), shape (of a state)

The column `who` holds keys, see `events.key_of`. Events and the states after them are committed in
one transaction before they are acknowledged: neither kill -9 nor a power failure loses them.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import pathlib
import sqlite3
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hrnn_jax import atomic, errors
from hrnn_jax.live import state_file
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.live.state_file import FileWatch, one_line_errors, refuse_strays
from hrnn_jax.live.state_rows import Row, StoredState, row_of, state_of

IN_MEMORY = state_file.IN_MEMORY
FORMAT = "2"
_AFTER_ALL = "\U0010ffff" * 65  # the last code point, once more than an id can have it
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE states (
    who TEXT PRIMARY KEY, carry BLOB NOT NULL, past BLOB NOT NULL, crc INTEGER NOT NULL,
    item TEXT NOT NULL, opens INTEGER NOT NULL, gap INTEGER NOT NULL, fed INTEGER NOT NULL,
    time REAL NOT NULL, last REAL NOT NULL, session TEXT, number INTEGER NOT NULL,
    events INTEGER NOT NULL, written REAL NOT NULL
);
CREATE TABLE events (
    who TEXT NOT NULL, place INTEGER NOT NULL, session INTEGER NOT NULL, item TEXT NOT NULL,
    time REAL NOT NULL, event_id TEXT, PRIMARY KEY (who, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries ON events (who, event_id) WHERE event_id IS NOT NULL
"""
_STATE_COLUMNS = ("carry", "past", "crc", "item", "opens", "gap", "fed")
_SESSION_COLUMNS = ("time", "last", "session", "number", "events")  # as in OpenSession
COLUMNS = {
    "about": ("name", "value"),
    "states": ("who", *_STATE_COLUMNS, *_SESSION_COLUMNS, "written"),
    "events": ("who", *StoredEvent._fields),
}


class StateStore:
    """The states and stored events of all users, in one file that only this process has open.

    Every method raises StorageError where the file is damaged, lost or cannot be written; nothing
    has changed then.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        item_index: Mapping[str, int],
        start: LiveState,
        *,
        cached_users: int,
        kept_events: int,
    ):
        """Open the file, or make it.

        Args:
            path: of the file, or `IN_MEMORY`.
            item_index: the index of each item by its raw id as text; in the order of the indices.
            start: a state, for the shapes.
            cached_users: states held in memory.
            kept_events: the newest events of each user that are stored.

        Raises:
            InputError: another process uses the file, or it cannot be opened, or it is in another
                format.
            StorageError: the file is damaged.
        """
        self.path = path
        self._item_index, self._start = item_index, start
        self._items = list(item_index)
        self._cached_users = cached_users
        self._kept_events = kept_events
        # Of each key the values of its state, see `_add_to_cache`.
        self._cache: collections.OrderedDict[str, tuple[Any, ...]] = collections.OrderedDict()
        self._watch = FileWatch(path)
        self._has_traces = True  # on disk, of what was deleted; maybe by a process that was killed
        refuse_strays(path)
        if path != IN_MEMORY:
            atomic.remove_interrupted(pathlib.Path(path))
        with one_line_errors(self.path):
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0.5
            )
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Check the file, or make its tables."""
        with one_line_errors(self.path):
            # Of a damaged text the rest is read: it must not take other rows with it.
            self._db.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
            # Exclusive: another process would not see the cache of this one.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")  # zeros in the place of deleted bytes
            [result] = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise sqlite3.DatabaseError(result)
            with self._transaction():
                if not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._insert("about", [("format", FORMAT)])
            about = self.about
        if about.get("format") != FORMAT:
            raise errors.InputError(
                f"{self.path} is in format {about.get('format')}, not {FORMAT}: give another file"
            )
        self._erase_traces()

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        self._db.close()

    def check_file(self) -> None:
        """Raise StorageError if the file was removed, replaced or cut while in use."""
        try:
            self._watch.check()
        except errors.StorageError:
            self._cache.clear()  # what was committed last may not be in it
            raise

    @property
    def about(self) -> dict[str, str]:
        """The rows of the table `about`: value by name."""
        return dict(self._rows("SELECT * FROM about"))

    def set_about(self, about: Mapping[str, str]) -> None:
        """Write rows of the table `about`."""
        with self._transaction():
            self._insert("about", list(about.items()))

    def get(self, keys: Collection[str]) -> tuple[dict[str, StoredState], list[str]]:
        """Return the states of those keys that have one, and the keys whose state is damaged."""
        states = {key: _of_values(self._cache[key]) for key in keys if key in self._cache}
        damaged: list[str] = []
        if missing := [key for key in keys if key not in states]:
            query = "SELECT * FROM states WHERE who IN (SELECT value FROM json_each(?))"
            for row in self._rows(query, _json(missing)):
                try:
                    states[row[0]] = state_of(row, self._item_index, self._start)
                except errors.InputError:
                    damaged.append(row[0])
        self._add_to_cache(states)
        return states, damaged

    def write(
        self,
        states: Mapping[str, StoredState],
        events: Mapping[str, Sequence[StoredEvent]] = MappingProxyType({}),
    ) -> None:
        """Write states and the events that led to them, all or none, and delete old events.

        Args:
            states: by key.
            events: of each key, in order; there is a state of each of these keys.
        """
        now = time.time()
        rows = [row_of(key, state, self._items, now) for key, state in states.items()]
        oldest = [(key, states[key].session.n_events - self._kept_events) for key in events]
        with self._transaction():
            self._insert("states", rows)
            self._insert("events", [(key, *e) for key, some in events.items() for e in some])
            self._db.executemany("DELETE FROM events WHERE who = ? AND place < ?", oldest)
        self._add_to_cache(states)

    def events(self, key: str) -> list[StoredEvent]:
        """Return the stored events of a key, oldest first."""
        rows = self._rows("SELECT * FROM events WHERE who = ? ORDER BY place", key)
        return [StoredEvent(*event) for _, *event in rows]

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
        for key, item in self._matching_events("item", "session", numbers.items()):
            items[key].add(item)
        return items

    def delivered(self, event_ids: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those pairs of a key and an event id that are stored."""
        return set(self._matching_events("event_id", "event_id", event_ids))

    def sessions(self, prefix: str = "", *, limit: int = -1) -> dict[str, OpenSession]:
        """Return the open sessions of all keys that start with a prefix, in the order of the keys.

        Args:
            prefix: of the keys.
            limit: the most sessions to return; -1 for all.
        """
        query = (
            f"SELECT who, {', '.join(_SESSION_COLUMNS)} FROM states "
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

    def delete(self, keys: Sequence[str]) -> int:
        """Delete the states and events of some keys; return the number of states.

        Nothing of them is left in the file or the -wal.
        """
        rows = [(key,) for key in keys]
        with self._transaction():
            self._db.executemany("DELETE FROM events WHERE who = ?", rows)
            n_states = self._db.executemany("DELETE FROM states WHERE who = ?", rows).rowcount
        for key in keys:
            self._cache.pop(key, None)
        self._has_traces |= n_states > 0
        self._erase_traces()
        return n_states

    def _erase_traces(self) -> None:
        """Empty the -wal, which has the deleted rows as they were; until that has succeeded."""
        if self._has_traces:
            with one_line_errors(self.path):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._watch.expect_empty_wal()
            self._has_traces = False

    def dump(self) -> dict[str, list[Row]]:
        """Return the rows of each table in COLUMNS."""
        return {name: self._rows(f"SELECT * FROM {name}") for name in COLUMNS}

    def replace(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Replace the rows of all tables by those of a dump."""
        with self._transaction():
            for name in COLUMNS:
                self._db.execute(f"DELETE FROM {name}")
                self._insert(name, tables[name])
        self._cache.clear()

    def _rows(self, query: str, *values: object) -> list[Row]:
        with one_line_errors(self.path):
            return self._db.execute(query, values).fetchall()

    def _matching_events(
        self, column: str, where: str, pairs: Iterable[tuple[str, object]]
    ) -> list[tuple[str, str]]:
        """Return key and a column of the events whose key and `where` column are a pair."""
        query = (
            f"SELECT who, {column} FROM json_each(?) AS pair JOIN events "
            f"ON who = json_extract(pair.value, '$[0]') "
            f"AND {where} = json_extract(pair.value, '$[1]')"
        )
        return self._rows(query, _json(pairs))

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            values = ", ".join("?" * len(rows[0]))
            verb = "INSERT" if table == "events" else "REPLACE"
            self._db.executemany(f"{verb} INTO {table} VALUES ({values})", rows)

    def _add_to_cache(self, states: Mapping[str, StoredState]) -> None:
        """Put states into the cache as its newest; the oldest ones make room.

        As plain tuples of plain values: the garbage collector need not pass over those, and would
        stop all threads for 50 ms for the states of 100,000 users.
        """
        for key, state in states.items():
            self._cache[key] = (*state.live, *state.session)
            self._cache.move_to_end(key)
        while len(self._cache) > self._cached_users:
            self._cache.popitem(last=False)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        """Commit what the block writes, or nothing of it."""
        self.check_file()
        with one_line_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield
                self.check_file()
        self.check_file()


def _of_values(values: tuple[Any, ...]) -> StoredState:
    """Return the state of which the cache holds the values."""
    n_live = len(LiveState._fields)
    return StoredState(LiveState(*values[:n_live]), OpenSession(*values[n_live:]))


def _json(values: Iterable[object]) -> str:
    """Return values as a JSON array, for json_each: one query then asks for all of them."""
    return json.dumps(list(values), ensure_ascii=False)
