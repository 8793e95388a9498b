"""What is known of each place of a history, and of its user: the inputs of the mixture's weights.

Not in the paper. All of it was known before the next event, but for what other users did: that is
of the whole training log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from hrnn_jax.repeat_explore.history import (
    DAY,
    DAYS,
    HOURS,
    History,
    halved,
    in_open_session,
    weekday,
)
from hrnn_jax.training.user_batches import NO_ITEM, Array

TRAIL_FEATURES = 5
OF_USERS = slice(14, 16)  # features of a place that count users
RETURNS = 15  # the one that `log_returns` gives
PLACE_FEATURES = 16 + TRAIL_FEATURES
USER_FEATURES = 12
_FLOOR = 0.02  # shares far below it count as none
_LATELY = 80.0  # events of the trail after which an event counts half
_LEAST = 0.05  # events far below it count as none


def place_features(history: History, of_trail: jax.Array, users: Array) -> jax.Array:
    """Return the features of each place, [PLACE_FEATURES, B, R]; of an unused one any numbers.

    In this order: log of the count; count per session; log(1 + age) / 3 and 1 / (1 + age), where
    age is the number of the user's events since; whether the age is 0, and 1; log(1 + sessions
    since); whether the session is the open one, and the one before; log of `recent`; log of the
    days since; how many times more often than at other hours the item is had at this hour of the
    day, and likewise on this day of the week, as logarithms; whether its last day was this one of
    the week; log of the users who had the item; the share of the others among them who had it more
    than once, see `log_returns`; and the logarithms of those of the trail.

    Args:
        history: of B users.
        of_trail: [TRAIL_FEATURES, B, R], see `trail_features`.
        users: [V, 2] of each item, see `neighbours.Table`.
    """
    age = (history.events[:, None] - history.event).astype(jnp.float32)
    ago = (history.sessions[:, None] - history.session).astype(jnp.float32)
    count = jnp.maximum(history.count, 1).astype(jnp.float32)
    days_ago = jnp.maximum(history.now[:, None] - history.minute, 0).astype(jnp.float32) / DAY
    today = weekday(history.now)[:, None]
    on_day = _of_bin(history.days, weekday(history.now))
    n_users, _ = _of_items(users, history.item)
    columns = [
        jnp.log(count),
        history.count / jnp.maximum(history.sessions[:, None], 1),
        jnp.log1p(age) / 3,
        1 / (1 + age),
        age == 0,
        age == 1,
        jnp.log1p(ago),
        ago == 0,
        ago == 1,
        jnp.log(halved(history.recent, age) + 0.01),
        jnp.log1p(days_ago),
        jnp.log((_at_hour(history) + 0.3) / (count / HOURS + 0.3)),
        jnp.log((on_day + 0.5) / (count / DAYS + 0.5)),
        weekday(history.minute) == today,
        jnp.log(n_users),
        log_returns(users, history.item, history.count > 1),
        *jnp.log(of_trail),
    ]
    return jnp.stack([values.astype(jnp.float32) for values in columns])


def log_returns(users: Array, item: Array, own: Array) -> jax.Array:
    """Return the log of the share of an item's other users who had it more than once, [...].

    With two more users, of whom half a user did.

    Args:
        users: [V, 2] of each item, see `neighbours.Table`.
        item: [...] of places.
        own: [...] bool, whether the user of the place is counted in `users` among these. Before a
            training event that depends on the events that follow, as they are counted, too.
    """
    n_users, n_returned = _of_items(users, item)
    others, returned = n_users - 1, jnp.maximum(n_returned - own, 0)
    return jnp.log((returned + 0.5) / (others + 2))


def _of_items(users: Array, item: Array) -> tuple[jax.Array, jax.Array]:
    """Return the users of items, at least the one of the place, and those with several events."""
    of_item = jnp.asarray(users).at[item].get(mode="fill", fill_value=0)
    return jnp.maximum(of_item[..., 0], 1), of_item[..., 1]


def trail_features(history: History) -> jax.Array:
    """Return what the trail says of each place, above 0, [TRAIL_FEATURES, B, R].

    In this order: the share of the place among what came right after the last item; how often the
    place was in a session with the last item, per event of the last item; how often it was in an
    earlier session with an item of the open one, per such item's event; the share of the place in
    all earlier sessions, each weighed by how alike it is to the open one (each of the items that
    both have counts 1 / the events of the item, divided by the root of the session's events); and
    the events of the place, halved every 80 events.
    """
    trail, session, events = history.trail, history.trail_session, history.events[:, None]
    n_users, size = trail.shape
    at, user = jnp.arange(size)[None], jnp.arange(n_users)[:, None]
    event = events - (events - at) % size  # below 1 where the trail holds none yet
    # An event that is before its place's first is of an item that had the place before.
    known = (event > 0) & (event >= history.first[user, trail])
    is_last = known & (trail == jnp.take_along_axis(trail, events % size, axis=1))
    # What follows the last event in the trail is the oldest one, or none.
    follows = (event > 0) & (session == jnp.roll(session, -1, axis=1))
    has_next = is_last & follows & (event != events)
    earlier = known & (session != history.sessions[:, None])
    is_open = earlier & in_open_session(history)[user, trail]

    # Several sums at a time: most of a sum's time is to find where each value goes.
    def by_session(*values: jax.Array) -> Iterable[jax.Array]:
        """Return sums over the events of each event's session, [B, TRAIL] each."""
        # At most `size` sessions, one after the other, are in the trail.
        at_session = user, session % size
        total = jnp.zeros((n_users, size, len(values))).at[at_session].add(_stack(values))
        return jnp.moveaxis(total[at_session], 2, 0)

    def by_place(*values: jax.Array) -> Iterable[jax.Array]:
        """Return sums over the events of each place, [B, R] each."""
        total = jnp.zeros((*history.item.shape, len(values))).at[user, trail].add(_stack(values))
        return jnp.moveaxis(total, 2, 0)

    count = jnp.maximum(history.count[user, trail], 1)
    n_last, n_open, open_shares, n_earlier = by_session(is_last, is_open, is_open / count, earlier)
    alike = earlier * open_shares / jnp.sqrt(jnp.maximum(n_earlier, 1))
    of_events = [  # of each event, and the sum that the place's is a share of
        (known & jnp.roll(has_next, 1, axis=1), has_next),
        (known & (n_last > 0), is_last),
        (earlier * n_open, is_open),
        (alike, alike),
    ]
    lately = known * jnp.exp2(-(events - event) / _LATELY)
    *sums, weight = by_place(*(of_event for of_event, _ in of_events), lately)
    totals = (jnp.maximum(total.sum(axis=1), 1e-6)[:, None] for _, total in of_events)
    shares = [sum_ / total + _FLOOR for sum_, total in zip(sums, totals, strict=True)]
    return jnp.stack([*shares, weight + _LEAST])


def _stack(values: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack([one.astype(jnp.float32) for one in values], axis=2)


def user_features(history: History) -> jax.Array:
    """Return what tells whether the next event is a repeat, [B, USER_FEATURES].

    In this order: 1; log of the places used; the log odds of a repeat so far, and of late; the
    events of the open session, up to ten, in units of five; the share of repeats among them; log
    of how often the last item was had; log of the user's events; whether the session has one
    event; whether the last item was a repeat; log of the sessions; log of the last gap in minutes.
    """
    is_last = (history.event == history.events[:, None]) & (history.item != NO_ITEM)
    last_count = jnp.where(is_last, history.count, 0).sum(axis=1)
    repeats = history.repeats.astype(jnp.float32)
    in_session = history.session_events.astype(jnp.float32)
    columns = [
        jnp.ones_like(repeats),
        jnp.log1p((history.item != NO_ITEM).sum(axis=1)),
        jnp.log((repeats + 1) / (history.events - repeats + 1)),
        jnp.log(history.repeat_rate / (1 - history.repeat_rate)),
        jnp.minimum(in_session, 10) / 5,
        (history.session_repeats + 0.5) / (in_session + 1),
        jnp.log1p(last_count),
        jnp.log1p(history.events),
        in_session == 1,
        last_count > 1,
        jnp.log1p(history.sessions),
        jnp.log1p(jnp.maximum(history.gap, 0)),
    ]
    return jnp.stack([values.astype(jnp.float32) for values in columns], axis=1)


def _at_hour(history: History) -> jax.Array:
    """Return the events of each place at this time of the day, interpolated between bins [B, R]."""
    place = (history.now % DAY).astype(jnp.float32) / (DAY // HOURS) - 0.5
    below = jnp.floor(place)
    part = (place - below)[:, None]
    first = below.astype(jnp.int32) % HOURS
    following = _of_bin(history.hours, (first + 1) % HOURS)
    return (1 - part) * _of_bin(history.hours, first) + part * following


def _of_bin(events: jax.Array, bin_: jax.Array) -> jax.Array:
    """Return the events of each place in one bin of each user, [B, R]."""
    own = jnp.take_along_axis(events, bin_[:, None, None], axis=2, mode="clip")
    return own[:, :, 0].astype(jnp.float32)
