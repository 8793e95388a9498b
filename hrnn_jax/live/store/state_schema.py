"""The tables of the state file, and files of an earlier format.

    states  who, carry and past (bytes of `LiveState`'s arrays), crc (CRC-32 of both), item (raw id
            as text), the rest of `LiveState` and of `OpenSession`, written (Unix seconds, by the
            clock of this machine), row_crc (CRC-32 of all but the arrays)
    events  the newest events of each key: who, the fields of `StoredEvent`, crc (of all these)
    about   format, weights (fingerprint of the weights that made the states), shape (of a state),
            kept_events (of each user, at the last start)

The column `who` holds keys, see `events.key_of`.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
from typing import Any

from hrnn_jax.live.events import StoredEvent
from hrnn_jax.live.store.state_rows import crc_of

FORMAT = "3"
SETTINGS = (
    "locking_mode = EXCLUSIVE",  # another process would not see the cache of this one
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",  # zeros in the place of deleted bytes
    "wal_autocheckpoint = 0",  # the store does it, see `sqlite_pages`
)
STATES_SCHEMA = """
CREATE TABLE {} (
    who TEXT PRIMARY KEY, carry BLOB NOT NULL, past BLOB NOT NULL, crc INTEGER NOT NULL,
    item TEXT NOT NULL, opens INTEGER NOT NULL, gap INTEGER NOT NULL, fed INTEGER NOT NULL,
    time REAL NOT NULL, last REAL NOT NULL, session TEXT, number INTEGER NOT NULL,
    events INTEGER NOT NULL, written REAL NOT NULL, row_crc INTEGER NOT NULL
)"""
SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
{STATES_SCHEMA.format("states")};
CREATE TABLE events (
    who TEXT NOT NULL, place INTEGER NOT NULL, session INTEGER NOT NULL, item TEXT NOT NULL,
    time REAL NOT NULL, event_id TEXT, crc INTEGER NOT NULL, PRIMARY KEY (who, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries ON events (who, event_id) WHERE event_id IS NOT NULL
"""
_STATE_COLUMNS = ("carry", "past", "crc", "item", "opens", "gap", "fed")
SESSION_COLUMNS = ("time", "last", "session", "number", "events")  # as in OpenSession
COLUMNS = {
    "about": ("name", "value"),
    "states": ("who", *_STATE_COLUMNS, *SESSION_COLUMNS, "written", "row_crc"),
    "events": ("who", *StoredEvent._fields, "crc"),
}


def convert_from_2(db: sqlite3.Connection) -> None:
    """Bring the tables of format 2, which has no CRC-32 of whole rows, into this format."""

    def crc_of_row(*values: Any) -> int:
        # A text that is not UTF-8 gets another CRC than what is read of it: its row is damaged.
        texts = [
            value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            for value in values
        ]
        return crc_of(texts)

    db.create_function("crc_of_row", -1, crc_of_row)
    for table, column in (("states", "row_crc"), ("events", "crc")):
        db.execute(f"ALTER TABLE {table} ADD {column} INTEGER NOT NULL DEFAULT 0")
        values = [
            f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
            for name in COLUMNS[table][:-1]
            if name not in ("carry", "past")
        ]
        db.execute(f"UPDATE {table} SET {column} = crc_of_row({', '.join(values)})")
    db.execute("UPDATE about SET value = ? WHERE name = 'format'", (FORMAT,))


@functools.cache
def column_types() -> dict[str, dict[str, tuple[type, bool]]]:
    """Return by table and column the type of its values, and whether one may be missing."""
    types = {"TEXT": str, "INTEGER": int, "REAL": float, "BLOB": bytes}
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return {
            table: {
                name: (types[of], not (is_key or is_needed))
                for _, name, of, is_needed, _, is_key in db.execute(f"PRAGMA table_info({table})")
            }
            for table in COLUMNS
        }


def changed_definition(db: sqlite3.Connection) -> str | None:
    """Return the name of a table or an index that is not defined as in `SCHEMA`; None if all are.

    SQLite checks little of the definitions when it opens a file. Bits that have flipped in them may
    change how values are stored, or be noticed by a later statement.
    """
    found, expected = _definitions(db), _expected_definitions()
    changed = sorted(expected - found) or sorted(found - expected)
    return changed[0][1] if changed else None


@functools.cache
def _expected_definitions() -> frozenset[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return _definitions(db)


def _definitions(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """Return type, name, table and text of each definition, but for SQLite's own statistics.

    Without what differs where `next_states` has renamed a table of states or made a second one, and
    where `convert_from_2` has added a column.
    """
    rows = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"
    )
    differs = re.compile(r'next_|former_|"| DEFAULT 0|\s')
    return frozenset(tuple(differs.sub("", str(value)) for value in row) for row in rows.fetchall())
