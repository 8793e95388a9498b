"""Requests that arrive together share a step of the network, and a commit.

One thread observes events, another one makes lists, so that a list does not wait while the disk is
synced. Requests queue while their thread is busy. It then takes all queued requests in one call: a
call of a few costs little more than a call of one. After a call of several requests it waits for as
many, for a thousandth of a second at most, as the clients that have just got their answers send the
next ones. It does not wait after a single request, nor where the last call was earlier.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hrnn_jax.errors import InputError, StorageError
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.events import Event, Outcome, Request
from hrnn_jax.live.recommender import Recommender

from .operation.prometheus import ServiceMetrics

MAX_BATCH = 1_024  # events or lists; a single larger request is a batch of its own
MAX_WAITING = 16_384  # events or lists that may queue, some seconds of work
PAUSE = 0.001  # seconds after a batch of several requests, for the next ones of these clients
_Run = Callable[[list[Any]], Sequence[Any]]  # from requests to a result for each


class BusyError(Exception):
    """The queue is full."""


class _Job(NamedTuple):
    run: _Run
    request: Any
    size: int  # events or lists
    future: asyncio.Future[Any]


class _Worker:
    """A thread and the jobs that wait for it."""

    def __init__(self, name: str, kind: str):
        """Start the thread; `kind` is what it makes, in words."""
        self._kind = kind
        self._jobs: collections.deque[_Job] = collections.deque()
        self._taken = 0  # jobs that were taken last
        self._waiting = 0  # total size of the jobs
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the queued jobs and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def put(self, run: _Run, request: Any, size: int) -> asyncio.Future[Any]:
        """Queue a job; the future, of the running event loop, gets its result."""
        job = _Job(run, request, size, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._waiting and self._waiting + size > MAX_WAITING:
                raise BusyError(f"{self._waiting} {self._kind} are waiting: try again later")
            self._waiting += size
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while taken := self._take():
            # A request is cancelled if its client has left.
            jobs = [job for job in taken if not job.future.cancelled()]
            _finish([job for job in jobs if job.run is not _call])
            for job in jobs:
                if job.run is _call:
                    _finish([job])

    def _take(self) -> list[_Job]:
        """Wait for jobs and take those that fit into a batch; none once closed."""
        taken: list[_Job] = []
        end = time.monotonic() + PAUSE
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._taken > 1:
                self._changed.wait_for(
                    lambda: len(self._jobs) >= self._taken or self._closed,
                    max(0, end - time.monotonic()),
                )
            room = MAX_BATCH
            while self._jobs and (not taken or self._jobs[0].size <= room):
                job = self._jobs.popleft()
                room -= job.size
                self._waiting -= job.size
                taken.append(job)
            self._taken = len(taken)
        return taken


class Batcher:
    """A recommender for coroutines."""

    def __init__(self, recommender: Recommender, metrics: ServiceMetrics):
        """Start the threads.

        Args:
            recommender: does the work. `close` leaves it open.
            metrics: get the size of each batch.
        """
        self.recommender = recommender
        self._metrics = metrics
        self._events = _Worker("events", "events")
        self._lists = _Worker("lists", "lists")

    def close(self) -> None:
        """Finish the queued requests and end the threads."""
        self._events.close()
        self._lists.close()

    async def observe(self, events: Sequence[Event]) -> list[Outcome]:
        """Observe the events of one request, all or none; see `Recommender.observe_many`.

        Args:
            events: of one client, in order.

        Returns:
            The outcome of each event.

        Raises:
            InputError: an event is invalid.
            StorageError: the state file cannot be written.
            BusyError: too many requests are waiting.
        """
        return await self._queue(self._events, self._observe, events, len(events))

    async def recommend(self, request: Request) -> list[tuple[Id, float]]:
        """Recommend items; see `Recommender.recommend_many`.

        Args:
            request: of one client.

        Returns:
            Items and their scores, best first.

        Raises:
            InputError: the request is invalid.
            StorageError: the state file cannot be read.
            BusyError: too many requests are waiting.
        """
        return await self._queue(self._lists, self._recommend, request, 1)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call another function in the thread of events, after those queued before it."""
        return await self._queue(self._events, _call, (function, arguments), 0)

    def _queue(self, worker: _Worker, run: _Run, request: Any, size: int) -> asyncio.Future[Any]:
        return worker.put(run, request, size)

    def _observe(self, requests: list[Sequence[Event]]) -> list[list[Outcome]]:
        events = list(itertools.chain.from_iterable(requests))
        self._metrics.batches.labels("events").observe(len(events))
        outcomes = iter(self.recommender.observe_many(events))
        return [[next(outcomes) for _ in request] for request in requests]

    def _recommend(self, requests: list[Request]) -> list[list[tuple[Id, float]]]:
        self._metrics.batches.labels("lists").observe(len(requests))
        return self.recommender.recommend_many(requests)


def _call(requests: list[tuple[Callable[..., Any], tuple]]) -> list[Any]:
    return [function(*arguments) for function, arguments in requests]


def _finish(jobs: list[_Job]) -> None:
    """Run jobs of one kind together; if one of them is invalid, one at a time."""
    if not jobs:
        return
    try:
        results = jobs[0].run([job.request for job in jobs])
    except Exception as error:  # the clients get it, and the thread goes on
        if len(jobs) > 1 and isinstance(error, InputError | StorageError):
            for job in jobs:
                _finish([job])
            return
        _answer([(job.future, None, error) for job in jobs])
    else:
        _answer([(job.future, each, None) for job, each in zip(jobs, results, strict=True)])


def _answer(answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    """Give the futures their results, those of an event loop at once: to wake it costs time."""
    by_loop = itertools.groupby(answers, key=lambda answer: answer[0].get_loop())
    for loop, group in by_loop:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its clients have left
            loop.call_soon_threadsafe(_set_results, list(group))


def _set_results(answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, result, error in answers:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
