"""What is popular and who has the most visits, counted over all stored events now and then."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import heapq
import itertools
import operator
import time

from .batcher import Batcher
from .schemas import MAX_ROWS

_SHARE = 100  # counting takes at most this part of the time ...
_PATIENCE = 0.5  # seconds: ... and who asks waits for it if it takes no longer


@dataclasses.dataclass(frozen=True)
class Counts:
    """What was counted."""

    popular: list[tuple[str, int]]  # items, as texts, and their events, the most first
    visits: dict[str, tuple[int, int]]  # visits and events by user, the most visits first
    ended: float  # when, in seconds of the monotonic clock
    seconds: float  # that it took


class Overview:
    """Counts that are made anew when somebody asks, but not all the time."""

    def __init__(self, batcher: Batcher) -> None:
        """Take what reads the events."""
        self._batcher = batcher
        self._counts: Counts | None = None
        self._counting: asyncio.Task[Counts] | None = None
        self._forgotten: set[str] = set()  # while it counts

    async def counts(self) -> Counts:
        """Return the counts: new ones, or earlier ones while new ones are made for long."""
        before = self._counts
        if before is None or time.monotonic() - before.ended >= _SHARE * before.seconds:
            if self._counting is None or self._counting.done():
                self._forgotten.clear()
                self._counting = asyncio.create_task(self._count())
                self._counting.add_done_callback(_retrieve)
            if before is None or before.seconds < _PATIENCE:
                return await asyncio.shield(self._counting)
        return before

    def forget(self, user: str) -> None:
        """Leave a user out who was forgotten."""
        self._forgotten.add(user)
        if self._counts:
            self._counts.visits.pop(user, None)

    async def _count(self) -> Counts:
        begun = time.monotonic()
        popular: collections.Counter[str] = collections.Counter()
        most: list[tuple[int, int, str]] = []  # visits, events, user
        user, visits, events, last = "", 0, 0, -1

        def end_user() -> None:
            if events:
                heapq.heappush(most, (visits, events, user))
                if len(most) > MAX_ROWS:
                    heapq.heappop(most)

        steps = self._batcher.recommender.stored_events()
        while (rows := await self._batcher.call(next, steps, None)) is not None:
            popular.update(map(operator.itemgetter(2), rows))
            for key, some in itertools.groupby(rows, key=operator.itemgetter(0)):
                if key != user:
                    end_user()
                    user, visits, events, last = key, 0, 0, -1
                for _, session, _ in some:
                    events += 1
                    visits += session != last
                    last = session
        end_user()
        most.sort(key=lambda row: (-row[0], -row[1], row[2]))
        ended = time.monotonic()
        self._counts = Counts(
            popular.most_common(MAX_ROWS),
            {user: (visits, events) for visits, events, user in most},
            ended,
            ended - begun,
        )
        for user in self._forgotten:
            self._counts.visits.pop(user, None)
        return self._counts


def _retrieve(counting: asyncio.Task[Counts]) -> None:
    """Take the error of a task for which nobody waits; who asks next starts another one."""
    if not counting.cancelled():
        counting.exception()
