"""The state file: the states of live users and their stored events, in SQLite behind a cache.

Its tables are in `state_schema`. Events and the states after them are committed in
one transaction before they are acknowledged: neither kill -9 nor a power failure loses them.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import logging
import os
import pathlib
import sqlite3
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hrnn_jax import atomic, errors
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.live.store import sqlite_pages, state_file
from hrnn_jax.live.store.next_states import NextStates
from hrnn_jax.live.store.state_file import FileWatch, one_line_errors, refuse_strays
from hrnn_jax.live.store.state_rows import (
    Row,
    StoredState,
    event_of,
    event_row,
    row_of,
    session_of,
    state_of,
)
from hrnn_jax.live.store.state_schema import (
    COLUMNS,
    FORMAT,
    SCHEMA,
    SESSION_COLUMNS,
    SETTINGS,
    convert_from_2,
)

logger = logging.getLogger(__name__)
IN_MEMORY = state_file.IN_MEMORY
_LEFT_OUT = "damaged events in {} are left out of their users' histories"
_WAL_BYTES = 4_000_000  # of a -wal that is written into the file
_AFTER_ALL = "\U0010ffff" * 65  # the last code point, once more than an id can have it


class StateStore(NextStates):
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
        self._file: int | None = None  # descriptor for `sqlite_pages`, once the file is checked
        self._has_traces = True  # on disk, of what was deleted; maybe by a process that was killed
        self._unclean: set[int] = set()  # pages that may have copies of rows in their unused part
        self._begins_wal = True
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
            for setting in SETTINGS:
                self._db.execute(f"PRAGMA {setting}")
            [result] = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if result != "ok":
                raise sqlite3.DatabaseError(result)
            if not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                with self._transaction():
                    for statement in SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._insert("about", [("format", FORMAT)])
            about = self.about
            if about.get("format") == "2":
                about = self._convert()
        if about.get("format") != FORMAT:
            raise errors.InputError(
                f"{self.path} is in format {about.get('format')}, not {FORMAT}: give another file"
            )
        for name, columns in COLUMNS.items():  # their names may be damaged
            self._rows(f"SELECT {', '.join(columns)} FROM {name} LIMIT 0")
        if self.path != IN_MEMORY:
            self._file = os.open(self.path, os.O_RDWR)
        with one_line_errors(self.path):
            self._drop_second_tables()
        self._erase_traces()
        with one_line_errors(self.path):
            sqlite_pages.begin_wal(self._db)  # no copy of the file has this version
        self._checkpoint()

    def _convert(self) -> dict[str, str]:
        """Bring a file of format 2 into this one; return its table `about`."""
        with self._transaction():
            convert_from_2(self._db)
        [n_pages] = self._db.execute("PRAGMA page_count").fetchone()
        self._unclean.update(range(1, n_pages + 1))
        return self.about

    def close(self) -> None:
        """Close the file; one that was refused or lost is left as it is."""
        self._cache.clear()
        is_written = False
        try:
            with contextlib.suppress(errors.StorageError):
                self.check_file()
                is_written = self._checkpoint()
        finally:
            if not is_written:
                self._leave_as_it_is()
            self._db.close()
            if self._file is not None:
                os.close(self._file)  # which ends all locks of this process on the file
                self._file = None

    def _leave_as_it_is(self) -> None:
        """Keep SQLite from writing what it can read of the -wal into the file when it closes it."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed already
            self._db.interrupt()

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

    def get(
        self, keys: Collection[str]
    ) -> tuple[dict[str, StoredState], dict[str, OpenSession | None]]:
        """Return the states of those keys that have one.

        Returns:
            The states by key; and of the keys whose state is damaged the open session, None where
            it may be damaged too.
        """
        states = {key: _of_values(self._cache[key]) for key in keys if key in self._cache}
        damaged: dict[str, OpenSession | None] = {}
        if missing := [key for key in keys if key not in states]:
            query = "SELECT * FROM states WHERE who IN (SELECT value FROM json_each(?))"
            for row in self._rows(query, _json(missing)):
                try:
                    states[row[0]] = state_of(row, self._item_index, self._start)
                except errors.InputError:
                    damaged[row[0]] = session_of(row)
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
        event_rows = [event_row(key, event) for key, some in events.items() for event in some]
        oldest = [(key, states[key].session.n_events - self._kept_events) for key in events]
        self._touch(states)
        with self._transaction():
            self._insert("states", rows)
            self._insert("events", event_rows)
            self._db.executemany("DELETE FROM events WHERE who = ? AND place < ?", oldest)
        self._add_to_cache(states)

    def events(self, key: str) -> list[StoredEvent]:
        """Return the stored events of a key, oldest first; damaged ones are left out."""
        rows = self._rows("SELECT * FROM events WHERE who = ? ORDER BY place", key)
        events = [event for _, event in self._sound(rows)]
        # The places from the oldest event on are all there, if none has become another key's.
        n_events = self._rows("SELECT CAST(events AS INTEGER) FROM states WHERE who = ?", key)
        oldest = events[0].place if events else 0
        if len(events) == len(rows) and len(events) != sum(row[0] for row in n_events) - oldest:
            logger.warning(_LEFT_OUT.format(self.path))
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

    def sessions(self, prefix: str = "", *, limit: int = -1) -> dict[str, OpenSession]:
        """Return the open sessions of all keys that start with a prefix, in the order of the keys.

        Args:
            prefix: of the keys.
            limit: the most sessions to return; -1 for all.
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

    def delete(self, keys: Sequence[str]) -> int:
        """Delete the states and events of some keys; return the number of states.

        Nothing of them is left in the file or the -wal.
        """
        rows = [(key,) for key in keys]
        self._touch(keys)
        with self._transaction():
            self._db.executemany("DELETE FROM events WHERE who = ?", rows)
            self._delete_second(rows)
            n_states = self._db.executemany("DELETE FROM states WHERE who = ?", rows).rowcount
        for key in keys:
            self._cache.pop(key, None)
        self._has_traces |= n_states > 0
        self._erase_traces()
        return n_states

    def _erase_traces(self) -> None:
        """Empty the -wal, which has the deleted rows as they were; until that has succeeded."""
        if self._has_traces:
            self._checkpoint()
            self._has_traces = False

    def _checkpoint(self) -> bool:
        """Write the -wal into the file, without the copies that moved rows have left in pages.

        Returns:
            Whether that was done; not in a file that has not been checked, or in memory.
        """
        if self._file is None:
            return False
        with one_line_errors(self.path):
            self._unclean |= sqlite_pages.pages_of_wal(state_file.wal_of(self.path))
            self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            self._begins_wal = True  # with the next write, but not where this has failed
            sqlite_pages.clear_unused_parts(self._file, self._unclean)
            # Of a -wal that is damaged later SQLite would put older pages over newer ones.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            sqlite_pages.sync(state_file.wal_of(self.path))
            self._watch.expect_empty_wal()
            self._db.execute("PRAGMA shrink_memory")  # SQLite reads the pages anew
            self._unclean.clear()
        self.check_file()  # which notes how large it is now
        return True

    def dump(self) -> dict[str, list[Row]]:
        """Return the rows of each table in COLUMNS."""
        return {name: self._rows(f"SELECT * FROM {name}") for name in COLUMNS}

    def replace(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """Replace the rows of all tables by those of a dump."""
        with self._transaction():
            for name in COLUMNS:
                self._db.execute(f"DELETE FROM {name}")
                self._insert(name, tables[name])
            self._drop_second_tables()
        self._second = None
        self._cache.clear()

    def _rows(self, query: str, *values: object) -> list[Row]:
        with one_line_errors(self.path):
            return self._db.execute(query, values).fetchall()

    def _matching_events(
        self, column: str, pairs: Iterable[tuple[str, object]]
    ) -> list[tuple[str, StoredEvent]]:
        """Return the key and the event of those whose key and column are one of some pairs."""
        query = (
            "SELECT events.* FROM json_each(?) AS pair JOIN events "
            f"ON who = json_extract(pair.value, '$[0]') "
            f"AND {column} = json_extract(pair.value, '$[1]')"
        )
        return self._sound(self._rows(query, _json(pairs)))

    def _sound(self, rows: Sequence[Row]) -> list[tuple[str, StoredEvent]]:
        """Return the key and the event in each row that is not damaged."""
        sound = [(row[0], event) for row in rows if (event := event_of(row)) is not None]
        if len(sound) < len(rows):
            logger.warning(_LEFT_OUT.format(self.path))
        return sound

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            # A damaged event may be in the place of another one, or have its id.
            values = ", ".join("?" * len(rows[0]))
            self._db.executemany(f"REPLACE INTO {table} VALUES ({values})", rows)

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
            if self._begins_wal:
                sqlite_pages.begin_wal(self._db)
                self._begins_wal = False
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield
                self.check_file()
        self.check_file()
        if self._watch.wal_size > _WAL_BYTES:
            with contextlib.suppress(errors.StorageError):  # what was written is in the -wal
                self._checkpoint()


def _of_values(values: tuple[Any, ...]) -> StoredState:
    """Return the state of which the cache holds the values."""
    n_live = len(LiveState._fields)
    return StoredState(LiveState(*values[:n_live]), OpenSession(*values[n_live:]))


def _json(values: Iterable[object]) -> str:
    """Return values as a JSON array, for json_each: one query then asks for all of them."""
    return json.dumps(list(values), ensure_ascii=False)
