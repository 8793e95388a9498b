"""A connection of apsw with those methods of the standard module's that the state store uses.

The standard module cannot put a file system of one's own below SQLite; apsw brings a SQLite of its
own, a newer one mostly.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import apsw

from tests.fault_simulator.disk import NAME, Disk, Killed

_KINDS = (
    (apsw.ConnectionClosedError, sqlite3.ProgrammingError),
    (apsw.ConstraintError, sqlite3.IntegrityError),
    ((apsw.CorruptError, apsw.NotADBError), sqlite3.DatabaseError),
)
# What SQLite says of the simulated disk's errors; apsw hands them on without words.
_WORDS = {apsw.SQLITE_FULL: "database or disk is full", apsw.SQLITE_IOERR: "disk I/O error"}


class Connection:
    """A connection to a file on the simulated disk."""

    def __init__(self, disk: Disk, draw: random.Random, path: Any, *, uri: bool = False, **_: Any):
        """Open a file, with pages and caches so small that a few events split them."""
        self._disk = disk
        self.text_factory: Any = None  # see `_replaced`
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with self._as_sqlite3():
            self._db = apsw.Connection(str(path), flags | uri * apsw.SQLITE_OPEN_URI, vfs=NAME)
        try:
            for name, values in _SETTINGS.items():
                self.execute(f"PRAGMA {name} = {draw.choice(values)}")
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _as_sqlite3(self) -> Generator[None]:
        """Raise errors of apsw as those of the standard module."""
        try:
            yield
        except apsw.Error as error:
            if self._disk.dead:
                raise Killed from None
            kinds = [ours for theirs, ours in _KINDS if isinstance(error, theirs)]
            kind = kinds[0] if kinds else sqlite3.OperationalError
            code = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
            raised = kind(str(error) or _WORDS.get(code & 0xFF, ""))
            raised.sqlite_errorcode = code
            raise raised from error

    def execute(self, query: str, values: Sequence[Any] = ()) -> Cursor:
        with self._as_sqlite3():
            before = self._db.total_changes()
            try:
                rows = self._db.execute(query, values).fetchall()
            except UnicodeDecodeError:
                rows = self._replaced(query, values)
            return Cursor(rows, self._db.total_changes() - before)

    def _replaced(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Decode damaged texts as the store's `text_factory` does, which apsw does not have."""
        names = [f'"{name}"' for name, *_ in self._db.execute(query, values).getdescription()]
        parts = ", ".join(
            f"iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name}), typeof({name}) = 'text'"
            for name in names
        )
        rows = self._db.execute(f"SELECT {parts} FROM ({query})", values).fetchall()
        return [
            tuple(
                self.text_factory(value) if is_text else value
                for value, is_text in zip(row[::2], row[1::2], strict=True)
            )
            for row in rows
        ]

    def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        with self._as_sqlite3():
            before = self._db.total_changes()
            self._db.executemany(query, rows)
            return Cursor([], self._db.total_changes() - before)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Commit; roll back after an error, one of the commit too."""
        with self._as_sqlite3():
            if kind is None:
                try:
                    self._end("COMMIT")
                except apsw.Error:
                    if not self._disk.dead:
                        self._end("ROLLBACK")
                    raise
            else:
                self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        if self._db.in_transaction:
            self._db.execute(statement)

    def create_function(self, name: str, n_arguments: int, function: Callable[..., Any]) -> None:
        with self._as_sqlite3():
            self._db.create_scalar_function(name, function, n_arguments)

    def interrupt(self) -> None:
        with self._as_sqlite3():
            self._db.interrupt()

    def close(self) -> None:
        """Close the connection; that of a process which was killed leaves the disk as it is."""
        with contextlib.suppress(apsw.Error):  # the standard module does not raise them either
            self._db.close()


_SETTINGS = {"page_size": (512, 1024), "cache_size": (5, 100)}  # pages of few rows


class Cursor:
    """The rows of a statement, and the number of rows that it changed."""

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int):
        self._rows, self.rowcount = rows, rowcount

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None
