"""Ask a service for things at a given rate, and tell how long it took to answer each."""

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

CLIENTS = 16  # connections kept open, each a thread that asks in its turn


class Question(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    body: Any = None  # sent as JSON


class Client:
    """One connection to a service."""

    def __init__(self, url: str):
        self._connection = http.client.HTTPConnection(parse.urlsplit(url).netloc, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, question: Question) -> bytes:
        """Return the answer. Raises InputError where it is none of success."""
        body = None if question.body is None else json.dumps(question.body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(question.method, question.path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise errors.InputError(f"{question.path}: {answer.status} {content[:200]!r}")
        return content


def run(
    url: str,
    draw: Callable[[random.Random], Question],
    *,
    per_second: float,
    seconds: float,
    seed: int = 0,
) -> Sequence[float]:
    """Ask what `draw` draws, at random moments, for so long; return how long each took.

    From the moment when it was to be asked: if answers are late, what waits behind them counts.
    """

    def client(number: int) -> list[float]:
        rng = random.Random(f"{seed} {number}")
        taken, due = [], begun
        with contextlib.closing(Client(url)) as connection:
            while (due := due + rng.expovariate(per_second / CLIENTS)) < begun + seconds:
                question = draw(rng)
                time.sleep(max(0, due - time.perf_counter()))
                connection.ask(question)
                taken.append(time.perf_counter() - due)
        return taken

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        return [each for some in clients.map(client, range(CLIENTS)) for each in some]
