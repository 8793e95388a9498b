"""Synthetic raw event logs of XING, VIDEO and VIDEOXXL shape (Tables 1 and 5).

They stand in where the data cannot be had. A log is raw: it holds the short sessions, the light
users and the rare items that Section 4.1 filters out, and matches Table 1 after that filter.

The catalogue is a few hits and many topics. A topic is a number of series (a channel, an employer)
and a series a few items (episodes, job ads) in a fixed cyclic order. A user has three tastes, each
a series, which drift. A session is on one taste: its topic is the topic of all that it holds but
hits. From one event to the next, the user watches a hit, goes back to the item that opened an
earlier session, returns to the series of the taste, goes on to the next item of the series at hand,
or browses the topic.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import NamedTuple

import numpy as np
import polars as pl

USER, ITEM, TIME = "user_id", "item_id", "ts"
EPOCH = 1_450_000_000  # Unix seconds of the first day: December 2015
IDLE = 30 * 60  # seconds; a longer gap separates two sessions (Section 4.1)
CHUNK = 200_000  # users generated together: bounds the memory of the temporary arrays


class Law(NamedTuple):
    """The truncated power law (Zipf-Mandelbrot): P(k) ~ (k + shift)^-exponent, 0 <= k < size.

    Views of items, sessions of users and events of sessions all have such tails in Table 1: means
    far above medians.
    """

    size: int
    shift: float
    exponent: float  # not 1

    def draw(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Draw by inverting the continuous distribution function: no table, any size."""
        power = 1 - self.exponent
        low, high = self.shift**power, (self.size + self.shift) ** power
        k = (low + rng.random(shape) * (high - low)) ** (1 / power) - self.shift
        return np.minimum(k.astype(np.int64), self.size - 1)


@dataclasses.dataclass(frozen=True)
class Shape:
    """The constants of one shape; `users`, and the counts, are those of the raw log."""

    users: int
    days: int  # Section 4.1
    sessions: Law  # sessions of a user, less one
    events: Law  # events of a session, less one
    hits: Law  # which hit is watched
    topics: int
    series: Law  # which series of its topic; the exponent gives the events per item of Table 1
    items: int  # items of a series
    pace: float  # 1 / mean items that a user moves on in the series of a taste, by session
    drift: float  # probability that a taste is replaced after a session on it
    open_hit: float  # probability that a session opens with a hit (the front page)
    open_revisit: float  # ... with an item that opened an earlier session
    hit: float  # probability that a later event is a hit
    revisit: float  # ... the item that opened an earlier session
    home: float  # ... any item of the series that is the session's taste
    follow: float  # ... the next item of the series at hand; browsing has the rest
    recency: float  # probability that a revisit goes to the last session, else to one before
    idle: float  # mean seconds between two events of a session


SHAPES = {
    "xing": Shape(
        users=240_000,
        days=80,
        sessions=Law(150, 5, 3.6),
        events=Law(80, 4, 3.3),
        hits=Law(1, 1, 2),
        topics=100,
        series=Law(40, 1, 0.9),
        items=16,
        pace=0.4,
        drift=0.2,
        open_hit=0,
        open_revisit=0.4,
        hit=0,
        revisit=0.3,
        home=0.1,
        follow=0.12,
        recency=0.4,
        idle=120,
    ),
    "video": Shape(
        users=160_000,
        days=60,
        sessions=Law(120, 5, 3.0),
        events=Law(200, 3, 3.2),
        hits=Law(50, 1, 2.0),
        topics=60,
        series=Law(26, 1, 1.2),
        items=16,
        pace=0.4,
        drift=0.1,
        open_hit=0.35,
        open_revisit=0.05,
        hit=0.22,
        revisit=0.08,
        home=0.16,
        follow=0.42,
        recency=0.4,
        idle=240,
    ),
    "videoxxl": Shape(
        users=6_000_000,
        days=60,
        sessions=Law(120, 9, 3.0),
        events=Law(8, 8, 6.0),
        hits=Law(50, 1, 2.0),
        topics=1000,
        series=Law(26, 1, 1.2),
        items=16,
        pace=0.4,
        drift=0.1,
        open_hit=0.35,
        open_revisit=0.05,
        hit=0.22,
        revisit=0.08,
        home=0.16,
        follow=0.42,
        recency=0.4,
        idle=240,
    ),
}


def _topic_law(topics: int) -> Law:
    """Topics differ mildly: the first is about three times as popular as the last."""
    return Law(topics, topics / 2, 1.01)


def _draw_items(rng: np.random.Generator, shape: Shape, topic: np.ndarray) -> np.ndarray:
    """Draw an item of each topic. Items are numbered hits first, then by series, popular first."""
    series = shape.series.draw(rng, topic.shape) * shape.topics + topic
    return shape.hits.size + series * shape.items + rng.integers(shape.items, size=topic.shape)


