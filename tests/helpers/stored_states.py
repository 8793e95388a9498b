"""What somebody else does to stored states, wherever they are."""

import contextlib
import sqlite3

import psycopg
from psycopg.rows import dict_row

from hrnn_jax.live.store.opening import is_database


def execute(states, statement, *values):
    """Execute a statement; return its rows as dicts."""
    if is_database(states):
        with psycopg.connect(states, autocommit=True, row_factory=dict_row) as db:
            db.execute("SET search_path = hrnn_jax")
            cursor = db.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []
    with contextlib.closing(sqlite3.connect(states)) as db, db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(statement, values)]
