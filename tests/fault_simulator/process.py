"""The process that runs the recommender: its starts, its ends, and whether it answers right."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import random
import sqlite3
import types
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple
from unittest import mock

from hrnn_jax import errors
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.live import events, live_network
from hrnn_jax.live.events import Request
from hrnn_jax.live.recommender import Recommender, RecommenderConfig
from hrnn_jax.live.states import idle_sessions, past_events, rebuilding, reload
from hrnn_jax.live.store import (
    next_states,
    sqlite_pages,
    sqlite_store,
    state_file,
    state_store,
)
from tests.fault_simulator import network
from tests.fault_simulator.connection import Connection
from tests.fault_simulator.disk import Disk, Killed
from tests.fault_simulator.oracle import GAP, ITEMS, KEPT, Oracle
from tests.helpers import live_users

UNFINISHED = -1  # in the place of an oracle's weights


class FaultError(AssertionError):
    """The recommender has lost, invented or mixed something."""


class Clock:
    """The clock that people set, and the one that nobody sets."""

    CLOCK_MONOTONIC = CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.wall, self.steady = float(live_users.NOW), 1000.0
        self._looks = 0

    def time(self) -> float:
        return self.wall

    def clock_gettime(self, _: int) -> float:
        return self.steady

    def perf_counter(self) -> float:
        """Return a time by which a reload holds the lock for one key or two."""
        self._looks += 1
        return 0.002 * self._looks

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Result(NamedTuple):
    """What became of a call."""

    value: Any = None
    error: Exception | None = None
    killed: bool = False


class Process:
    """One recommender after the other on one state file, and what they have acknowledged."""

    def __init__(self, folder: pathlib.Path, draw: random.Random, *, disk: Any = None):
        self.draw, self.clock = draw, Clock()
        self.disk: Any = disk or Disk(folder, draw)
        self.path = folder / "states.sqlite"
        self.wal = folder / "states.sqlite-wal"
        self.live: Recommender | None = None
        self.oracle = Oracle(1, drop_repeats=draw.random() < 0.5)
        self.maybe: list[Oracle] = []  # after calls that failed, and may be found at a start
        self.since: list[Oracle] = []  # after each commit since the -wal was emptied for sure
        self.forgotten: set[str] = set()  # keys
        self.blurred: set[str] = set()  # keys whose rows may name another key since bits flipped
        self.lines: list[str] = []  # of the log, since the start
        self.looked: tuple[float, float] = (0.0, 0.0)  # clocks when idle sessions were looked at
        self.cached = draw.choice([1, 3, 100])

    @contextlib.contextmanager
    def simulated(self) -> Generator[None]:
        """Put the simulated parts below the recommender."""
        log = types.SimpleNamespace(warning=self.lines.append)
        with self._below(), contextlib.ExitStack() as stack:
            for place, name, value in (
                (state_store, "time", self.clock),
                (idle_sessions, "time", self.clock),
                (events, "clock", self.clock),
                (live_network, "BatchedModel", network.Network),
                (past_events, "WIDTHS", (2,)),
                (rebuilding, "WIDTHS", (2,)),
                (idle_sessions, "_SESSIONS_OF_A_STEP", 2),
                (next_states, "_ROWS_OF_A_STEP", 2),
                (reload, "_KEYS", 2),
                (reload, "_FEW", 1),
                (reload, "_ROUNDS", 3),
                (reload, "time", self.clock),
                (reload, "load_unchanged", self._load),
                (reload, "compile_programs", lambda network: []),
                (idle_sessions, "logger", log),
                (rebuilding, "logger", log),
                (state_store, "logger", log),
            ):
                stack.enter_context(mock.patch.object(place, name, value))
            yield

    @contextlib.contextmanager
    def _below(self) -> Generator[None]:
        """Put the simulated parts below the store of states."""
        connect = functools.partial(Connection, self.disk, self.draw)
        module = types.SimpleNamespace(**vars(sqlite3) | {"connect": connect})
        calls = {"pwrite": self.disk.pwrite, "fsync": self.disk.fsync}
        with contextlib.ExitStack() as stack:
            for place, name, value in (
                (sqlite_store, "sqlite3", module),
                (state_file, "sqlite3", module),
                (sqlite_pages, "os", types.SimpleNamespace(**vars(os) | calls)),
                (sqlite_store, "_WAL_BYTES", self.draw.choice([2000, 10_000, 4_000_000])),
            ):
                stack.enter_context(mock.patch.object(place, name, value))
            yield

    def turn(self) -> None:
        """Ask another service of the same states from now on, if there is one."""

    def attempt(self, function: Callable[..., Any], *args: Any, **settings: Any) -> Result:
        """Call a function of the recommender."""
        try:
            result = Result(function(*args, **settings))
        except Killed:
            result = Result(killed=True)
        except (errors.InputError, errors.StorageError) as error:
            if "\n" in str(error):
                raise FaultError(f"an error of several lines: {error}") from error
            result = Result(error=error)
        return Result(killed=True) if self.disk.dead else result

    def _about(self, weights: int) -> TrainedRun:
        return live_users.about(
            network.CONFIG,
            items=ITEMS,
            gap_seconds=GAP,
            drop_repeats=self.oracle.drop_repeats,
            lineage=(f"weights {weights}",),
        )

    def _load(self, run: pathlib.Path, **_: Any) -> tuple[TrainedRun, int]:
        """Load a run folder, which has the name of its weights."""
        weights = int(run.name)
        return self._about(weights), weights

    def open(self, weights: int, rebuild: bool) -> None:
        """Start a recommender."""
        self.lines.clear()
        config = RecommenderConfig(cached_users=self.cached, kept_events=KEPT)
        self.looked = self.clock.wall, self.clock.steady
        self.live = Recommender(
            self._about(weights), weights, self.path, rebuild=rebuild, config=config
        )

    def stop(self) -> None:
        """End the process as SIGTERM does; it may be killed meanwhile."""
        if self.live is not None:
            self.attempt(self.live.close)
        self.end(power=False)

    def end(self, *, power: bool) -> None:
        """End the process as kill -9 does, or by a loss of power."""
        self.disk.dead = True
        if self.live is not None:
            with contextlib.suppress(Killed):
                self.live._states.store.close()  # frees what the process had open
        self.live = None
        if power:
            self.disk.lose_power()
        elif self.draw.random() < 0.3:
            self.disk.write_back()
        self.disk.restart()

    def written(self) -> dict[str, float]:
        """Return when each state was written."""
        return dict(self.live._states.store._rows("SELECT who, written FROM states"))

    def difference(self, oracle: Oracle, *, times: bool = True) -> str:
        """Return the first thing that is not as the oracle has it; nothing if all is.

        times: whether the times count at which states were written.
        """
        store, people = self.live._states.store, oracle.people
        found = {key: tuple(session) for key, session in store.sessions().items()}
        expected = {key: person.session() for key, person in people.items()}
        if found != expected:
            return f"open sessions are {found}, not {expected}"
        expected_times = {key: person.written for key, person in people.items()}
        if times and (written := self.written()) != expected_times:
            return f"states were written at {written}, not {expected_times}"
        for key, person in people.items():
            kept = tuple(map(tuple, store.events(key)))
            if kept != person.kept:
                return f"events of {key} are {kept}, not {person.kept}"
        keys = [*people, "unobody", "snobody"]
        lists = self.live.recommend_many([request(key, k=4) for key in keys])
        for key, found_list in zip(keys, lists, strict=True):
            if found_list != (best := oracle.best(key, 4)):
                return f"the list of {key} is {found_list}, not {best}"
        return ""

    def check(self) -> None:
        """Check all that is stored, and that nothing is left of the forgotten."""
        if difference := self.difference(self.oracle):
            raise FaultError(difference)
        self.check_forgotten()

    def check_forgotten(self) -> None:
        """Check that the bytes of no file have a forgotten person."""
        for path in self.disk.files() if self.forgotten else ():
            content = path.read_bytes()
            for key in self.forgotten - self.blurred:
                if key[1:].encode() in content:
                    raise FaultError(f"{path.name} still has {key}, who was forgotten")

    def adopt(self, candidates: Sequence[Oracle]) -> None:
        """Take the newest of the oracles that the process agrees with.

        Raises:
            FaultError: it agrees with none.
        """
        differences = []
        for oracle in reversed(candidates):
            self.settle(oracle)
            if not (difference := self.difference(oracle)):
                self.take(oracle)
                return
            differences.append(difference)
        raise FaultError("after the start " + ", and ".join(differences))

    def settle(self, oracle: Oracle) -> None:
        """Find out which of their choices people are after a reload."""
        for key, person in oracle.people.items():
            if not person.choices:
                continue
            [found] = self.live.recommend_many([request(key, k=4)])
            for choice in person.choices:
                oracle.people[key] = choice
                if oracle.best(key, 4) == found:
                    break

    def take(self, oracle: Oracle) -> None:
        """Go on from what an oracle has."""
        self.oracle, self.maybe, self.since = oracle, [], [oracle]
        self.forgotten -= oracle.people.keys()
        self.check_forgotten()


def request(key: str, **settings: Any) -> Request:
    """Return a request for a key."""
    name = "user" if key[0] == "u" else "session"
    return Request(**{name: key[1:]}, **settings)
