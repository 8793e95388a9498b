"""A PostgreSQL database whose services are killed and lose their connections.

The server is a real one, and its disk and its power never fail. Simulated are, between a service
and the server: kills of the service before and after each message, a commit among them; connections
that are lost there; and the server's error of a full disk. Rows are damaged by updates of somebody
else.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import pathlib
import random
import types
from collections.abc import Callable, Generator
from typing import Any
from unittest import mock

import psycopg

from hrnn_jax import errors
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store import postgresql
from tests.fault_simulator import operations
from tests.fault_simulator.clients import deliver
from tests.fault_simulator.disk import Killed
from tests.fault_simulator.process import FaultError, Process, Result
from tests.fault_simulator.repairs import adopt_damaged
from tests.fault_simulator.run import Run
from tests.helpers import stored_states


class Link:
    """The connections of a service; it stands in the place of a `Disk`."""

    settles = True

    def __init__(self, draw: random.Random):
        self._draw = draw
        self.counts: collections.Counter[str] = collections.Counter()
        self.dead = False
        self.fails = False  # now: while what changes states is called
        self.kill_after: int | None = None  # messages
        self.lose_after: int | None = None  # messages, until the connection is lost
        self.room: int | None = None  # rows that may still be inserted

    @property
    def faults(self) -> int:
        """Return how often a call was refused."""
        return self.counts["full"] + self.counts["lost connection"]

    def restart(self) -> None:
        self.dead, self.kill_after, self.lose_after = False, None, None

    def lose_power(self) -> None:
        """The service's machine has nothing of the states."""

    write_back = lose_power

    def files(self) -> list[pathlib.Path]:
        return []

    def connect(self, **parameters: Any) -> psycopg.Connection[Any]:
        if self.dead:
            raise Killed
        db = Connection.connect(**parameters, cursor_factory=Cursor)
        db.link = self
        return db

    def message(self, db: Connection, send: Any) -> Any:
        """Send a message to the server and wait for its answer; or not."""
        if self.dead:
            raise Killed
        for name in ("kill_after", "lose_after") if self.fails else ():
            left = getattr(self, name)
            if left is None:
                continue
            setattr(self, name, left - 1 if left else None)
            if left:
                continue
            is_sent = self._draw.random() < 0.5
            if is_sent:
                send()
            self.dead = name == "kill_after"
            when = "after" if is_sent else "before"
            self.counts[f"kill at {when}" if self.dead else "lost connection"] += 1
            db.pgconn.finish()
            raise Killed if self.dead else psycopg.OperationalError("the connection is lost")
        return send()

    def insert(self, n_rows: int) -> None:
        """Take room for rows."""
        if self.room is not None:
            self.room -= 100 * n_rows
            if self.room < 0:
                self.counts["full"] += 1
                raise psycopg.errors.DiskFull("no space left on device")


class Connection(psycopg.Connection):
    """A connection over a link."""

    link: Link | None = None

    def wait(self, gen: Any, *arguments: Any, **settings: Any) -> Any:
        send = functools.partial(super().wait, gen, *arguments, **settings)
        sends_nothing = gen.__qualname__ == "BasePipeline._enter_gen"
        return send() if self.link is None or sends_nothing else self.link.message(self, send)


class Cursor(psycopg.Cursor):
    """A cursor of such a connection."""

    def executemany(self, query: Any, params_seq: Any, **settings: Any) -> None:
        if query.startswith(b"INSERT"):
            db: Any = self.connection
            db.link.insert(len(params_seq))
        super().executemany(query, params_seq, **settings)


class DatabaseProcess(Process):
    """Two services on one database, of which one after the other is asked."""

    def __init__(self, url: str, draw: random.Random):
        super().__init__(pathlib.Path(), draw, disk=Link(draw))
        self.path = url
        self.other: Recommender | None = None
        self._other_looked = self.looked

    @contextlib.contextmanager
    def _below(self) -> Generator[None]:
        module = types.SimpleNamespace(**vars(psycopg) | {"connect": self.disk.connect})
        with mock.patch.object(postgresql, "psycopg", module):
            yield

    def open(self, weights: int, rebuild: bool) -> None:
        super().open(weights, rebuild)
        first = self.live
        try:
            super().open(weights, False)
        finally:
            self.live, self.other = first, None if self.live is first else self.live
        self._other_looked = self.looked

    def attempt(self, function: Callable[..., Any], *args: Any, **settings: Any) -> Result:
        self.disk.fails = True
        try:
            return super().attempt(function, *args, **settings)
        finally:
            self.disk.fails = False

    def turn(self) -> None:
        if self.draw.random() < 0.5:
            self.live, self.other = self.other, self.live
            self.looked, self._other_looked = self._other_looked, self.looked

    def end(self, *, power: bool) -> None:
        self.disk.dead = True
        if self.other is not None:
            self.other._states.store.close()
        self.other = None
        super().end(power=power)


def export(run: Run) -> None:
    """Export all states; a service that is killed meanwhile has changed nothing."""
    run.process.disk.kill_after = None
    operations.export(run)


def refuse_reload(run: Run) -> None:
    """Ask for a reload, which is refused; the weights of before serve on."""
    process = run.process
    process.disk.kill_after = None
    result = process.attempt(process.live.reload, "2")
    if not isinstance(result.error, errors.InputError) or "file alone" not in str(result.error):
        raise FaultError(f"a reload of a database: {result}")


def lose_connection(run: Run) -> None:
    """Lose the connection at one of the next messages, a commit maybe."""
    run.process.disk.lose_after = run.draw.randrange(25)
    deliver(run)
    run.process.disk.lose_after = None


def damage_row(run: Run) -> None:
    """Change a value of a row, while the services run."""
    process, draw = run.process, run.draw
    process.disk.kill_after = process.disk.room = None
    if process.maybe or not process.oracle.people:
        return
    key = draw.choice(sorted(process.oracle.people))
    if draw.random() < 0.6:
        column = draw.choice(["carry", "item", "gap", "time", "number", "events", "row_crc"])
        where = ""
    else:
        column, where = draw.choice(["item", "time", "session", "crc"]), " AND mod(place, 2) = 0"
    value = {
        "carry": "set_byte(carry, 0, get_byte(carry, 0) # 1)",
        "item": "item || 'x'",
    }.get(column, f"{column} + 1")
    table = "events" if where else "states"
    run.say(f"  {column} of {table} of {key}")
    statement = f"UPDATE {table} SET {column} = {value} WHERE who = ?{where}"
    stored_states.execute(process.path, statement, key)
    n_said = adopt_damaged(process, [process.oracle])
    run.counts["rebuilt"] += n_said
    run.say(f"{n_said} lines of repairs")
