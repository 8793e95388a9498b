"""The last R different items of each user's history, the places, and what is known of each.

Not in the paper. It is all that a repeat is predicted from: how often, how long ago and at which
hours the user had an item, and how often the user repeats at all. Its size does not grow with the
user's events. The same functions serve training, evaluation and live users.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.gru import where
from hrnn_jax.training.user_batches import NO_ITEM, Array, Steps

WORDS = 11  # of a place in the packed form
TRAIL = 256  # events whose order is kept
_HALF_LIFE = 20  # events after which an event counts half in `recent`
HOURS, DAYS = 8, 7  # bins of three hours, and of a day of the week
DAY = 1440  # minutes
_TRAIL_ROWS = -(-2 * TRAIL // WORDS)
_RATE_DECAY = 0.9  # of `repeat_rate`, each event
_KNOWN = 1 << 30  # above the places times the events of any user
_VECTOR = 16  # numbers that are compared at a time
# The fields with an axis of places.
_OF_PLACE = ("item", "count", "event", "session", "minute", "first", "recent", "hours", "days")


@struct.dataclass
class History:
    """What is kept of each lane's user, all events so far included.

    The first places are taken first, else they are in no order. One that is not used yet holds
    NO_ITEM. Counts of a place begin when the item takes it.
    """

    item: Array  # [B, R] int32
    count: Array  # [B, R] int32 events of the item
    event: Array  # [B, R] int32 number of the item's last event among the user's, from 1
    session: Array  # [B, R] int32 number of that event's session among the user's, from 1
    minute: Array  # [B, R] int32 Unix minutes of that event
    first: Array  # [B, R] int32 number of the event with which the item took the place
    recent: Array  # [B, R] float32 events of the item up to that one, halved every 20 events
    hours: Array  # [B, R, 8] uint8 events of the item in each three hours of the day (UTC)
    days: Array  # [B, R, 7] uint8 events of the item on each day of the week (UTC)
    trail: Array  # [B, T] int32 places of the last events' items, event e at e mod T
    trail_session: Array  # [B, T] int32 numbers of their sessions, 0 for none
    events: Array  # [B] int32 of the user
    sessions: Array  # [B] int32 of the user
    repeats: Array  # [B] int32 events of the user whose item had a place
    session_events: Array  # [B] int32 of the open session
    session_repeats: Array  # [B] int32 of the open session
    repeat_rate: Array  # [B] float32 share of repeats among the last ten events or so
    now: Array  # [B] int32 Unix minutes of the last event
    gap: Array  # [B] int32 minutes between the last event and the one before
    target: Array  # [B] int32 the next event's item, if the session has one
    target_minute: Array  # [B] int32 its time


def start(shape: tuple[int, ...], places: int, trail: int | None = None) -> History:
    """Return the history of users who have had nothing, as numpy arrays.

    Args:
        shape: (B,).
        places: R.
        trail: T, the events whose order is kept; by default `TRAIL`, fewer where no user has as
            many.
    """
    trail = TRAIL if trail is None else trail

    def of_place(value: int) -> np.ndarray:
        return np.full((*shape, places), value, np.int32)

    def of_user(value: float = 0, dtype: type = np.int32) -> np.ndarray:
        return np.full(shape, value, dtype)

    return History(
        item=of_place(NO_ITEM),
        count=of_place(0),
        event=of_place(0),
        session=of_place(0),
        minute=of_place(0),
        recent=np.zeros((*shape, places), np.float32),
        hours=np.zeros((*shape, places, HOURS), np.uint8),
        days=np.zeros((*shape, places, DAYS), np.uint8),
        first=of_place(0),
        trail=np.zeros((*shape, trail), np.int32),
        trail_session=np.zeros((*shape, trail), np.int32),
        events=of_user(),
        sessions=of_user(),
        repeats=of_user(),
        session_events=of_user(),
        session_repeats=of_user(),
        repeat_rate=of_user(0.5, np.float32),
        now=of_user(),
        gap=of_user(),
        target=of_user(NO_ITEM),
        target_minute=of_user(),
    )


def step(history: History, steps: Steps, minute: jax.Array) -> History:
    """Add the events of one time step.

    The last item of a session is never an input, only the target of the input before it. It is
    added when the next session starts.

    Args:
        history: of B lanes.
        steps: one time step, [B] each.
        minute: [B] Unix minutes of the inputs.
    """
    history = _restart(history, steps.user_start)
    session_ended = steps.session_start & ~steps.user_start
    ended = jnp.where(session_ended, history.target, NO_ITEM)
    history = add(history, ended, history.target_minute)
    history = add(history, steps.input, minute, steps.session_start)
    is_input = steps.input != NO_ITEM
    return dataclasses.replace(
        history,
        target=jnp.where(is_input, steps.target, history.target),
        target_minute=jnp.where(is_input, steps.time, history.target_minute),
    )


def _restart(history: History, user_start: jax.Array) -> History:
    """Forget the users of some lanes: what stays in their places is of no item."""
    n_lanes = len(user_start)
    fresh = start((n_lanes,), 1)
    of_user = {
        name: where(user_start, jnp.asarray(getattr(fresh, name)), old)
        for name, old in vars(history).items()
        if old.ndim == 1
    }
    lane = jnp.where(user_start, jnp.arange(n_lanes), n_lanes)  # outside for those that go on
    return dataclasses.replace(
        history,
        item=history.item.at[lane].set(NO_ITEM, mode="drop"),  # in the same memory, as in `add`
        event=history.event.at[lane].set(0, mode="drop"),
        **of_user,
    )


def add(
    history: History, item: jax.Array, minute: jax.Array, opens: jax.Array | bool = False
) -> History:
    """Add one event to each user's history: for training, evaluation and live users alike.

    The event takes the place of its item. If the item has none, it takes that of the item whose
    last event is the longest ago.

    Args:
        history: of B users.
        item: [B], NO_ITEM for users without an event.
        minute: [B] Unix minutes of the events.
        opens: [B] bool, the users whose event opens a session.
    """
    has_event = item != NO_ITEM
    opens = has_event & opens
    events = history.events + has_event
    sessions = history.sessions + opens
    same = (history.item == item[:, None]) & has_event[:, None]
    # All different, so that their minimum finds the place and its last event: read from the array,
    # that would make XLA copy it. Below 0 if the item has a place.
    n_users, places = history.item.shape
    order = places * history.event + jnp.arange(places)[None] - jnp.where(same, _KNOWN, 0)
    least = _least(order)
    known = least < 0
    last, place = jnp.divmod(least + jnp.where(known, _KNOWN, 0), places)
    user = jnp.arange(n_users)
    here = user, jnp.where(has_event, place, places)  # outside for users without an event
    size = history.trail.shape[1]
    at = user, jnp.where(has_event, events % size, size)

    def put(
        old: jax.Array, new: jax.Array, where_: tuple[jax.Array, jax.Array] = here
    ) -> jax.Array:
        # Single values, in the same memory: a loop over steps would else copy all places.
        return old.at[where_].set(new, mode="drop")

    def before(old: jax.Array) -> jax.Array:  # of the item, 0 if it had no place
        values = old[user, place]
        return where(known, values, jnp.zeros_like(values))

    def put_bin(old: jax.Array, bin_: jax.Array) -> jax.Array:
        counted = before(old)
        one = jnp.arange(old.shape[2])[None] == bin_[:, None]
        return put(old, counted + (one & (counted < 255)).astype(jnp.uint8))

    def count(old: jax.Array) -> jax.Array:  # events of the open session
        return jnp.where(opens, 0, old)

    age = (events - last).astype(jnp.float32)
    rate = _RATE_DECAY * history.repeat_rate + (1 - _RATE_DECAY) * (0.98 * known + 0.01)
    return dataclasses.replace(
        history,
        item=put(history.item, item),
        count=put(history.count, before(history.count) + 1),
        event=put(history.event, events),
        session=put(history.session, sessions),
        minute=put(history.minute, minute),
        recent=put(history.recent, halved(before(history.recent), age) + 1),
        hours=put_bin(history.hours, minute % DAY // (DAY // HOURS)),
        days=put_bin(history.days, weekday(minute)),
        first=put(history.first, jnp.where(known, history.first[user, place], events)),
        trail=put(history.trail, place, at),
        trail_session=put(history.trail_session, sessions, at),
        events=events,
        sessions=sessions,
        repeats=history.repeats + known,
        session_events=count(history.session_events) + has_event,
        session_repeats=count(history.session_repeats) + known,
        repeat_rate=jnp.where(has_event, rate, history.repeat_rate),
        now=jnp.where(has_event, minute, history.now),
        gap=jnp.where(has_event, jnp.where(events > 1, minute - history.now, 0), history.gap),
    )


def _least(numbers: jax.Array) -> jax.Array:
    """Return the least of each row of [B, R]: unlike `min` and `argmin`, by vector instructions."""
    size = numbers.shape[1]
    width = math.gcd(size, _VECTOR)
    columns = [numbers[:, i : i + width] for i in range(0, size, width)]
    return functools.reduce(jnp.minimum, columns).min(axis=1)


def first_places(history: History, n_first: int) -> History:
    """Return the history without its last places, which are the last to be used."""
    n_places = history.item.shape[1]
    names = [name for name in _OF_PLACE if n_first < n_places]
    return dataclasses.replace(
        history, **{name: getattr(history, name)[:, :n_first] for name in names}
    )


def first_events(history: History, size: int) -> History:
    """Return the history without the last places of the trail, the last to be used."""
    return dataclasses.replace(
        history,
        trail=history.trail[:, :size],
        trail_session=history.trail_session[:, :size],
    )


def used_places(history: History) -> jax.Array:
    """Return how many places each user has used, [B]."""
    return (history.item != NO_ITEM).sum(axis=1)


def recent_items(history: History, last: int) -> jax.Array:
    """Return the last different items of the users' open sessions, the latest first.

    Args:
        history: of B users.
        last: how many items, at most R are returned.

    Returns:
        [B, min(last, R)], NO_ITEM where the session has fewer.
    """
    event = jnp.where(in_open_session(history), history.event, 0)  # all different, but for zeros
    items = []
    for _ in range(min(last, history.item.shape[1])):  # faster than top_k, which sorts
        latest = (event > 0) & (event == event.max(axis=1, keepdims=True))
        items.append(jnp.where(latest, history.item, NO_ITEM).min(axis=1))
        event = jnp.where(latest, 0, event)
    return jnp.stack(items, axis=1)


def in_open_session(history: History) -> jax.Array:
    """Return which places hold an item of the open session, [B, R] bool."""
    return (history.item != NO_ITEM) & (history.session == history.sessions[:, None])


def pack(history: History) -> jax.Array:
    """Return the history without its target as one array, the form in which live states keep it.

    Returns:
        [B, R + 48, WORDS] int32: a row of the user's numbers, then a row for each place, then
        the trail. What is not int32 keeps its bits.
    """

    def words(values: jax.Array) -> jax.Array:  # [B, R, n] bytes as [B, R, n / 4] words
        return _bits(values.reshape(*values.shape[:2], -1, 4), jnp.int32)

    of_user = jnp.stack(
        [
            history.events,
            history.sessions,
            history.repeats,
            history.session_events,
            history.session_repeats,
            _bits(history.repeat_rate, jnp.int32),
            history.now,
            history.gap,
        ],
        axis=1,
    )
    of_user = jnp.pad(of_user, [(0, 0), (0, WORDS - of_user.shape[1])])
    numbers = [history.item, history.count, history.event, history.session, history.minute]
    recent = _bits(history.recent, jnp.int32)
    of_place = jnp.stack([*numbers, history.first, recent], axis=2)
    days = jnp.pad(history.days, [(0, 0), (0, 0), (0, 1)])
    of_place = jnp.concatenate([of_place, words(history.hours), words(days)], axis=2)
    trail = jnp.concatenate([history.trail, history.trail_session], axis=1)
    trail = jnp.pad(trail, [(0, 0), (0, _TRAIL_ROWS * WORDS - 2 * TRAIL)])
    trail = trail.reshape(len(trail), _TRAIL_ROWS, WORDS)
    return jnp.concatenate([of_user[:, None], of_place, trail], axis=1)


def unpack(packed: jax.Array) -> History:
    """Return the history that `pack` made one array of, without a target."""
    events, sessions, repeats, session_events, session_repeats, rate, now, gap, *_ = jnp.moveaxis(
        packed[:, 0], 1, 0
    )
    places = packed[:, 1:-_TRAIL_ROWS]
    trail = packed[:, -_TRAIL_ROWS:].reshape(len(packed), -1)
    item, count, event, session, minute, first, recent = jnp.moveaxis(places[..., :7], 2, 0)
    bytes_ = _bits(places[..., 7:], jnp.uint8).reshape(*places.shape[:2], -1)
    return History(
        item=item,
        count=count,
        event=event,
        session=session,
        minute=minute,
        first=first,
        recent=_bits(recent, jnp.float32),
        hours=bytes_[..., :HOURS],
        days=bytes_[..., HOURS : HOURS + DAYS],
        trail=trail[:, :TRAIL],
        trail_session=trail[:, TRAIL : 2 * TRAIL],
        events=events,
        sessions=sessions,
        repeats=repeats,
        session_events=session_events,
        session_repeats=session_repeats,
        repeat_rate=_bits(rate, jnp.float32),
        now=now,
        gap=gap,
        target=jnp.full(len(packed), NO_ITEM, jnp.int32),
        target_minute=jnp.zeros(len(packed), jnp.int32),
    )


def _bits(values: jax.Array, dtype: type) -> jax.Array:
    return jax.lax.bitcast_convert_type(values, dtype)


def weekday(minute: jax.Array) -> jax.Array:
    """Return the day of the week of Unix minutes, 0 for Monday, in UTC."""
    return (minute // DAY + 3) % 7  # 1970 began on a Thursday


def halved(recent: jax.Array, events: jax.Array) -> jax.Array:
    """Return `recent` after more events."""
    return recent * jnp.exp2(-events / _HALF_LIFE)
