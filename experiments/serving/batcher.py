"""Requests that arrive together share one step of the network.

One thread does all the work. While it is at it, requests queue; it then takes in all that queued,
the events by one call and the lists to recommend by another. Nobody waits for others to come.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hrnn_jax import errors
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.events import Event, Outcome
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.requests import Request

MOST_TOGETHER = 1_024  # events and lists of a batch, but for a single larger request
MOST_WAITING = 16_384  # ... that may wait, some seconds of work; more are turned away


class BusyError(Exception):
    """So much is waiting that more would only wait longer."""


class _Job(NamedTuple):
    answer: Callable[[list[Any]], Sequence[Any]]  # of jobs together, an answer for each
    asked: Any
    weight: int  # events or lists
    future: asyncio.Future[Any]


class Batcher:
    """A recommender for coroutines.

    on_batch: called in the thread with the kind, "events" or "lists", and the number of each batch.
    """

    def __init__(self, recommender: Recommender, on_batch: Callable[[str, int], object]):
        self.recommender = recommender
        self._on_batch = on_batch
        self._jobs: collections.deque[_Job] = collections.deque()
        self._waiting = 0  # the weight of the jobs
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer all that waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def observe(self, events: Sequence[Event]) -> list[Outcome]:
        """Take in a client's events, all or none; raises as `Recommender.observe_many`."""
        return await self._queue(self._observe, events, len(events))

    async def recommend(self, request: Request) -> list[tuple[Id, float]]:
        """Recommend once; raises as `Recommender.recommend_many`."""
        return await self._queue(self._recommend, request, 1)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what is neither, in its turn."""
        return await self._queue(_call, (function, arguments), 0)

    def _queue(
        self, answer: Callable[[list[Any]], Sequence[Any]], asked: Any, weight: int
    ) -> asyncio.Future[Any]:
        job = _Job(answer, asked, weight, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._waiting and self._waiting + weight > MOST_WAITING:
                raise BusyError(f"{self._waiting} events and lists are waiting: try again later")
            self._waiting += weight
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while jobs := self._take():
            # Events first: a list that is asked for beside them may as well know of them.
            for answer in (self._observe, self._recommend):
                if alike := [job for job in jobs if job.answer == answer]:
                    _answer(answer, alike)
            for job in jobs:
                if job.answer is _call:
                    _answer(_call, [job])

    def _take(self) -> list[_Job]:
        """Wait for jobs and take all that fit into a batch; none once closed."""
        taken: list[_Job] = []
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            room = MOST_TOGETHER
            while self._jobs and (not taken or self._jobs[0].weight <= room):
                job = self._jobs.popleft()
                room -= job.weight
                self._waiting -= job.weight
                taken.append(job)
        return taken

    def _observe(self, asked: list[Sequence[Event]]) -> list[list[Outcome]]:
        events = [event for some in asked for event in some]
        self._on_batch("events", len(events))
        outcomes = iter(self.recommender.observe_many(events))
        return [list(itertools.islice(outcomes, len(some))) for some in asked]

    def _recommend(self, asked: list[Request]) -> list[list[tuple[Id, float]]]:
        self._on_batch("lists", len(asked))
        return self.recommender.recommend_many(asked)


def _call(asked: list[tuple[Callable[..., Any], tuple]]) -> list[Any]:
    [(function, arguments)] = asked
    return [function(*arguments)]


def _answer(answer: Callable[[list[Any]], Sequence[Any]], jobs: list[_Job]) -> None:
    """Answer jobs together; where one of them is at fault, one at a time."""
    try:
        answers = answer([job.asked for job in jobs])
    except (errors.InputError, errors.StorageError) as error:
        if len(jobs) > 1:
            for job in jobs:
                _answer(answer, [job])
            return
        answers = [error]
    except Exception as error:  # whatever it is, who asked hears of it and the thread goes on
        answers = [error] * len(jobs)
    settled = zip([job.future for job in jobs], answers, strict=True)
    for loop, some in itertools.groupby(settled, key=lambda pair: pair[0].get_loop()):
        with contextlib.suppress(RuntimeError):  # the loop has ended, and who asked with it
            loop.call_soon_threadsafe(_settle, list(some))


def _settle(settled: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in settled:
        if future.done():  # cancelled: who asked has gone
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
