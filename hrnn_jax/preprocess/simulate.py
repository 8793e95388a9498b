"""Synthetic raw event logs of XING, VIDEO and VIDEOXXL shape (Tables 1 and 5).

They replace data that is not public. A log is raw: it holds the short sessions, the light users
and the rare items that Section 4.1 filters out, and matches Table 1 after that filter. The
constants were fitted to Table 1 and to the order of the models in the paper's Table 3, so results
on such logs are no evidence about real users.

The catalogue is a few hits and many topics. A topic is a number of series (a show, an employer), a
series a few items (episodes, job ads) in a fixed order that starts over at its end. A user has a
usual and a second taste. Each is for a topic or for the charts (the hits), and is at times replaced
by another. A session is on one taste. It continues the series where the last session on that taste
ended, or begins a series of the topic at its first item. At each event, the user watches a hit,
revisits an item of an earlier session, or moves on in the series. Many sessions begin with a hit
from the front page, which does not depend on the taste.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np
import polars as pl

DAY = 86_400  # seconds
EPOCH = 16_770 * DAY  # Unix seconds of the first day: 1 December 2015
IDLE = 30 * 60  # seconds; a longer gap separates two sessions (Section 4.1)
CHUNK = 200_000  # users simulated together: bounds the memory of temporary arrays


class Law(NamedTuple):
    """The truncated power law (Zipf-Mandelbrot): density ~ (x + shift)^-exponent on [0, size).

    In Table 1, events per item, sessions per user and events per session all have heavy tails.
    """

    size: int
    shift: float
    exponent: float  # not 1

    def draw(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Draw integers, floor(x), by inverting the distribution function.

        It needs no table, so the size costs nothing.
        """
        power = 1 - self.exponent
        low, high = self.shift**power, (self.size + self.shift) ** power
        x = (low + rng.random(shape) * (high - low)) ** (1 / power) - self.shift
        return np.clip(x.astype(np.int64), 0, self.size - 1)  # rounding may leave the range


@dataclasses.dataclass(frozen=True)
class Shape:
    """The constants of one shape. Counts are those of the raw log.

    Fields without a unit are probabilities.
    """

    users: int
    days: int  # Section 4.1
    sessions: Law  # sessions of a user, less one
    events: Law  # events of a session, less one
    idle: float  # mean seconds between two events of a session
    hits: Law  # which hit is watched
    topics: int
    series: Law  # which series of a topic
    items: int  # items of a series
    charts: float  # that a taste is for the charts
    second: float  # that a session is on the user's second taste
    drift: float  # that the taste of a session is replaced before the session
    resume: float  # that a session continues the series of the last session on its taste
    open_hit: float  # that a session begins with a hit (the front page)
    open_revisit: float  # that a session begins with a revisit
    hit: float  # that a later event is a hit
    revisit: float  # that a later event is a revisit
    pace: float  # 1 / mean number of items by which an event moves on in the series
    recency: float  # that a revisit goes one session back and not further, and so on


# Behaviour is chosen by what the paper says of each data set; the sizes and the laws of users,
# sessions, events, series and hits are then fitted so that Table 1 results after the filter.
# VIDEO's standard deviation of 684 events per item at a median of 9 needs hits: the first has a
# twelfth of all events. The median of support lies below the threshold because most events of an
# item come from light users, who are filtered out after the items.
VIDEO = Shape(
    users=154_500,
    days=60,
    sessions=Law(220, 5.3, 2.88),
    events=Law(330, 2.9, 3.19),
    idle=240,  # a short video
    hits=Law(50, 2.9, 1.73),
    topics=40,
    series=Law(250, 0.46, 1.22),
    items=20,
    charts=0.15,
    second=0.1,
    drift=0.04,  # most of a user's history stays useful
    resume=0.15,
    open_hit=0.85,  # after which only the history tells the topic
    open_revisit=0.0,
    hit=0.08,
    revisit=0.03,
    pace=0.6,
    recency=0.4,
)
# Job seekers return to the same ads across sessions, and little else can be predicted: personal
# popularity beats Item-KNN. There are no hits, and popularity is flatter.
XING = Shape(
    users=416_000,
    days=80,
    sessions=Law(140, 3.1, 3.19),
    events=Law(400, 2.75, 2.85),
    idle=120,
    hits=Law(1, 1, 2),  # never watched
    topics=26,
    series=Law(88, 2.5, 0.52),
    items=58,
    charts=0,
    second=0.3,
    drift=0.1,
    resume=0.5,
    open_hit=0,
    open_revisit=0.4,
    hit=0,
    revisit=0.32,
    pace=0.1,
    recency=0.3,
)
# VIDEO's behaviour. 33M events in 8.5M sessions of at least 3 leave no room for long sessions.
VIDEOXXL = dataclasses.replace(
    VIDEO,
    users=2_680_000,
    sessions=Law(200, 30, 4.2),
    events=Law(6, 30, 16),
    topics=690,
)
SHAPES = {"video": VIDEO, "videoxxl": VIDEOXXL, "xing": XING}


