"""Requests that arrive together share one step of the network.

One thread does all the work. Requests queue while it is busy. It then takes all queued requests:
first their events in one call, then their lists in another. It never waits for more requests.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

from hrnn_jax.errors import InputError, StorageError
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.events import Event, Outcome, Request
from hrnn_jax.live.recommender import Recommender

from .prometheus import ServiceMetrics

MAX_BATCH = 1_024  # events and lists; a single larger request is a batch of its own
MAX_WAITING = 16_384  # events and lists that may queue, some seconds of work


class BusyError(Exception):
    """The queue is full."""


class _Job(NamedTuple):
    run: Callable[[list[Any]], Sequence[Any]]  # from requests to a result for each
    request: Any
    size: int  # events or lists
    future: futures.Future[Any]


class Batcher:
    """A recommender for coroutines."""

    def __init__(self, recommender: Recommender, metrics: ServiceMetrics):
        """Start the thread.

        Args:
            recommender: does the work. `close` leaves it open.
            metrics: get the size of each batch.
        """
        self.recommender = recommender
        self._metrics = metrics
        self._jobs: collections.deque[_Job] = collections.deque()
        self._waiting = 0  # total size of the jobs
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the queued requests and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

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
        return await self._queue(self._observe, events, len(events))

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
        return await self._queue(self._recommend, request, 1)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call another function in the thread, after the batches queued before it."""
        return await self._queue(_call, (function, arguments), 0)

    def _queue(
        self, run: Callable[[list[Any]], Sequence[Any]], request: Any, size: int
    ) -> asyncio.Future[Any]:
        job = _Job(run, request, size, futures.Future())
        with self._changed:
            if self._waiting and self._waiting + size > MAX_WAITING:
                raise BusyError(f"{self._waiting} events and lists are waiting: try again later")
            self._waiting += size
            self._jobs.append(job)
            self._changed.notify()
        return asyncio.wrap_future(job.future)

    def _work(self) -> None:
        while taken := self._take():
            # A request is cancelled if its client has left.
            jobs = [job for job in taken if job.future.set_running_or_notify_cancel()]
            # Events first, so that the lists of the same batch are up to date.
            for run in (self._observe, self._recommend):
                if batch := [job for job in jobs if job.run == run]:
                    _finish(batch)
            for job in jobs:
                if job.run is _call:
                    _finish([job])

    def _take(self) -> list[_Job]:
        """Wait for jobs and take those that fit into a batch; none once closed."""
        taken: list[_Job] = []
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            room = MAX_BATCH
            while self._jobs and (not taken or self._jobs[0].size <= room):
                job = self._jobs.popleft()
                room -= job.size
                self._waiting -= job.size
                taken.append(job)
        return taken

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
    try:
        results = jobs[0].run([job.request for job in jobs])
    except Exception as error:  # the clients get it, and the thread goes on
        if len(jobs) > 1 and isinstance(error, InputError | StorageError):
            for job in jobs:
                _finish([job])
            return
        for job in jobs:
            job.future.set_exception(error)
    else:
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)
