"""States of other weights, computed next to those in use in the same state file, and their swap.

The events are of no weights, so they stay in their table. The table `next_states` gets the states
by the next weights while the table `states` is in use; one transaction renames both. Whatever kills
the process, `states` and the weights that `about` names belong together. What is left of the other
table is removed in steps, or by the next start.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hrnn_jax import errors
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import OpenSession
from hrnn_jax.live.store.state_rows import StoredState, row_of, session_of, state_of
from hrnn_jax.live.store.state_schema import STATES_SCHEMA
from hrnn_jax.live.store.state_store import StateStore

_NEXT, _FORMER = "next_states", "former_states"
_ROWS_OF_A_STEP = 500  # that are erased, some thousandths of a second of work


class NextState(NamedTuple):
    """The next state of a key, and what its row of today says."""

    state: StoredState | None  # None where it has to be computed from all events
    session: OpenSession | None  # None where the row is damaged
    written: float  # Unix seconds


class NextStates(StateStore):
    """A state file, as far as it swaps its states."""

    _db: sqlite3.Connection
    _cache: collections.OrderedDict[str, tuple[Any, ...]]
    _former_cache: collections.OrderedDict[str, tuple[Any, ...]] | None = None
    # The second table of states, if there is one, and the keys whose states in `_NEXT` are old.
    _second: str | None = None
    _touched: set[str]

    @abc.abstractmethod
    def _erase_traces(self) -> None:
        """Leave nothing on the disk of rows that were deleted."""

    def _drop_second_tables(self) -> None:
        """Remove what a process that was killed has left."""
        names = "SELECT name FROM sqlite_schema WHERE name IN (?, ?)"
        for [name] in self._rows(names, _NEXT, _FORMER):
            self._db.execute(f"DROP TABLE {name}")

    def begin_next(self) -> None:
        """Make the table of the next states."""
        with self._transaction():
            self._drop_second_tables()
            self._db.execute(STATES_SCHEMA.format(_NEXT))
        self._second, self._touched = _NEXT, set()

    def _touch(self, keys: Sequence[str] | Mapping[str, object]) -> None:
        """Note keys whose states change now."""
        if self._second == _NEXT:
            self._touched.update(keys)

    def take_touched(self) -> set[str]:
        """Return the keys whose states have changed since the last call.

        Raises:
            InputError: all states were replaced meanwhile.
        """
        self._check_next()
        touched, self._touched = self._touched, set()
        return touched

    def next_state(
        self, key: str, item_index: Mapping[str, int], start: LiveState
    ) -> NextState | None:
        """Return the next state of a key, and what its row of today says.

        Args:
            key: of the user or session.
            item_index: of the next weights.
            start: a state of theirs.

        Returns:
            None for a key that has no state.
        """
        self._check_next()
        rows = self._rows("SELECT * FROM states WHERE who = ?", key)
        if not rows:
            return None
        made = self._rows(f"SELECT * FROM {_NEXT} WHERE who = ?", key)
        state = None
        with contextlib.suppress(errors.InputError):  # damaged: made again
            state = state_of(made[0], item_index, start) if made else None
        return NextState(state, session_of(rows[0]), rows[0][-2])

    def write_next(
        self,
        states: Mapping[str, StoredState],
        items: Sequence[str],
        written: Mapping[str, float],
    ) -> None:
        """Write next states, but for keys whose states have changed since they were read.

        Args:
            states: by key.
            items: the raw id of each item of the next weights, as text.
            written: when the state of today was, in Unix seconds: an idle session stays one.
        """
        self._check_next()
        rows = [
            row_of(key, state, items, written[key])
            for key, state in states.items()
            if key not in self._touched
        ]
        with self._transaction():
            self._insert(_NEXT, rows)

    def take_next(
        self, about: Mapping[str, str], item_index: Mapping[str, int], start: LiveState
    ) -> None:
        """Put the next states in the place of those in use.

        Args:
            about: rows of the table `about` that say which weights made them.
            item_index: of the next weights.
            start: a state of theirs.
        """
        self._check_next()
        items = list(item_index)
        with self._transaction():
            self._db.execute(f"ALTER TABLE states RENAME TO {_FORMER}")
            self._db.execute(f"ALTER TABLE {_NEXT} RENAME TO states")
            self._insert("about", list(about.items()))
        self._second = _FORMER
        self._item_index, self._items, self._start = item_index, items, start
        # To free 100,000 states at once would stop all threads.
        self._former_cache, self._cache = self._cache, collections.OrderedDict()

    def erase_second(self) -> bool:
        """Erase a part of the second table of states; return whether anything is left of it."""
        former = self._former_cache or {}
        for _ in range(min(len(former), _ROWS_OF_A_STEP)):
            former.popitem()
        if self._second is None:
            return bool(self._former_cache)
        some = f"SELECT rowid FROM {self._second} LIMIT {_ROWS_OF_A_STEP}"
        query = f"DELETE FROM {self._second} WHERE rowid IN ({some})"
        with self._transaction():
            erased = self._db.execute(query).rowcount
            if not erased:
                self._db.execute(f"DROP TABLE {self._second}")
        if not erased:
            self._second = None
            self._erase_traces()
        return erased > 0 or bool(self._former_cache)

    def _delete_second(self, rows: Sequence[tuple[str]]) -> None:
        """Delete states of keys in the second table too, in the transaction of the first."""
        if self._second:
            self._db.executemany(f"DELETE FROM {self._second} WHERE who = ?", rows)

    def _check_next(self) -> None:
        if self._second != _NEXT:
            raise errors.InputError("all states were replaced during the reload: reload again")


def of(store: object) -> NextStates:
    """Return a store that can swap its states.

    Raises:
        InputError: it cannot.
    """
    if not isinstance(store, NextStates):
        raise errors.InputError(
            "weights are reloaded for a state file alone: start again for states in a database"
        )
    return store
