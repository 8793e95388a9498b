"""Which backend has the states: a file of SQLite, or a database of PostgreSQL for its URL."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

from hrnn_jax.config import RecommenderConfig
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.store.sqlite_store import SqliteStore
from hrnn_jax.live.store.state_store import StateStore

_URL = re.compile(r"\s*postgres[a-z+]*:", re.IGNORECASE)  # of any spelling: it may have a password


def is_database(states: pathlib.Path | str) -> bool:
    """Tell whether states are in a database, which several processes may have open, or a file."""
    return isinstance(states, str) and bool(_URL.match(states))


def open_store(
    states: pathlib.Path | str,
    item_index: Mapping[str, int],
    start: LiveState,
    config: RecommenderConfig,
) -> StateStore:
    """Open the store of the states, or make it.

    Args:
        states: a file, `IN_MEMORY`, or a URL of PostgreSQL.
        item_index: see `StateStore`.
        start: see `StateStore`.
        config: how many users are held in memory, and events stored.

    Raises:
        InputError: what is there cannot be used.
        StorageError: it is damaged, or cannot be reached.
    """
    if is_database(states):
        from hrnn_jax.live.store.postgresql import PostgresqlStore

        return PostgresqlStore(str(states), item_index, start, kept_events=config.kept_events)
    return SqliteStore(
        states,
        item_index,
        start,
        cached_users=config.cached_users,
        kept_events=config.kept_events,
    )
