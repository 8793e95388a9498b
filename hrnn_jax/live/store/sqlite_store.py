"""The state file: the states of live users and their stored events, in SQLite behind a cache.

What is committed is on the disk: neither kill -9 nor a power failure loses it.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import pathlib
import sqlite3
from collections.abc import Collection, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hrnn_jax import errors
from hrnn_jax.files import atomic
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.live.store import sqlite_pages, state_file
from hrnn_jax.live.store.next_states import NextStates
from hrnn_jax.live.store.state_file import IN_MEMORY, FileWatch, one_line_errors, refuse_strays
from hrnn_jax.live.store.state_rows import Row, StoredState
from hrnn_jax.live.store.state_schema import (
    FORMAT,
    SCHEMA,
    SETTINGS,
    changed_definition,
    convert_from_2,
)

# Of a -wal that is written into the file. At 0.25 MB a commit takes 1.4 times the processor time,
# at 1 MB 1.15 times, at 16 MB .95 times; but then others wait for 40 ms of work at once, here 16.
_WAL_BYTES = 4_000_000


class SqliteStore(NextStates):
    """The states and stored events of all users, in one file that only this process has open."""

    _KEYS = "SELECT value FROM json_each(?)"
    _PAIRS = (
        "json_each(?) AS pair JOIN events ON who = json_extract(pair.value, '$[0]') "
        "AND {} = json_extract(pair.value, '$[1]')"
    )

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
        super().__init__(item_index, start, kept_events=kept_events)
        self.path, self.name = path, str(path)
        self._cached_users = cached_users
        # Of each key the values of its state, see `_add_to_cache`.
        self._cache: collections.OrderedDict[str, tuple[Any, ...]] = collections.OrderedDict()
        self._watch = FileWatch(path)
        self._file: int | None = None  # descriptor for `sqlite_pages`, once the file is checked
        self._has_traces = True  # on disk, of what was deleted; maybe by a process that was killed
        self._not_erased: set[str] = set()  # keys that were deleted, and have left traces
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
                self._finish_wal()
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
        with one_line_errors(self.path):
            self._check_definitions()
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
        self._finish_wal()
        with self._transaction():
            convert_from_2(self._db)
            self._check_definitions()
        [n_pages] = self._db.execute("PRAGMA page_count").fetchone()
        self._unclean.update(range(1, n_pages + 1))
        return self.about

    def _finish_wal(self) -> None:
        """Write the -wal of a start that was killed into the file: the next one begins anew."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        sqlite_pages.sync(state_file.wal_of(self.path))

    def _check_definitions(self) -> None:
        if name := changed_definition(self._db):
            raise sqlite3.DatabaseError(f"the definition of {name} has changed")

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

    def updating(
        self, keys: Collection[str] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """See `StateStore`: no other process has the file open."""
        return contextlib.nullcontext()

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """See `StateStore`: no other process has the file open."""
        return contextlib.nullcontext()

    def get(
        self, keys: Collection[str]
    ) -> tuple[dict[str, StoredState], dict[str, OpenSession | None]]:
        """See `StateStore`."""
        states = self.cached(keys)
        damaged: dict[str, OpenSession | None] = {}
        if missing := [key for key in keys if key not in states]:
            read, damaged = super().get(missing)
            self._add_to_cache(read)
            states |= read
        return states, damaged

    def cached(self, keys: Collection[str]) -> dict[str, StoredState]:
        """See `StateStore`; they become the newest of the cache, which has what is committed."""
        cache = self._cache  # a swap of all states takes another one
        found: dict[str, StoredState] = {}
        for key in keys:
            with contextlib.suppress(KeyError):  # not in it, or not any more
                found[key] = _of_values(cache[key])
                cache.move_to_end(key)
        return found

    def write(
        self,
        states: Mapping[str, StoredState],
        events: Mapping[str, Sequence[StoredEvent]] = MappingProxyType({}),
        *,
        written: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """See `StateStore`."""
        self._touch(states)
        super().write(states, events, written=written)
        self._add_to_cache(states)

    def delete(self, keys: Sequence[str], *, before: float | None = None) -> int:
        """See `StateStore`; nothing of them is left in the file or the -wal.

        On a full disk that may fail when the rows are deleted already. A repeated call erases what
        is left of them, and counts them again: who asked for it has not been told of success.
        """
        self._touch(keys)
        n_states = super().delete(keys, before=before)
        for key in keys:
            self._cache.pop(key, None)
        n_again = len(self._not_erased.intersection(keys))
        if n_states:
            self._has_traces = True
            if before is None:
                self._not_erased.update(keys)
        self._erase_traces()
        return max(n_states, n_again)

    def drop_old_events(self) -> int:
        """See `StateStore`; nothing of them is left in the file or the -wal."""
        n_deleted = super().drop_old_events()
        self._has_traces |= n_deleted > 0
        self._erase_traces()
        return n_deleted

    def _delete_states(self, rows: Sequence[Row]) -> int:
        self._delete_second(rows)
        return super()._delete_states(rows)

    def replace(self, tables: Mapping[str, Sequence[Row]]) -> None:
        """See `StateStore`."""
        super().replace(tables)
        self._second = None
        with self._transaction():
            self._drop_second_tables()
        self._cache.clear()

    def _erase_traces(self) -> None:
        """Empty the -wal, which has the deleted rows as they were; until that has succeeded."""
        if self._has_traces:
            self._checkpoint()
            self._has_traces = False
            self._not_erased.clear()

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

    def _rows(self, query: str, *values: object) -> list[Row]:
        with one_line_errors(self.path):
            return self._db.execute(query, values).fetchall()

    def _execute_many(self, statement: str, rows: Sequence[Row]) -> int:
        return self._db.executemany(statement, rows).rowcount

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
