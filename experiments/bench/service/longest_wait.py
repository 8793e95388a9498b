"""Rows of the benchmark about a client that holds up all others: how long another one waits.

The other sends the cheapest request, which the event loop answers alone, one after the other. Its
longest wait is the longest time in which the loop did nothing for it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent import futures
from urllib import parse

from hrnn_jax import errors
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import load_recommender

from .. import commands
from ..record import Row
from ..timing import Settings
from .steady_load import ITEMS, TRAINED_USERS, UNITS, Request, connect, send, started

LIMIT = 0.05  # seconds
IDLE_SESSIONS = 100_000
CLIENTS = 6  # that attack at once
HEADER_BYTES, PIECE = 80_000_000, 1_000_000
STALLED = 300  # connections
PAUSE = 0.001  # seconds between two requests of the one who waits
_QUIET_SECONDS = 1.0  # without an attack
_LEAST = 100  # requests of the one who waits, next to an attack and after it
_OTHER = "/of-no-route"
_JSON = "Content-Type: application/json\r\nContent-Length: {}\r\n"


def longest_waits(settings: Settings) -> Mapping[str, Row]:
    """Measure the longest wait of one client while others attack."""
    sessions = max(1_000, round(IDLE_SESSIONS * settings.scale))
    with settings.folder() as folder:
        commands.write_log(folder, TRAINED_USERS, ITEMS)
        commands.run(folder)
        rows = _of_attacks(settings, folder)
        rows["compiling"] = _beside_compiling(settings, folder)
        kept = _kept_sessions(folder, sessions)
        rows["forgetting"] = _beside_forgetting(settings, folder, kept, sessions)
        rows["reload"] = _beside_reload(settings, folder, kept, sessions)
    return rows


class Waits:
    """The waits of one client while a block runs."""

    def __init__(self, url: str):
        """Take the base address of the service."""
        self._url = url
        self._ends = threading.Event()
        self.longest = 0.0  # seconds
        self.n_requests = 0

    @contextlib.contextmanager
    def measured(self) -> Generator[None]:
        """Send requests until the end of the block, and `_LEAST` at least."""
        self.longest, self.n_requests = 0.0, 0
        self._ends.clear()
        with futures.ThreadPoolExecutor(1) as thread:
            measuring = thread.submit(self._measure)
            try:
                yield
            finally:
                self._ends.set()
                measuring.result()

    def _measure(self) -> None:
        with connect(self._url) as connection:
            while not self._ends.wait(PAUSE) or self.n_requests < _LEAST:
                begin = time.perf_counter()
                connection.request("GET", _OTHER)
                connection.getresponse().read()
                self.longest = max(self.longest, time.perf_counter() - begin)
                self.n_requests += 1


def _of_attacks(settings: Settings, folder: pathlib.Path) -> dict[str, Row]:
    """Measure the attacks on a service that has nothing else to do, in turns."""
    names = [*ATTACKS]
    longest: dict[str, list[float]] = {name: [] for name in ["quiet", *names]}
    with started(folder) as (_, url, _):
        _wait_until_compiled(url)
        _give_histories(url)
        waits = Waits(url)
        for turn in range(1, 1 + settings.repeats):
            with waits.measured():
                time.sleep(_QUIET_SECONDS)
            longest["quiet"].append(waits.longest)
            for name, (_, attack) in ATTACKS.items():
                with waits.measured():
                    attack(url)
                longest[name].append(waits.longest)
            settings.print(f"turn {turn} of {settings.repeats}")
    whats = {"quiet": "nothing"} | {name: what for name, (what, _) in ATTACKS.items()}
    return {name: _row(whats[name], values) for name, values in longest.items()}


def _beside_compiling(settings: Settings, folder: pathlib.Path) -> Row:
    """Measure the first requests of each width after a start with nothing compiled."""
    longest = []
    for turn in range(settings.long_repeats):
        cache = folder / f"cache_{turn}"
        with started(folder, cache=cache) as (_, url, _):
            waits = Waits(url)
            with waits.measured():
                _ask_all_widths(url)
            longest.append(waits.longest)
    return _row("the first requests of each width after a start, nothing compiled", longest)


def _kept_sessions(folder: pathlib.Path, sessions: int) -> pathlib.Path:
    """Write a state file with so many anonymous sessions."""
    kept = folder / "kept.sqlite"
    with load_recommender(folder / "run", states=kept) as recommender:
        for begin in range(0, sessions, 1_000):
            some = range(begin, min(begin + 1_000, sessions))
            recommender.observe_many([Event(n % ITEMS, session=n) for n in some])
    return kept


def _beside_forgetting(
    settings: Settings, folder: pathlib.Path, kept: pathlib.Path, sessions: int
) -> Row:
    """Measure the start of a service that has to delete idle sessions."""
    states = folder / "idle.sqlite"
    longest = []
    for _ in range(settings.long_repeats):
        shutil.copy(kept, states)
        with started(folder, f"--states={states}", "--keep_sessions_hours=0") as (_, url, _):
            waits = Waits(url)
            with waits.measured():
                while _health(url)["states"]:
                    time.sleep(0.1)
            longest.append(waits.longest)
    return _row(f"the deletion of {sessions:,} idle sessions", longest)


def _beside_reload(
    settings: Settings, folder: pathlib.Path, kept: pathlib.Path, sessions: int
) -> Row:
    """Measure a reload, which computes all states again and swaps them."""
    longest = []
    for turn in range(settings.long_repeats):
        # Each a file of its own: the service before may have left its -wal next to it.
        states = folder / f"reloaded_{turn}.sqlite"
        shutil.copy(kept, states)
        with started(folder, f"--states={states}") as (_, url, _):
            _wait_until_compiled(url)
            waits = Waits(url)
            with waits.measured():
                with connect(url) as connection:
                    send(connection, Request("/reload", {}))
                while (status := _health(url)["reload"]["status"]) != "done":
                    if status == "failed":
                        raise errors.InputError("the reload has failed")
                    time.sleep(0.1)
            longest.append(waits.longest)
    return _row(f"a reload of the weights and of {sessions:,} states", longest)


def _row(what: str, longest: list[float]) -> Row:
    least = f"{1e3 * min(longest):.1f} ms in the best turn"
    title = f"service of {ITEMS:,} items, {UNITS} + {UNITS} units: longest wait next to {what}"
    return Row(title, longest, limit=LIMIT, notes=[least])


def _ask_all_widths(url: str) -> None:
    several = [f"candidates={n}" for n in range(65)]
    with connect(url) as connection:
        for query in ("candidates=1", "k=200", "k=1000", "&".join(several), "exclude_seen=true"):
            send(connection, Request(f"/users/1/recommendations?{query}"))
    _wait_until_compiled(url)


def _wait_until_compiled(url: str) -> None:
    while not _health(url)["compiled"]:
        time.sleep(0.1)


def _health(url: str) -> dict:
    with connect(url) as connection:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())


def _give_histories(url: str) -> None:
    """Give a user 20 events, and another one as many as are kept."""
    with connect(url) as connection:
        for user, count in (("few", 20), ("many", 1_000)):
            events = [
                {"user": user, "item": n, "time": 1_600_000_000 + 60 * n} for n in range(count)
            ]
            send(connection, Request("/events", {"events": events}))


def _at_once(requests: list[bytes]) -> Callable[[str], None]:
    """Return an attack that sends each request on a connection of its own, and reads the answer."""

    def attack(url: str) -> None:
        with futures.ThreadPoolExecutor(len(requests)) as threads:
            list(threads.map(functools.partial(_exchange, url), requests))

    return attack


def _exchange(url: str, request: bytes) -> None:
    """Send a request and read the answer to its end."""
    with _socket(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request)  # it may be refused before it has been read
        while connection.recv(PIECE):
            pass


def _socket(url: str) -> socket.socket:
    to = parse.urlsplit(url)
    return socket.create_connection((to.hostname, to.port), timeout=60)


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _post(body: str) -> bytes:
    head = "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return (head + _JSON.format(len(body)) + "\r\n" + body).encode()


def _send_endless_header(url: str) -> None:
    with contextlib.suppress(ConnectionError), _socket(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(0, HEADER_BYTES, PIECE):
            connection.sendall(b"x" * PIECE)


def _stall(url: str) -> None:
    with contextlib.ExitStack() as stack:
        head = "POST /events HTTP/1.1\r\nHost: localhost\r\n" + _JSON.format(100) + "\r\n{"
        for _ in range(STALLED):
            stack.enter_context(_socket(url)).sendall(head.encode())
        time.sleep(_QUIET_SECONDS)


def _names(count: int) -> str:
    return "{" + ",".join(f'"{number:x}":1' for number in range(count)) + "}"


def _events(count: int) -> str:
    return json.dumps({"events": [{"user": n, "item": n % ITEMS} for n in range(count)]})


BODIES = {
    "names": _names(80_000),
    "lists": "[" + "[]," * 349_000 + "1]",
    "numbers": "[" + "1," * 520_000 + "1]",
    "events": _events(1_000),
}
ATTACKS: Mapping[str, tuple[str, Callable[[str], None]]] = {
    "history": (
        f"{CLIENTS} histories of 1,000 events with 20 recommendations each",
        _at_once([_get("/users/many/history?sessions=1000&k=20")] * CLIENTS),
    ),
    "history_k": (
        f"{CLIENTS} histories of 20 events with 1,000 recommendations each",
        _at_once([_get("/users/few/history?sessions=1000&k=1000")] * CLIENTS),
    ),
    "header": ("a header of 80 MB", _send_endless_header),
    "stalled": (f"{STALLED} bodies that do not come to their end", _stall),
    "names": ("a body of 80,000 unknown names", _at_once([_post(BODIES["names"])])),
    "lists": ("a body of 1 MiB of lists", _at_once([_post(BODIES["lists"])])),
    "numbers": ("a body of 1 MiB of numbers", _at_once([_post(BODIES["numbers"])])),
    "events": (
        f"{CLIENTS} bodies of 1,000 events",
        _at_once([_post(BODIES["events"])] * CLIENTS),
    ),
    "items": (
        f"{CLIENTS} searches for the prefix of no item",
        _at_once([_get("/items?prefix=none")] * CLIENTS),
    ),
}
