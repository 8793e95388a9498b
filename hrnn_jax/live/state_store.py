"""The states of live users, and the events that made them: in SQLite, behind a bounded cache.

states  who, carry and past (the bytes of `Seen`'s), crc (the CRC-32 of both), item (raw, as
        text), and the rest of `State`; written (this machine's clock, Unix seconds)
events  the newest of each: who, and what `Kept` holds
about   format, weights (the fingerprint of those that made the states), shape (of a carry)

`who` is "u" and the id of a user, or "s" and that of an anonymous session. Events and the states
after them are committed in one transaction before they are acknowledged: neither kill -9 nor a loss
of power takes them back.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax import errors
from hrnn_jax.live import batched_model

IN_MEMORY = ":memory:"
FORMAT = "2"
_LAST = "\U0010ffff"  # no id begins with it
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


class Visit(NamedTuple):
    """How far a user's events have come: what decides the session of the next one."""

    time: float  # Unix seconds of the open session's latest event
    last: float  # ... of the last event of a known item
    session: str | None  # the id of the open session, where the events give one
    number: int  # of the open session, from 0
    events: int  # so far


class State(NamedTuple):
    """All that is kept of a user to go on."""

    seen: batched_model.Seen
    visit: Visit


class Kept(NamedTuple):
    """An event as it is kept."""

    place: int  # among the user's events, from 0
    session: int  # from 0
    item: str  # raw, as text
    time: float  # Unix seconds
    event_id: str | None


_SEEN = ("carry", "past", "crc", "item", "opens", "gap", "fed")
COLUMNS = {
    "about": ("name", "value"),
    "states": ("who", *_SEEN, *Visit._fields, "written"),
    "events": ("who", *Kept._fields),
}


