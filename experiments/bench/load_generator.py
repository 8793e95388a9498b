"""A load generator: HTTP requests at a given mean rate, and how long each had to wait."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib import parse

from hrnn_jax import errors

CONNECTIONS = 16  # each kept open by a thread that sends its requests one after the other


class Request(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    body: Any = None  # sent as JSON


def connect(url: str) -> http.client.HTTPConnection:
    """Return a connection to the service at a base address."""
    return http.client.HTTPConnection(parse.urlsplit(url).netloc, timeout=60)


def send(connection: http.client.HTTPConnection, request: Request) -> bytes:
    """Send a request and return the body of its response.

    Raises:
        InputError: The status is not one of success.
    """
    body = None if request.body is None else json.dumps(request.body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(request.method, request.path, body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status >= 300:
        raise errors.InputError(f"{request.path}: {response.status} {content[:200]!r}")
    return content


def run(
    url: str,
    draw: Callable[[random.Random], Request],
    *,
    per_second: float,
    seconds: float,
    seed: int = 0,
) -> Sequence[float]:
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
        with contextlib.closing(connect(url)) as connection:
            while (due := due + rng.expovariate(per_second / CONNECTIONS)) < begin + seconds:
                request = draw(rng)
                time.sleep(max(0, due - time.perf_counter()))
                send(connection, request)
                waits.append(time.perf_counter() - due)
        return waits

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as clients:
        return [wait for waits in clients.map(client, range(CONNECTIONS)) for wait in waits]
