"""What the benchmark measures of the service: start, memory, and how long its users wait."""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax.live.recommender import load as load_run

from ..common import machine
from ..common.package import module
from ..jobs import pool
from . import children, commands, load
from .load import Question
from .measures import Found, Row, Settings

ITEMS, UNITS, USERS = 60_000, 100, 100_000
TRAINED_USERS = 1_500  # with more training events than items
EVENTS_EACH = 5  # of a user's past
PER_SECOND = 100
WINDOW_SECONDS = 60
KNOWN = 1_600_000_000  # Unix seconds at which the past begins
_TOGETHER = 1_000  # events of a request that brings users into memory


class Service(NamedTuple):
    """A service that is ready."""

    url: str
    seconds: float  # from the start of its process

    def resident(self) -> float:
        """Return its resident memory in bytes."""
        with contextlib.closing(load.Client(self.url)) as client:
            figures = client.ask(Question("GET", "/metrics")).decode()
        found = re.search(r"^process_resident_memory_bytes (\S+)", figures, re.MULTILINE)
        assert found is not None
        return float(found[1])


def serving(settings: Settings) -> Found:
    """Measure a service of many users: start, resident memory, the wait at a steady load."""
    users = max(100, round(USERS * settings.scale))
    seconds = max(2.0, WINDOW_SECONDS * min(1, settings.scale))
    with children.scratch(settings.scratch) as folder:
        commands.write_log(folder, TRAINED_USERS, ITEMS)
        commands.run(folder, folder / "run")
        _write_states(folder / "run", users)
        settings.say(f"{users:,} users have a state")
        starts = []
        for _ in range(1 + settings.long_repeats):  # the first fills the compilation cache
            with _started(folder) as service:
                starts.append(service.seconds)
        with _started(folder) as service:
            alone = service.resident()
            with contextlib.closing(load.Client(service.url)) as client:
                for begin in range(0, users, _TOGETHER):
                    some = range(begin, min(begin + _TOGETHER, users))
                    events = [_event(random.Random(user), user) for user in some]
                    client.ask(Question("POST", "/events", {"events": events}))
            full = service.resident()
            settings.say(f"all states are in memory: {full / 1e6:,.0f} MB")

            def draw(rng: random.Random) -> Question:
                return _question(rng, users)

            waits, resident = [], []
            for window in range(settings.repeats):
                waits.append(
                    load.run(service.url, draw, per_second=PER_SECOND, seconds=seconds, seed=window)
                )
                resident.append(service.resident())
                slow = statistics.quantiles(waits[-1], n=100)[-1]
                settings.say(
                    f"{window + 1} of {settings.repeats}: {len(waits[-1]):,} requests, p99 "
                    f"{1e3 * slow:.1f} ms, {resident[-1] / 1e6:,.0f} MB"
                )
    of = f"service of {ITEMS:,} items, {UNITS} + {UNITS} units, {users:,} users"
    each = f"a figure for each of {len(waits)} windows of {seconds:g} s, one after the other"
    mixed = (
        f"{PER_SECOND} requests a second at random moments from {load.CLIENTS} connections: lists "
        "for users (45 %) and anonymous sessions (5 %), events of users (45 %) and of anonymous "
        f"sessions (5 %); {each}"
    )
    quantiles = [statistics.quantiles(some, n=1000) for some in waits]
    return {
        "start": Row(f"{of}: start to ready", "s", starts[1:], limit=5),
        "start_cold": Row(f"{of}: start to ready, nothing compiled", "s", starts[:1]),
        "p50": Row(f"{of}: wait, median", "s", [q[499] for q in quantiles], notes=[mixed]),
        "p99": Row(f"{of}: wait, 99th percentile", "s", [q[989] for q in quantiles], limit=0.025),
        "p999": Row(f"{of}: wait, 99.9th percentile", "s", [q[998] for q in quantiles]),
        "memory": Row(
            f"{of}: resident memory, all states cached",
            "B",
            [full],
            limit=1e9,
            notes=[f"{alone / 1e6:,.0f} MB before the first of them"],
        ),
        "growth": Row(
            f"{of}: resident memory in the end",
            "B",
            resident[-1:],
            resident[:1],
            "after the first window",
            1.05,
        ),
    }


def _write_states(run: pathlib.Path, users: int) -> None:
    """Take in a drawn past of so many users."""
    rng = np.random.default_rng(0)
    n = users * EVENTS_EACH
    past = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), EVENTS_EACH),
            "item_id": rng.integers(ITEMS, size=n),
            "ts": KNOWN + np.cumsum(rng.integers(1, 1_000, n)),
        }
    )
    with load_run(run) as recommender:
        recommender.bootstrap(past)


@contextlib.contextmanager
def _started(folder: pathlib.Path) -> Iterator[Service]:
    """Start a service of the run, and stop it in the end."""
    begun = time.time()
    command = [
        *(sys.executable, "-m", module("serve"), f"--run={folder / 'run'}", "--port=0"),
        f"--compilation_cache={folder / 'cache'}",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=pool.environment(machine.cores()),
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if ready := re.search(r"ready in .* at (http://\S+)", line):
                break
        else:
            raise errors.InputError(f"the service did not start: {line.strip()}")
        yield Service(ready[1].rstrip(","), time.time() - begun)
    finally:
        process.terminate()
        process.wait()


def _event(rng: random.Random, user: int) -> dict[str, object]:
    return {"user": user, "item": rng.randrange(ITEMS)}


def _question(rng: random.Random, users: int) -> Question:
    user, session = rng.randrange(users), rng.randrange(users)
    kind = rng.random()
    if kind < 0.45:
        return Question("GET", f"/users/{user}/recommendations?k=10")
    if kind < 0.9:
        return Question("POST", "/events", _event(rng, user))
    if kind < 0.95:
        return Question("GET", f"/sessions/{session}/recommendations?k=10")
    return Question("POST", f"/sessions/{session}/events", {"item": rng.randrange(ITEMS)})