def _ahead(shape: Shape, item: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
    """Return the item so many steps ahead in the series, the first one after the last."""
    series, place = np.divmod(item - shape.hits.size, shape.items)
    return shape.hits.size + series * shape.items + (place + steps) % shape.items


def _openings(
    rng: np.random.Generator, shape: Shape, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw taste and first item of every session, session by session of all users at once.

    `count` [users] is descending, so that the users who still have a session are the first ones.
    """
    topics = _topic_law(shape.topics)
    first = np.cumsum(count) - count  # [users] index of the user's first session
    taste = np.empty(count.sum(), np.int64)
    opening = np.empty_like(taste)
    tastes = _draw_items(rng, shape, topics.draw(rng, (len(count), 3)))
    for m in range(count[0]):
        users = np.arange(np.searchsorted(-count, -m))
        at = first[users] + m
        # The first taste takes 6 sessions of 10, the others 3 and 1.
        slot = np.searchsorted([0.6, 0.9], rng.random(len(users)))
        place = tastes[users, slot]
        taste[at] = place
        back = rng.geometric(shape.recency, len(users))
        u = rng.random(len(users))
        hit = u < shape.open_hit
        revisit = ~hit & (u < shape.open_hit + shape.open_revisit) & (back <= m)
        opening[at] = place
        opening[at[hit]] = shape.hits.draw(rng, hit.sum())
        opening[at[revisit]] = opening[(at - back)[revisit]]
        place = _ahead(shape, place, rng.geometric(shape.pace, len(users)))
        drift = rng.random(len(users)) < shape.drift
        place[drift] = _draw_items(rng, shape, topics.draw(rng, drift.sum()))
        tastes[users, slot] = place
    return taste, opening


def _items(
    rng: np.random.Generator, shape: Shape, count: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Draw the items [events] of all sessions, the n-th event of all sessions at once."""
    taste, opening = _openings(rng, shape, count)
    number = np.arange(len(length)) - np.repeat(np.cumsum(count) - count, count)  # in its user
    item = np.empty(length.sum(), np.int64)
    first = np.cumsum(length) - length  # [sessions] index of the session's first event
    item[first] = opening
    order = np.argsort(-length, kind="stable")
    descending = -length[order]
    # The thread is the last item that is no hit; behind an opening hit the taste waits.
    thread = np.where(opening < shape.hits.size, taste, opening)
    bounds = np.cumsum([shape.hit, shape.revisit, shape.home, shape.follow])
    for n in range(1, length.max()):
        session = order[: np.searchsorted(descending, -n)]
        kind = np.searchsorted(bounds, rng.random(len(session)), side="right")
        hit, revisit, home, follow, browse = (session[kind == k] for k in range(5))
        back = rng.geometric(shape.recency, len(revisit))
        known = back <= number[revisit]
        home = np.concatenate([home, revisit[~known]])
        topic = (taste[browse] - shape.hits.size) // shape.items % shape.topics
        item[first[hit] + n] = shape.hits.draw(rng, len(hit))
        item[first[revisit[known]] + n] = opening[(revisit - back)[known]]
        item[first[home] + n] = _ahead(shape, taste[home], rng.geometric(shape.pace, len(home)))
        item[first[follow] + n] = _ahead(shape, thread[follow], 1)
        item[first[browse] + n] = _draw_items(rng, shape, topic)
        new = item[first[session] + n]
        thread[session] = np.where(new < shape.hits.size, thread[session], new)
    return item


def _times(
    rng: np.random.Generator, shape: Shape, count: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Draw Unix seconds [events]: a user's sessions fill the days at random distances."""
    first = np.cumsum(length) - length
    gap = np.minimum(1 + rng.exponential(shape.idle, length.sum()), 0.9 * IDLE)
    gap[first] = 0
    busy = np.add.reduceat(np.add.reduceat(gap, first) + 2 * IDLE, np.cumsum(count) - count)
    free = np.maximum(shape.days * 86_400 - busy, 0)  # [users]
    weight = rng.exponential(size=len(length))
    total = np.add.reduceat(weight, np.cumsum(count) - count)
    total += rng.exponential(size=len(count))  # the time after the user's last session
    gap[first] = 2 * IDLE + weight * np.repeat(free / total, count)
    time = np.cumsum(gap)
    events = np.add.reduceat(length, np.cumsum(count) - count)
    start = np.concatenate([[0], time[np.cumsum(events)[:-1] - 1]])
    return EPOCH + (time - np.repeat(start, events)).astype(np.int64)


def scaled(shape: str, scale: float) -> Shape:
    """Shrink the users, and the topics with them so that the support of items stays alike."""
    full = SHAPES[shape]
    topics = max(1, round(full.topics * scale))
    return dataclasses.replace(full, users=max(1, round(full.users * scale)), topics=topics)


def log(
    shape: str, *, seed: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return raw user ids, raw item ids and Unix seconds [events], in the order of time."""
    chosen = scaled(shape, scale)
    parts = []
    for at in range(0, chosen.users, CHUNK):
        rng = np.random.default_rng([seed, at])
        count = 1 + chosen.sessions.draw(rng, min(CHUNK, chosen.users - at))
        count = -np.sort(-count)
        length = 1 + chosen.events.draw(rng, count.sum())
        item = _items(rng, chosen, count, length).astype(np.uint32)
        time = _times(rng, chosen, count, length)
        user = np.repeat(np.arange(at, at + len(count), dtype=np.uint32), np.add.reduceat(length, np.cumsum(count) - count))
        parts.append((user, item, time))
    user, item, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    order = np.argsort(time, kind="stable")
    rng = np.random.default_rng([seed])
    user_id = rng.permutation(chosen.users).astype(np.uint32)
    items = chosen.hits.size + chosen.topics * chosen.series.size * chosen.items
    item_id = rng.permutation(items).astype(np.uint32)
    return user_id[user[order]], item_id[item[order]], time[order]


def write(shape: str, path: pathlib.Path, *, seed: int, scale: float = 1.0) -> None:
    """Write the log as parquet with the columns user_id, item_id, ts (Unix seconds)."""
    columns = dict(zip((USER, ITEM, TIME), log(shape, seed=seed, scale=scale), strict=True))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pl.DataFrame(columns).write_parquet(beside)
    beside.replace(path)
