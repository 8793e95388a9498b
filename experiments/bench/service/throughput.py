"""Rows of the benchmark about how many requests the service answers in a second.

The clients are a few connections of one event loop, which cost a tenth of what the service does.
Each sends its next request once it has the answer to the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple, cast
from urllib import parse

from hrnn_jax import errors

from .. import commands
from ..record import Row
from ..timing import Settings
from .steady_load import (
    ITEMS,
    TRAINED_USERS,
    UNITS,
    USERS,
    Request,
    draw_request,
    send_event_of_each,
    started,
)

CLIENTS = 5
WINDOW_SECONDS = 10
LEAST_RATE, LONGEST_WAIT = 1_000, 0.007  # what bol.com's Serenade answers on two virtual cores
SYNCS, SYNCED_BYTES = 200, 8_192
_MEMORY = pathlib.Path("/dev/shm")  # a file system without a disk


class Load(NamedTuple):
    """What a window of requests was."""

    per_second: float
    waits: list[float]  # of each request, in seconds


def throughput(settings: Settings) -> Mapping[str, Row]:
    """Measure requests a second and their waits, with the state file on disk and in memory."""
    rows: dict[str, Row] = {}
    with settings.folder() as folder:
        commands.write_log(folder, TRAINED_USERS, ITEMS)
        commands.run(folder)
        rows |= _measured(settings, folder, folder, "")
        if _MEMORY.is_dir():
            with tempfile.TemporaryDirectory(dir=_MEMORY) as memory:
                rows |= _measured(settings, folder, pathlib.Path(memory), "_memory")
    return rows


def _measured(
    settings: Settings, folder: pathlib.Path, states: pathlib.Path, suffix: str
) -> dict[str, Row]:
    """Measure windows of a service whose state file is in a folder."""
    users = max(100, round(USERS * settings.scale))
    seconds = max(1.0, WINDOW_SECONDS * min(1, settings.scale))
    loads, syncs = [], []
    with started(folder, f"--states={states / 'states.sqlite'}") as (_, url, _):
        send_event_of_each(url, users)
        for window in range(1 + settings.repeats):  # the first one warms up
            syncs.append(_sync_seconds(states))
            loads.append(
                send_in_turn(
                    url,
                    lambda rng: draw_request(rng, users),
                    clients=CLIENTS,
                    seconds=seconds,
                    seed=window,
                )
            )
            settings.print(
                f"{window} of {settings.repeats}: {loads[-1].per_second:,.0f} requests/s, p90 "
                f"{1e3 * _percentile(loads[-1].waits, 90):.1f} ms, a sync {1e3 * syncs[-1]:.2f} ms"
            )
    where = "on disk" if not suffix else "in memory, not synced to a disk"
    of = f"service of {ITEMS:,} items, {UNITS} + {UNITS} units, state file {where}"
    note = (
        f"{CLIENTS} clients, each of which sends the next request once it has the answer: lists "
        "for users (45 %) and anonymous sessions (5 %), events of users (45 %) and of anonymous "
        f"sessions (5 %); windows of {seconds:g} s, the clients on the same cores; a sync of "
        f"{SYNCED_BYTES // 1024} KiB by itself, before each window, took "
        f"{1e3 * statistics.median(syncs[1:]):.2f} ms"
    )
    rates, (p50, p90, p99) = (
        [load.per_second for load in loads[1:]],
        ([_percentile(load.waits, n) for load in loads[1:]] for n in (50, 90, 99)),
    )
    limits = (LEAST_RATE, LONGEST_WAIT) if not suffix else (None, None)
    return {
        f"rate{suffix}": Row(
            f"{of}: mixed requests",
            rates,
            limit=limits[0],
            unit="requests/s",
            at_least=True,
            notes=[note],
        ),
        f"p50{suffix}": Row(f"{of}: wait, median", p50),
        f"p90{suffix}": Row(f"{of}: wait, 90th percentile", p90, limit=limits[1]),
        f"p99{suffix}": Row(f"{of}: wait, 99th percentile", p99),
    }


def send_in_turn(
    url: str,
    draw: Callable[[random.Random], Request],
    *,
    clients: int,
    seconds: float,
    seed: int = 0,
) -> Load:
    """Send requests over several connections, each the next one after an answer.

    Args:
        url: Base address of the service.
        draw: Draws a request.
        clients: Number of connections.
        seconds: How long to send requests.
        seed: Seed of the requests.

    Raises:
        InputError: An answer has not status 200, or a connection is lost.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_send_all(url, draw, clients, seconds, seed))


async def _send_all(
    url: str, draw: Callable[[random.Random], Request], clients: int, seconds: float, seed: int
) -> Load:
    to, loop = parse.urlsplit(url), asyncio.get_running_loop()
    begin = time.perf_counter()
    made = [
        _Client(random.Random(f"{seed} {number}"), draw, begin + seconds)
        for number in range(clients)
    ]
    try:
        for client in made:
            await loop.create_connection(
                lambda client=client: client, to.hostname or "", to.port or 0
            )
        await asyncio.gather(*(client.done for client in made))
    finally:  # uvloop does not end before its connections
        for client in made:
            client.close()
    waits = [wait for client in made for wait in client.waits]
    return Load(len(waits) / (time.perf_counter() - begin), waits)


class _Client(asyncio.Protocol):
    """A connection that sends requests until its time is over."""

    def __init__(self, rng: random.Random, draw: Callable[[random.Random], Request], end: float):
        self._rng, self._draw, self._end = rng, draw, end
        self._answer = b""
        self._request, self._sent = Request(""), 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.waits: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request once the answer is whole."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._fail(f"{self._request.path}: {self._answer[:300]!r}")
        elif len(body) == int(head.lower().partition(b"\ncontent-length:")[2].partition(b"\r")[0]):
            self.waits.append(time.perf_counter() - self._sent)
            self._answer = b""
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with an error, if the service has closed the connection."""
        self._fail(f"the service has closed a connection ({exc})")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._transport:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        if time.perf_counter() >= self._end:
            if not self.done.done():
                self.done.set_result(None)
            return
        self._request = self._draw(self._rng)
        content = _bytes(self._request)
        self._sent = time.perf_counter()
        self._transport.write(content)

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(errors.InputError(reason))


def _bytes(request: Request) -> bytes:
    if request.body is None:
        return f"GET {request.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body = json.dumps(request.body)
    return (
        f"POST {request.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):  # there is none for Windows
        import uvloop

        return uvloop.new_event_loop
    return None


def _percentile(waits: list[float], percent: int) -> float:
    return statistics.quantiles(waits, n=100)[percent - 1]


def _sync_seconds(folder: pathlib.Path) -> float:
    """Return how long it takes to sync a few kB to a file in a folder, the median of many times."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return statistics.median(_syncs(file.fileno()))


def _syncs(descriptor: int) -> Generator[float]:
    for _ in range(SYNCS):
        os.write(descriptor, bytes(SYNCED_BYTES))
        begin = time.perf_counter()
        os.fsync(descriptor)
        yield time.perf_counter() - begin
