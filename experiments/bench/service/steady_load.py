"""Rows of the benchmark about the service: its start, its memory and how long its users wait."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import random
import statistics
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple
from urllib import parse

import psutil

from hrnn_jax import errors

from .. import commands
from ..process import of_module, running, wait_for
from ..record import Row
from ..timing import Settings

ITEMS, UNITS, USERS = 60_000, 100, 100_000
TRAINED_USERS = 1_500  # with more training events than items
FIRST_SESSIONS = 1_600_000_000  # when each user has one event, Unix seconds
PER_SECOND = 100  # requests
CONNECTIONS = 16  # each kept open by a thread that sends its requests one after the other
WINDOW_SECONDS = 60
EVENTS_PER_REQUEST = 1_000  # of a request that gives users a state


def serving(settings: Settings) -> Mapping[str, Row]:
    """Measure a service of many users: start, resident memory, and the wait at a steady load."""
    users = max(100, round(USERS * settings.scale))
    seconds = max(2.0, WINDOW_SECONDS * min(1, settings.scale))
    starts: list[float] = []
    waits: list[list[float]] = []
    resident: list[int] = []
    with settings.folder() as folder:
        commands.write_log(folder, TRAINED_USERS, ITEMS)
        commands.run(folder)
        for number in range(1 + settings.long_repeats):
            with started(folder) as (_, url, start):
                starts.append(start)
                if number == 0:  # the first one also fills the compilation cache
                    send_event_of_each(url, users, at=FIRST_SESSIONS)
                    settings.print(f"{users:,} users have a state")
        with started(folder) as (process, url, _):
            empty = process.memory_info().rss
            send_event_of_each(url, users)  # the state of each is then in memory
            full = process.memory_info().rss
            settings.print(f"all states are in memory: {full / 1e6:,.0f} MB")
            for window in range(settings.repeats):
                load = send_at_random(
                    url,
                    lambda rng: draw_request(rng, users),
                    per_second=PER_SECOND,
                    seconds=seconds,
                    seed=window,
                )
                # The waits of a window that 1, 2, ... of 1,000 requests do not exceed.
                waits.append(statistics.quantiles(load, n=1000))
                resident.append(process.memory_info().rss)
                settings.print(
                    f"{window + 1} of {settings.repeats}: {len(load):,} requests, p99 "
                    f"{1e3 * waits[-1][989]:.1f} ms, {resident[-1] / 1e6:,.0f} MB"
                )
    load_note = (
        f"{PER_SECOND} requests a second at random moments from {CONNECTIONS} connections: lists "
        "for users (45 %) and anonymous sessions (5 %), events of users (45 %) and of anonymous "
        f"sessions (5 %); a figure for each of {len(waits)} windows of {seconds:g} s, one after "
        "the other"
    )
    p50, p99, p999 = ([window[at] for window in waits] for at in (499, 989, 998))
    cached = [f"{empty / 1e6:,.0f} MB before the first of them"]
    of = f"service of {ITEMS:,} items, {UNITS} + {UNITS} units, {users:,} users"
    wait, memory = f"{of}: wait", f"{of}: resident memory"
    first, last = resident[:1], resident[-1:]
    return {
        "start": Row(f"{of}: start to ready", starts[1:], limit=5),
        "start_cold": Row(f"{of}: start to ready, nothing compiled", starts[:1]),
        "p50": Row(f"{wait}, median", p50, notes=[load_note]),
        "p99": Row(f"{wait}, 99th percentile", p99, limit=0.025),
        "p999": Row(f"{wait}, 99.9th percentile", p999),
        "memory": Row(f"{memory}, all states cached", [full], unit="B", limit=1e9, notes=cached),
        "growth": Row(
            f"{memory} in the end", last, first, "after the first window", 1.05, unit="B"
        ),
    }


@contextlib.contextmanager
def started(
    folder: pathlib.Path, *flags: str, cache: pathlib.Path | None = None
) -> Generator[tuple[psutil.Popen, str, float]]:
    """Start a service of the folder's run, and stop it at the end of the block.

    Args:
        folder: Its run is `run` in it.
        flags: Of the service.
        cache: The folder of compiled programs, by default `cache` in the folder.

    Yields:
        Its process, its base address, and the seconds from the start to ready.
    """
    begin = time.perf_counter()
    command = of_module("serve", f"--run={folder / 'run'}", "--port=0", *flags)
    with running(*command, cache=cache or folder / "cache") as process:
        ready = wait_for(process, "ready in .* at http://")
        url = ready.partition(" at ")[2].partition(",")[0]
        yield process, url, time.perf_counter() - begin


def send_event_of_each(url: str, users: int, at: int | None = None) -> None:
    """Send an event of each user, at a Unix time or now."""
    with connect(url) as connection:
        for begin in range(0, users, EVENTS_PER_REQUEST):
            some = range(users)[begin : begin + EVENTS_PER_REQUEST]
            events = [_event(random.Random(user), user) | {"time": at} for user in some]
            send(connection, Request("/events", {"events": events}))


def _event(rng: random.Random, user: int) -> dict[str, object]:
    return {"user": user, "item": rng.randrange(ITEMS)}


def draw_request(rng: random.Random, users: int) -> Request:
    """Draw a request for a list or with an event, of one of so many users or sessions."""
    user, session = rng.randrange(users), rng.randrange(users)
    kind = rng.random()
    if kind < 0.45:
        return Request(f"/users/{user}/recommendations?k=10")
    if kind < 0.9:
        return Request("/events", _event(rng, user))
    if kind < 0.95:
        return Request(f"/sessions/{session}/recommendations?k=10")
    return Request(f"/sessions/{session}/events", {"item": rng.randrange(ITEMS)})


class Request(NamedTuple):
    """An HTTP request: POST with a body, GET without."""

    path: str
    body: Any = None  # sent as JSON


def connect(url: str) -> contextlib.closing[http.client.HTTPConnection]:
    """Return a connection to the service at a base address, closed at the end of a block."""
    return contextlib.closing(http.client.HTTPConnection(parse.urlsplit(url).netloc, timeout=60))


def send(connection: http.client.HTTPConnection, request: Request) -> None:
    """Send a request and read its response.

    Raises:
        InputError: The status is not one of success.
    """
    if request.body is None:
        connection.request("GET", request.path)
    else:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", request.path, json.dumps(request.body), headers)
    response = connection.getresponse()
    content = response.read()
    if response.status >= 300:
        raise errors.InputError(f"{request.path}: {response.status} {content[:200]!r}")


def send_at_random(
    url: str,
    draw: Callable[[random.Random], Request],
    *,
    per_second: float,
    seconds: float,
    seed: int = 0,
) -> list[float]:
    """Send requests at random moments over several connections.

    Args:
        url: Base address of the service.
        draw: Draws a request.
        per_second: Mean number of requests a second.
        seconds: How long to send requests.
        seed: Seed of the moments and requests.

    Returns:
        The wait for each response in seconds, from the moment when the request was due: if a
        response is late, the wait of the requests behind it counts.
    """

    def client(number: int) -> list[float]:
        rng = random.Random(f"{seed} {number}")
        waits, due = [], begin
        with connect(url) as connection:
            while (due := due + rng.expovariate(per_second / CONNECTIONS)) < begin + seconds:
                request = draw(rng)
                time.sleep(max(0, due - time.perf_counter()))
                send(connection, request)
                waits.append(time.perf_counter() - due)
        return waits

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as clients:
        return [wait for waits in clients.map(client, range(CONNECTIONS)) for wait in waits]
