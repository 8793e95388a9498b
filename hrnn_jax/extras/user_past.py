"""A user's own earlier items as candidates, with a learnt bonus on their scores.

Not in the paper. Of each user the last R different items are kept, with how often, how long ago and
in which session the user had them. Each adds a bonus to its item's score: a linear function of
these features, whose weights depend on the session's and the user's state. It tells users who
repeat items from users who explore. Where a repeat is unlikely, as within a basket, the bonus is
negative.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.gru import where
from hrnn_jax.user_batches import NO_ITEM, Array, Steps

FEATURES = 9


@struct.dataclass
class Past:
    """The last R different items of each lane's user, all events so far included.

    The entries of a user are in no order; an entry that is not used yet holds NO_ITEM.
    """

    item: Array  # [B, R] int32
    count: Array  # [B, R] int32 events of the item, since it has an entry
    event: Array  # [B, R] int32 number of the item's last event among the user's, from 1
    session: Array  # [B, R] int32 number of that event's session among the user's, from 1
    events: Array  # [B] int32 events of the user so far
    sessions: Array  # [B] int32 sessions of the user so far
    target: Array  # [B] int32 the next event's item, if the session has one


@struct.dataclass
class Weights:
    """The learnt weights of the bonus."""

    mean: Array  # [F]
    by_session: Array  # [H, F], multiplied with the state of the uppermost layer
    by_user: Array  # [H, F], multiplied with c_{u,m}, which is 0 without a user GRU


def start(shape: tuple[int, ...], entries: int) -> Past:
    """Return the past of users who have had nothing.

    Args:
        shape: (B,), or (S, B) with a seed axis.
        entries: R.
    """

    def filled(value: int, *more: int) -> np.ndarray:
        return np.full((*shape, *more), value, np.int32)

    return Past(
        item=filled(NO_ITEM, entries),
        count=filled(0, entries),
        event=filled(0, entries),
        session=filled(0, entries),
        events=filled(0),
        sessions=filled(0),
        target=filled(NO_ITEM),
    )


def init_weights(units: int) -> Weights:
    """Return weights of zero, H = `units`: training starts without a bonus."""
    return Weights(
        mean=jnp.zeros(FEATURES),
        by_session=jnp.zeros((units, FEATURES)),
        by_user=jnp.zeros((units, FEATURES)),
    )


def step(past: Past, steps: Steps) -> Past:
    """Add the events of one time step.

    The last item of a session is never an input, only the target of the input before it. It is
    added when the next session starts.

    Args:
        past: of B lanes.
        steps: one time step, [B] each.
    """
    fresh = start(steps.input.shape, past.item.shape[1])
    past = jax.tree.map(lambda new, old: where(steps.user_start, new, old), fresh, past)
    session_ended = steps.session_start & ~steps.user_start
    past = add(past, jnp.where(session_ended, past.target, NO_ITEM))
    past = add(past, steps.input, steps.session_start)
    target = jnp.where(steps.input != NO_ITEM, steps.target, past.target)
    return dataclasses.replace(past, target=target)


def items_after_steps(past: Past, steps: Steps) -> jax.Array:
    """Return the items of the past after each of T steps, [T, B, R]."""

    def body(past: Past, steps: Steps) -> tuple[Past, jax.Array]:
        past = step(past, steps)
        return past, past.item

    return jax.lax.scan(body, past, steps)[1]


def add(past: Past, item: jax.Array, opens: jax.Array | bool = False) -> Past:
    """Add one event to each user's past: for training, evaluation and live users alike.

    The event takes the entry of its item. If the item has none, it takes that of the item whose
    last event is the longest ago.

    Args:
        past: of B users.
        item: [B], NO_ITEM for users without an event.
        opens: [B] bool, the users whose event opens a session.
    """
    has_event = item != NO_ITEM
    events = past.events + has_event
    sessions = past.sessions + opens
    same = past.item == item[:, None]
    # All different, so that their minimum finds the entry: unlike argmin, it compiles to vector
    # instructions.
    entries = past.item.shape[1]
    order = jnp.where(same, -entries, entries * past.event) + jnp.arange(entries)[None]
    here = (order == order.min(axis=1, keepdims=True)) & has_event[:, None]
    count = jnp.where(same, past.count, 0) + 1

    def put(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(here, new, old)

    return dataclasses.replace(
        past,
        item=put(item[:, None], past.item),
        count=put(count, past.count),
        event=put(events[:, None], past.event),
        session=put(sessions[:, None], past.session),
        events=events,
        sessions=sessions,
    )


def recent_items(past: Past, last: int) -> jax.Array:
    """Return the last different items of the users' open sessions, the latest first.

    Args:
        past: of B users.
        last: how many items, at most R are returned.

    Returns:
        [B, min(last, R)], NO_ITEM where the session has fewer.
    """
    in_session = (past.item != NO_ITEM) & (past.session == past.sessions[:, None])
    last = min(last, past.item.shape[1])
    event = jnp.where(in_session, past.event, 0)  # all different, but for zeros
    items = []
    for _ in range(last):  # faster than top_k, which sorts
        latest = (event > 0) & (event == event.max(axis=1, keepdims=True))
        items.append(jnp.where(latest, past.item, NO_ITEM).min(axis=1))
        event = jnp.where(latest, 0, event)
    return jnp.stack(items, axis=1)


def pack(past: Past) -> jax.Array:
    """Return the past without its target as one array, the form in which live states keep it.

    Returns:
        [B, R + 1, 4] int32: the events and sessions so far and two zeros, then item, count, event
        and session of each entry.
    """
    none = jnp.zeros_like(past.events)
    so_far = jnp.stack([past.events, past.sessions, none, none], axis=1)
    entries = jnp.stack([past.item, past.count, past.event, past.session], axis=2)
    return jnp.concatenate([so_far[:, None], entries], axis=1)


def unpack(packed: jax.Array) -> Past:
    """Return the past that `pack` made one array [B, R + 1, 4] of, without a target."""
    item, count, event, session = jnp.moveaxis(packed[:, 1:], 2, 0)
    return Past(
        item=item,
        count=count,
        event=event,
        session=session,
        events=packed[:, 0, 0],
        sessions=packed[:, 0, 1],
        target=jnp.full(len(packed), NO_ITEM, jnp.int32),
    )


def bonus(weights: Weights, past: Past, hidden: jax.Array, user: jax.Array) -> jax.Array:
    """Return what is added to the scores of `past.item`.

    Args:
        weights: of the bonus.
        past: of B users.
        hidden: [B, H], the representation that is scored.
        user: [B, H], c_{u,m}.

    Returns:
        [B, R], 0 for unused entries.
    """
    of_state = hidden @ weights.by_session + user @ weights.by_user  # [B, F]
    values = jnp.einsum("brf,bf->br", features(past), weights.mean[None] + of_state)
    return jnp.where(past.item != NO_ITEM, values, 0.0)


def add_at(scores: jax.Array, item: jax.Array, value: jax.Array) -> jax.Array:
    """Add values [M] to the scores [V] of items [M].

    An item that occurs twice gets both values; NO_ITEM is passed over.
    """
    return scores.at[item].add(value, mode="drop")


def features(past: Past) -> jax.Array:
    """Return the features of each entry, [B, R, F], all of the order of 1.

    In this order: 1; log of the count; count per session; log(1 + age) / 3 and 1 / (1 + age), where
    age is the number of the user's events since; whether the age is 0; log(1 + sessions since);
    whether the session is the open one; whether it is the one before.
    """
    age = (past.events[:, None] - past.event).astype(jnp.float32)
    sessions_ago = (past.sessions[:, None] - past.session).astype(jnp.float32)
    count = past.count.astype(jnp.float32)
    columns = [
        jnp.ones_like(age),
        jnp.log(jnp.maximum(count, 1)),
        count / jnp.maximum(past.sessions[:, None], 1),
        jnp.log1p(age) / 3,
        1 / (1 + age),
        age == 0,
        jnp.log1p(sessions_ago),
        sessions_ago == 0,
        sessions_ago == 1,
    ]
    return jnp.stack([values.astype(jnp.float32) for values in columns], axis=1).mT
