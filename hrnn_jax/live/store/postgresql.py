"""The states of live users and their stored events in a PostgreSQL database, for several processes.

A change locks its users from before it reads their states to its commit, by advisory locks, as a
new user has no row that could be locked; reads take no lock. No state is kept in memory: whether it
is still the newest one only the database knows, and that question takes as long as the state.

The first process that opens a database makes the schema `hrnn_jax` in it. Which weights made the
states is read with every state and before every write, as another process may compute all states
again for other weights.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from hrnn_jax import errors
from hrnn_jax.live.batched_model import LiveState
from hrnn_jax.live.events import StoredEvent
from hrnn_jax.live.store.state_rows import Row, StoredState
from hrnn_jax.live.store.state_schema import COLUMNS, FORMAT, SCHEMA
from hrnn_jax.live.store.state_store import StateStore, as_json

try:
    import psycopg
    from psycopg import conninfo
except ModuleNotFoundError as error:
    raise errors.InputError(
        "states in PostgreSQL need psycopg; run: pip install 'hrnn_jax[postgresql]'"
    ) from error

_NAMESPACE = "hrnn_jax"  # the schema
_EVERYBODY = 7_242_093_251_119  # the number of the lock of all keys
_MOST_LOCKS = 256  # of a transaction; more keys lock everybody, as the server has room for some
_TYPES = {"TEXT": 'text COLLATE "C"', "BLOB": "bytea", "INTEGER": "bigint", "REAL": "float8"}
_CONFLICTS = {
    "about": "name",
    "states": "who",
    "events": "who, event_id) WHERE (event_id IS NOT NULL",  # of a damaged event
}
# A host that is lost without a word holds the locks of its users for so long.
_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "hrnn_jax",
}
_ENCODING = {"client_encoding": "UTF8"}  # whatever the URL says: ids may be of any letters
_SETTINGS = f"""
SET search_path = {_NAMESPACE};
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '60s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""

_REFUSES = "refuses its user ({}): grant that, or give another one"
# Classes of SQLSTATE, and what is raised for them; the last row is for all others.
_ERRORS = (
    (
        r"08|57P|28|3D",  # connection, shutdown, authorization, catalogue
        errors.StorageError,
        "cannot be reached ({}): start it, or give another one",
    ),
    (r"55P03|57014|40", errors.StorageError, "is in use by another process ({}): try again"),
    (r"25006", errors.StorageError, "cannot be written ({}): allow that, or give its primary"),
    (r"53|54|58", errors.StorageError, "cannot be written ({}): make room for it"),
    (r"42501", errors.InputError, _REFUSES),
    (
        r"",
        errors.StorageError,
        "is damaged ({}): put back a copy of the database, or start with an empty one",
    ),
)
_Result = TypeVar("_Result")