def simulate_log(
    shape: str, *, seed: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate a log.

    Args:
        shape: a key of `SHAPES`.
        seed: decides every draw.
        scale: of the number of users, and of topics with it, so that items keep their support.

    Returns:
        Raw user ids, raw item ids and Unix seconds, each [E] uint32, in the order of time.
    """
    full = SHAPES[shape]
    topics, users = max(1, round(scale * full.topics)), max(1, round(scale * full.users))
    scaled = dataclasses.replace(full, topics=topics, users=users)
    rng = np.random.default_rng(seed)
    chunks = []
    for at in range(0, users, CHUNK):
        count = 1 + scaled.sessions.draw(rng, min(CHUNK, users - at))
        length = 1 + scaled.events.draw(rng, count.sum())
        user = at + np.repeat(np.arange(len(count)), _sums(length, count))
        item = _items(rng, scaled, count, length)
        time = _times(rng, scaled, count, length)
        chunks.append([column.astype(np.uint32) for column in (user, item, time)])
    user, item, time = (np.concatenate(column) for column in zip(*chunks, strict=True))
    del chunks
    order = np.argsort(time, kind="stable")
    # Ids are shuffled, so that they do not follow popularity or activity.
    user_ids = rng.permutation(users).astype(np.uint32)
    item_ids = rng.permutation(scaled.hits.size + topics * scaled.series.size * scaled.items)
    return user_ids[user[order]], item_ids.astype(np.uint32)[item[order]], time[order]


def write_log(shape: str, path: pathlib.Path, *, seed: int, scale: float = 1.0) -> None:
    """Write what `simulate_log` returns as parquet: user_id, item_id, ts (Unix seconds)."""
    user, item, time = simulate_log(shape, seed=seed, scale=scale)
    table = pl.DataFrame({"user_id": user, "item_id": item, "ts": time})
    table.with_columns(pl.col("ts").cast(pl.Int64)).write_parquet(path)


def _starts(length: np.ndarray) -> np.ndarray:
    """Return the index of each group's first member, for contiguous groups of these lengths."""
    return np.cumsum(length) - length


def _sums(values: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the sum of each group's values, for contiguous groups of these lengths."""
    return np.add.reduceat(values, _starts(length))


def _tastes(
    rng: np.random.Generator, shape: Shape, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the taste of each session, and the topic of each taste, -1 for the charts.

    Tastes are numbered by user, then usual or second, then time. count: sessions of each user.
    """
    user = np.repeat(np.arange(len(count)), count)
    kind = 2 * user + (rng.random(len(user)) < shape.second)
    order = np.argsort(kind, kind="stable")
    new = (np.diff(kind[order], prepend=-1) > 0) | (rng.random(len(user)) < shape.drift)
    taste = np.empty_like(kind)
    taste[order] = np.cumsum(new) - 1
    # The first topic is about three times as popular as the last.
    topic = Law(shape.topics, shape.topics / 2, 1.01).draw(rng, new.sum())
    topic[rng.random(len(topic)) < shape.charts] = -1
    return taste, topic


def _items(
    rng: np.random.Generator, shape: Shape, count: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Draw the item of each event. Items are numbered hits first, then by series."""
    taste, topic = _tastes(rng, shape, count)
    session = np.repeat(np.arange(len(length)), length)
    earlier = np.arange(len(length)) - np.repeat(_starts(count), count)  # sessions of the user
    opens = np.diff(session, prepend=-1) > 0
    draw = rng.random(len(session))
    back = rng.geometric(shape.recency, len(session))  # sessions back to a revisited one
    revisit = draw > 1 - np.where(opens, shape.open_revisit, shape.revisit)
    revisit &= back <= earlier[session]
    hit = draw < np.where(opens, shape.open_hit, shape.hit)
    hit |= topic[taste[session]] < 0
    item = shape.hits.draw(rng, len(session))

    moves_on = np.flatnonzero(~hit & ~revisit)
    moves_on = moves_on[np.argsort(taste[session[moves_on]], kind="stable")]
    item[moves_on] = shape.hits.size + _series_items(rng, shape, session[moves_on], taste, topic)

    # A revisit has the item of an earlier session's first event, which may be a revisit itself.
    source = np.arange(len(session))
    source[revisit] = _starts(length)[(session - back)[revisit]]
    while revisit[source].any():
        source = source[source]
    return item[source]


def _series_items(
    rng: np.random.Generator,
    shape: Shape,
    session: np.ndarray,
    taste: np.ndarray,
    topic: np.ndarray,
) -> np.ndarray:
    """Draw items in series for events of these sessions, which are in the order of tastes."""
    resume = rng.random(len(taste)) < shape.resume
    enter = (np.diff(session, prepend=-1) != 0) & ~resume[session]
    enter |= np.diff(taste[session], prepend=-1) > 0
    # Series are numbered by popularity, then by topic.
    series = topic[taste[session[enter]]] + shape.topics * shape.series.draw(rng, enter.sum())
    run = np.cumsum(enter) - 1
    walked = np.cumsum(rng.geometric(shape.pace, len(session)))
    place = walked - walked[enter][run]
    return series[run] * shape.items + place % shape.items


def _times(
    rng: np.random.Generator, shape: Shape, count: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Draw the Unix seconds of each event. A user's sessions are at random times in the days."""
    start = _starts(length)
    gap = np.minimum(1 + rng.exponential(shape.idle, length.sum()), 0.9 * IDLE)  # before the event
    gap[start] = 2 * IDLE
    # The rest of the days is divided at random into pauses before each session and after the last.
    free = np.maximum(shape.days * DAY - _sums(_sums(gap, length), count), 0)
    share = rng.exponential(size=len(length))
    whole = _sums(share, count) + rng.exponential(size=len(count))
    gap[start] += share * np.repeat(free / whole, count)
    time = np.cumsum(gap)
    events = _sums(length, count)
    return EPOCH + (time - np.repeat(time[_starts(events)] - gap[_starts(events)], events))
