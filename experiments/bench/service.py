"""Rows of the benchmark about the service: its start, its memory and how long its users wait."""

from __future__ import annotations

import contextlib
import pathlib
import random
import statistics
import time
from collections.abc import Generator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
import psutil

from hrnn_jax.live.recommender import load_recommender

from . import commands, load_generator
from .load_generator import Request, connect, send
from .process import of_module, running, wait_for
from .record import Row
from .timing import Settings

ITEMS, UNITS, USERS = 60_000, 100, 100_000
TRAINED_USERS = 1_500  # with more training events than items
EVENTS_EACH = 5  # of each user's history
PER_SECOND = 100
WINDOW_SECONDS = 60
HISTORY_BEGINS = 1_600_000_000  # Unix seconds
EVENTS_PER_REQUEST = 1_000  # of a request that brings users into memory


class Service(NamedTuple):
    """A service that is ready."""

    url: str
    seconds: float  # from the start of its process
    process: psutil.Popen

    def resident(self) -> int:
        """Return its resident memory in bytes."""
        return self.process.memory_info().rss


def serving(settings: Settings) -> Mapping[str, Row]:
    """Measure a service of many users: start, resident memory, and the wait at a steady load."""
    users = max(100, round(USERS * settings.scale))
    seconds = max(2.0, WINDOW_SECONDS * min(1, settings.scale))
    with settings.folder() as folder:
        commands.write_log(folder, TRAINED_USERS, ITEMS)
        commands.run(folder, folder / "run")
        _write_states(folder / "run", users)
        settings.print(f"{users:,} users have a state")
        starts = []
        for _ in range(1 + settings.long_repeats):  # the first one fills the compilation cache
            with _started(folder) as service:
                starts.append(service.seconds)
        with _started(folder) as service:
            empty = service.resident()
            _load_all_states(service, users)
            full = service.resident()
            settings.print(f"all states are in memory: {full / 1e6:,.0f} MB")
            waits, resident = [], []
            for window in range(settings.repeats):
                waits.append(
                    load_generator.run(
                        service.url,
                        lambda rng: _draw_request(rng, users),
                        per_second=PER_SECOND,
                        seconds=seconds,
                        seed=window,
                    )
                )
                resident.append(service.resident())
                settings.print(
                    f"{window + 1} of {settings.repeats}: {len(waits[-1]):,} requests, p99 "
                    f"{1e3 * statistics.quantiles(waits[-1], n=100)[-1]:.1f} ms, "
                    f"{resident[-1] / 1e6:,.0f} MB"
                )
    of = f"service of {ITEMS:,} items, {UNITS} + {UNITS} units, {users:,} users"
    load_note = (
        f"{PER_SECOND} requests a second at random moments from {load_generator.CONNECTIONS} "
        "connections: lists for users (45 %) and anonymous sessions (5 %), events of users (45 %) "
        f"and of anonymous sessions (5 %); a figure for each of {len(waits)} windows of "
        f"{seconds:g} s, one after the other"
    )
    p50, p99, p999 = (
        [statistics.quantiles(window, n=1000)[at] for window in waits] for at in (499, 989, 998)
    )
    in_the_end, first = resident[-1:], resident[:1]
    return {
        "start": Row(f"{of}: start to ready", starts[1:], limit=5),
        "start_cold": Row(f"{of}: start to ready, nothing compiled", starts[:1]),
        "p50": Row(f"{of}: wait, median", p50, notes=[load_note]),
        "p99": Row(f"{of}: wait, 99th percentile", p99, limit=0.025),
        "p999": Row(f"{of}: wait, 99.9th percentile", p999),
        "memory": Row(
            f"{of}: resident memory, all states cached",
            [full],
            unit="B",
            limit=1e9,
            notes=[f"{empty / 1e6:,.0f} MB before the first of them"],
        ),
        "growth": Row(
            f"{of}: resident memory in the end",
            in_the_end,
            first,
            "after the first window",
            1.05,
            unit="B",
        ),
    }


def _write_states(run: pathlib.Path, users: int) -> None:
    """Give each user a state, from a random history."""
    rng = np.random.default_rng(0)
    n = users * EVENTS_EACH
    history = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), EVENTS_EACH),
            "item_id": rng.integers(ITEMS, size=n),
            "ts": HISTORY_BEGINS + np.cumsum(rng.integers(1, 1_000, n)),
        }
    )
    with load_recommender(run) as recommender:
        recommender.bootstrap(history)


@contextlib.contextmanager
def _started(folder: pathlib.Path) -> Generator[Service]:
    """Start a service of the folder's run, and stop it at the end of the block."""
    begin = time.perf_counter()
    command = of_module("serve", f"--run={folder / 'run'}", "--port=0")
    with running(*command, cache=folder / "cache") as process:
        ready = wait_for(process, r"ready in .* at (http://[^\s,]+)")
        yield Service(ready[1], time.perf_counter() - begin, process)


def _load_all_states(service: Service, users: int) -> None:
    """Send an event of each user: their states are then in memory."""
    with contextlib.closing(connect(service.url)) as connection:
        for begin in range(0, users, EVENTS_PER_REQUEST):
            some = range(begin, min(begin + EVENTS_PER_REQUEST, users))
            events = [_event(random.Random(user), user) for user in some]
            send(connection, Request("POST", "/events", {"events": events}))


def _event(rng: random.Random, user: int) -> dict[str, object]:
    return {"user": user, "item": rng.randrange(ITEMS)}


def _draw_request(rng: random.Random, users: int) -> Request:
    user, session = rng.randrange(users), rng.randrange(users)
    kind = rng.random()
    if kind < 0.45:
        return Request("GET", f"/users/{user}/recommendations?k=10")
    if kind < 0.9:
        return Request("POST", "/events", _event(rng, user))
    if kind < 0.95:
        return Request("GET", f"/sessions/{session}/recommendations?k=10")
    return Request("POST", f"/sessions/{session}/events", {"item": rng.randrange(ITEMS)})