class Store:
    """The states and events of all users, in one file that one process at a time has open."""

    def __init__(
        self,
        path: pathlib.Path | str,
        index: Mapping[str, int],
        start: batched_model.Seen,
        *,
        cached: int,
        kept_events: int,
    ):
        """Open or make the file.

        index: of each item by its raw id as text, from 0; start: gives the shapes; cached: states
        held in memory; kept_events: of each user, the newest. Raises StorageError where the file is
        damaged, InputError where it is in use or cannot be opened.
        """
        self.path = path
        self._index, self._start = index, start
        self._items = list(index)
        self._cached = cached
        self._kept_events = kept_events
        self._cache: collections.OrderedDict[str, State] = collections.OrderedDict()
        with self._explained():
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0.5
            )
            # Exclusive: another process would not see what is cached here.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            [found] = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            with self._transaction():
                if not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._note({"format": FORMAT})
            about = self.about
        if about.get("format") != FORMAT:
            self.close()
            raise errors.InputError(
                f"{path} is in format {about.get('format')}, not {FORMAT}: give another file"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def about(self) -> dict[str, str]:
        """What was noted of the states, by name."""
        with self._explained():
            return dict(self._db.execute("SELECT name, value FROM about").fetchall())

    def note(self, **about: str) -> None:
        """Note something of the states."""
        with self._explained(), self._transaction():
            self._note(about)

    def get(self, who: Iterable[str]) -> dict[str, State]:
        """Return the states of those of `who` that have one."""
        found = {}
        for one in who:
            state = self._cache.get(one) or self._read(one)
            if state is not None:
                found[one] = state
                self._keep(one, state)
        return found

    def write(self, states: Mapping[str, State], events: Sequence[tuple[str, Kept]] = ()) -> None:
        """Write states and the events that led to them, all or none of them.

        Raises StorageError where they cannot be written.
        """
        now = time.time()
        rows = []
        for who, (seen, visit) in states.items():
            carry, past = seen.carry.tobytes(), seen.past.tobytes()
            item, crc = self._items[seen.item], zlib.crc32(carry + past)
            rows.append((who, carry, past, crc, item, seen.opens, seen.gap, seen.fed, *visit, now))
        ends = {who: states[who].visit.events - self._kept_events for who, _ in events}
        with self._explained(), self._transaction():
            self._insert("states", rows)
            self._insert("events", [(who, *event) for who, event in events])
            self._db.executemany(
                "DELETE FROM events WHERE who = ? AND place < ?",
                [(who, end) for who, end in ends.items() if end > 0],
            )
        for who, state in states.items():
            self._keep(who, state)

    def events(self, who: str, *, session: int = -1) -> list[Kept]:
        """Return the events kept of one, oldest first; of one of the sessions if it is given."""
        query = (
            f"SELECT {', '.join(Kept._fields)} FROM events "
            "WHERE who = ?1 AND ?2 IN (session, -1) ORDER BY place"
        )
        with self._explained():
            return [Kept(*row) for row in self._db.execute(query, (who, session))]

    def delivered(self, who: str, event_id: str) -> bool:
        """Tell whether an event of this id is kept."""
        query = "SELECT 1 FROM events WHERE who = ? AND event_id = ?"
        with self._explained():
            return self._db.execute(query, (who, event_id)).fetchone() is not None

    def visits(self, prefix: str = "", *, limit: int = -1) -> dict[str, Visit]:
        """Return the visits of those whose who begins with `prefix`, in the order of who."""
        query = (
            f"SELECT who, {', '.join(Visit._fields)} FROM states "
            "WHERE who >= ? AND who < ? ORDER BY who LIMIT ?"
        )
        with self._explained():
            rows = self._db.execute(query, (prefix, prefix + _LAST, limit)).fetchall()
        return {who: Visit(*visit) for who, *visit in rows}

    def idle(self, prefix: str, seconds: float) -> list[str]:
        """List who begins with `prefix` and was not written for so long."""
        query = "SELECT who FROM states WHERE who >= ? AND who < ? AND written < ?"
        with self._explained():
            values = (prefix, prefix + _LAST, time.time() - seconds)
            return [who for [who] in self._db.execute(query, values)]

    def __len__(self) -> int:
        """Return how many states there are."""
        with self._explained():
            return self._db.execute("SELECT count(*) FROM states").fetchone()[0]

    def forget(self, who: Sequence[str]) -> None:
        """Delete all that is kept of some."""
        with self._explained(), self._transaction():
            for table in ("states", "events"):
                self._db.executemany(f"DELETE FROM {table} WHERE who = ?", [(one,) for one in who])
        for one in who:
            self._cache.pop(one, None)

    def dump(self) -> dict[str, list[tuple]]:
        """Return the rows of each table in COLUMNS."""
        with self._explained():
            return {
                name: self._db.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()
                for name, columns in COLUMNS.items()
            }

    def replace(self, tables: Mapping[str, Sequence[tuple]]) -> None:
        """Replace all that is kept by the rows of tables that were dumped."""
        with self._explained(), self._transaction():
            for name in COLUMNS:
                self._db.execute(f"DELETE FROM {name}")
                self._insert(name, tables[name])
        self._cache.clear()

    def _insert(self, table: str, rows: Sequence[tuple]) -> None:
        if rows:
            values = ", ".join("?" * len(rows[0]))
            verb = "REPLACE" if table == "states" else "INSERT"
            self._db.executemany(f"{verb} INTO {table} VALUES ({values})", rows)

    def _note(self, about: Mapping[str, str]) -> None:
        self._db.executemany("REPLACE INTO about VALUES (?, ?)", about.items())

    def _read(self, who: str) -> State | None:
        query = f"SELECT {', '.join(_SEEN + Visit._fields)} FROM states WHERE who = ?"
        with self._explained():
            row = self._db.execute(query, (who,)).fetchone()
            if row is None:
                return None
            carry, past, crc, item, opens, gap, fed, *visit = row
            if zlib.crc32(carry + past) != crc or item not in self._index:
                raise sqlite3.DatabaseError(f"the state of {who[1:]!r} is not what was written")
        seen = batched_model.Seen(
            carry=np.frombuffer(carry, np.float32).reshape(self._start.carry.shape),
            past=np.frombuffer(past, np.int32).reshape(self._start.past.shape),
            item=self._index[item],
            opens=bool(opens),
            gap=gap,
            fed=bool(fed),
        )
        return State(seen, Visit(*visit))

    def _keep(self, who: str, state: State) -> None:
        """Cache a state as the newest; the oldest makes room."""
        self._cache[who] = state
        self._cache.move_to_end(who)
        if len(self._cache) > self._cached:
            self._cache.popitem(last=False)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back some
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what SQLite trips over in terms of the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF:
                case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                    raise errors.InputError(
                        f"{self.path} is in use by another process: end it, or give another file"
                    ) from error
                case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY:
                    raise errors.StorageError(
                        f"{self.path} cannot be written ({error}): make room for it"
                    ) from error
                case sqlite3.SQLITE_CANTOPEN:
                    raise errors.InputError(
                        f"{self.path} cannot be opened ({error}): give a file in a folder that "
                        "can be written"
                    ) from error
            raise errors.StorageError(
                f"{self.path} is damaged ({error}): put back a copy of it, or move it away to "
                "start without states"
            ) from error