class PostgresqlStore(StateStore):
    """The states and stored events of all users, in a database that other processes change too."""

    _KEYS = "SELECT value FROM json_array_elements_text(CAST(? AS json))"
    _PAIRS = (
        "json_array_elements(CAST(? AS json)) AS pair(value) JOIN events "
        "ON who = pair.value->>0 AND CAST({} AS text) = pair.value->>1"
    )

    def __init__(
        self, url: str, item_index: Mapping[str, int], start: LiveState, *, kept_events: int
    ):
        """Connect to the database, and make the tables if it has none.

        Args:
            url: postgresql://USER@HOST:PORT/DATABASE, or what else libpq takes after postgresql://.
            item_index: see `StateStore`.
            start: see `StateStore`.
            kept_events: see `StateStore`.

        Raises:
            InputError: the URL is none, or the tables are in another format.
            StorageError: the database cannot be reached.
        """
        super().__init__(item_index, start, kept_events=kept_events)
        self._parameters = _parameters(url)
        self.name = _name(self._parameters)
        self._db: psycopg.Connection[Any] | None = None
        self._closed = False
        self._in_transaction = False
        self._weights: str | None = None  # that this process takes the states to be of
        self._is_checked = False  # of this transaction: the weights
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Check the tables, or make them."""
        with self.updating():
            [encoding] = self._rows("SELECT current_setting('server_encoding')")
            if encoding != ("UTF8",):
                raise errors.InputError(
                    f"{self.name} has the encoding {encoding[0]}: make a database of UTF8"
                )
            # Tables of the catalogue, which name schemas that the user has no right on, too.
            query = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = ?"
            if not (is_usable := self._rows(query, _NAMESPACE)):
                self._execute(f"CREATE SCHEMA {_NAMESPACE}")
            elif is_usable == [(False,)]:
                said = f"no right to use the schema {_NAMESPACE}"
                raise self._about(errors.InputError, _REFUSES, said)
            query = "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'about'"
            if not self._rows(query, _NAMESPACE):
                for statement in _schema():
                    self._execute(statement)
                self._insert("about", [("format", FORMAT)])
            if (found := self.about.get("format")) != FORMAT:
                raise errors.InputError(
                    f"{self.name} is in format {found}, not {FORMAT}: give another database"
                )
            for name, columns in COLUMNS.items():
                self._rows(f"SELECT {', '.join(columns)} FROM {name} LIMIT 0")

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        if self._db is not None:
            self._db.close()

    def check_file(self) -> None:
        """Raise StorageError if the database cannot be reached, or is of other weights now."""
        self._check_weights()

    def _check_weights(self) -> None:
        rows = self._rows("SELECT value FROM about WHERE name = 'weights'")
        self._refuse_others(rows[0][0] if rows else None)

    def _refuse_others(self, weights: str | None) -> None:
        """Raise StorageError where another process has made the states those of other weights."""
        if self._weights is not None and weights != self._weights:
            text = "is of other weights now: restart the service with those, or give another one"
            raise self._about(errors.StorageError, text)
        self._is_checked = True

    def set_about(self, about: Mapping[str, str]) -> None:
        """See `StateStore`; the weights that are written are those of this process."""
        with self.updating():
            super().set_about(about)
            self._weights = about.get("weights", self._weights)

    @contextlib.contextmanager
    def updating(self, keys: Collection[str] | None = None) -> Generator[None]:
        """See `StateStore`: a transaction that has the locks of the keys."""
        if self._in_transaction:
            yield
            return
        weights = self._weights
        try:
            with self._one_line_errors(), self._begun():
                self._lock(keys)
                yield
        except BaseException:
            self._weights = weights
            raise

    @contextlib.contextmanager
    def reading(self) -> Generator[None]:
        """See `StateStore`: a transaction that sees what was committed before it."""
        if self._in_transaction:
            yield
            return
        with self._one_line_errors(), self._begun():
            self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    @contextlib.contextmanager
    def _begun(self) -> Generator[None]:
        """Let the block be a transaction."""
        with contextlib.ExitStack() as stack:
            self._connected(lambda db: stack.enter_context(db.transaction()))
            self._in_transaction, self._is_checked = True, False
            stack.callback(setattr, self, "_in_transaction", False)
            yield

    def _lock(self, keys: Collection[str] | None) -> None:
        """Wait for the locks of keys, in the order of their numbers, or for that of everybody."""
        numbers = sorted({_lock_number(key) for key in keys or ()})
        if keys is None or len(numbers) > _MOST_LOCKS:
            self._execute("SELECT pg_advisory_xact_lock(?)", _EVERYBODY)
        else:
            self._execute(
                "SELECT pg_advisory_xact_lock_shared(?) UNION ALL "
                "SELECT pg_advisory_xact_lock(one) FROM unnest(CAST(? AS bigint[])) AS one",
                _EVERYBODY,
                numbers,
            )

    def _transaction(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # `updating` is one

    def write(
        self,
        states: Mapping[str, StoredState],
        events: Mapping[str, Sequence[StoredEvent]] = MappingProxyType({}),
        *,
        written: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """See `StateStore`; the states must still be of the weights of this process."""
        with self.updating(states):
            if not self._is_checked:
                self._check_weights()
            super().write(states, events, written=written)

    def _state_rows(self, keys: Collection[str]) -> list[Row]:
        query = (
            "SELECT (SELECT value FROM about WHERE name = 'weights'), states.* "
            f"FROM states WHERE who IN ({self._KEYS})"
        )
        rows = self._rows(query, as_json(keys))
        if rows:
            self._refuse_others(rows[0][0])
        return [row[1:] for row in rows]

    def _rows(self, query: str, *values: object) -> list[Row]:
        return self._execute(query, *values).fetchall()

    def _execute(self, statement: str, *values: object) -> psycopg.Cursor[Any]:
        with self._one_line_errors():
            return self._connected(lambda db: db.execute(_formatted(statement), values))

    def _execute_many(self, statement: str, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        with self._one_line_errors():
            cursor = self._connected(lambda db: db.cursor())
            cursor.executemany(_formatted(statement), rows)
            return cursor.rowcount

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        columns = COLUMNS[table]
        if table == "events":
            places = [row[:2] for row in rows]
            self._execute_many("DELETE FROM events WHERE who = ? AND place = ?", places)
        new = ", ".join(f"{column} = EXCLUDED.{column}" for column in columns)
        self._execute_many(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT ({_CONFLICTS[table]}) DO UPDATE SET {new}",
            [_plain(row) for row in rows],
        )

    def _connected(self, function: Callable[[psycopg.Connection[Any]], _Result]) -> _Result:
        """Call a function with the connection; again with a new one, if it was lost before."""
        if self._closed:
            text = "is closed: load the recommender again"
            raise self._about(errors.InputError, text)
        if self._db is not None and not self._db.closed:
            try:
                return function(self._db)
            except psycopg.OperationalError:
                if not self._db.closed or self._in_transaction:
                    raise
        if self._in_transaction:  # its begin is lost
            raise psycopg.OperationalError("the connection is lost")
        try:
            self._db = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.ProgrammingError as error:  # of a parameter of the URL
            text = "cannot be connected to ({}): correct what follows ? in its URL"
            raise self._about(errors.InputError, text, " ".join(str(error).split())) from error
        self._db.execute(_SETTINGS)
        return function(self._db)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Generator[None]:
        """Raise an error of PostgreSQL as one line that names the database."""
        try:
            yield
        except psycopg.Error as error:
            # Of a lost connection, and of one that was refused, there is no state.
            code = error.sqlstate or ("08" if isinstance(error, psycopg.OperationalError) else "")
            kind, text = next(
                (kind, text) for classes, kind, text in _ERRORS if re.match(classes, code)
            )
            said = error.diag.message_primary or str(error)
            raise self._about(kind, text, " ".join(said.split())) from error

    def _about(
        self, kind: type[errors.InputError | errors.StorageError], text: str, said: str = ""
    ) -> errors.InputError | errors.StorageError:
        """Return an error about the database; what it said is not for everybody."""
        error = kind(f"{self.name} {text.format(said)}")
        error.public = f"the database of the states {text.replace(' ({})', '')}"
        return error


def _parameters(url: str) -> dict[str, Any]:
    """Return the parameters of a connection."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:  # its text may have the password
        raise errors.InputError(
            "`states` is no URL of PostgreSQL: give postgresql://USER@HOST:PORT/DATABASE"
        ) from error
    return {**_CONNECTION, **given, **_ENCODING}


def _name(parameters: Mapping[str, Any]) -> str:
    """Return the URL of a database without what only its user may know."""
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"postgresql://{parameters.get('host', '')}{port}/{parameters.get('dbname', '')}"


def _schema() -> Iterable[str]:
    """Return the statements that make the tables."""
    types = re.compile(rf"\b({'|'.join(_TYPES)})\b")
    text = types.sub(lambda match: _TYPES[match[0]], SCHEMA).replace(" WITHOUT ROWID", "")
    return filter(str.strip, text.split(";"))


def _lock_number(key: str) -> int:
    """Return the number of the lock of a key; two keys that share one wait for each other."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


@functools.cache
def _formatted(query: str) -> bytes:
    """Return a query with psycopg's places of values in those of SQLite."""
    return query.replace("?", "%s").encode()


def _plain(row: Row) -> Row:
    """Return a row with numbers in the place of truth values, as SQLite stores them."""
    return tuple(int(value) if isinstance(value, bool) else value for value in row)
