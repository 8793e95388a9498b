"""The user's own past as candidates: which of the items that a user has had come again.

Not in the paper. Added to the scores of the last R different items of a user is a bonus, what is
known of the item (how often and how long ago the user had it, in which session) times weights that
depend on the session's and the user's state: these tell repeating from exploring. Where a repeat is
unlikely, as in a basket, the bonus is negative.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.user_batches import NO_ITEM, Array, Steps

FEATURES = 9


@struct.dataclass
class Past:
    """What the lanes' users have had, all events so far included."""

    item: Array  # [B, R] int32, NO_ITEM where a slot is empty
    count: Array  # [B, R] int32 events of the item, since it has the slot
    event: Array  # [B, R] int32 the last of them, of the user's events from 1
    session: Array  # [B, R] int32 its session, of the user's from 1
    events: Array  # [B] int32 so far
    sessions: Array  # [B] int32 so far
    target: Array  # [B] int32 the next event's item, if the session has one


@struct.dataclass
class Weights:
    """What the bonus is made with."""

    mean: Array  # [F]
    by_session: Array  # [H, F], with the state of the uppermost layer
    by_user: Array  # [H, F], with c_{u,m}; zero of no effect where there is no user GRU


def start(shape: tuple[int, ...], slots: int) -> Past:
    """Return the past of users who have had nothing. shape: (B,) or (S, B)."""

    def filled(value: int, *more: int) -> np.ndarray:
        return np.full((*shape, *more), value, np.int32)

    return Past(
        item=filled(NO_ITEM, slots),
        count=filled(0, slots),
        event=filled(0, slots),
        session=filled(0, slots),
        events=filled(0),
        sessions=filled(0),
        target=filled(NO_ITEM),
    )


def init(units: int) -> Weights:
    """Return weights of no effect: the bonus is learnt from nothing."""
    return Weights(
        mean=jnp.zeros(FEATURES),
        by_session=jnp.zeros((units, FEATURES)),
        by_user=jnp.zeros((units, FEATURES)),
    )


def step(past: Past, steps: Steps) -> Past:
    """Take in what the lanes see at one time, [B] each.

    The last item of a session is no input, but the target of the input before: it is added when
    the next session starts.
    """
    fresh = start(steps.input.shape, past.item.shape[1])
    past = jax.tree.map(lambda new, old: _where(steps.user_start, new, old), fresh, past)
    known = steps.session_start & ~steps.user_start
    past = add(past, jnp.where(known, past.target, NO_ITEM))
    past = dataclasses.replace(past, sessions=past.sessions + steps.session_start)
    past = add(past, steps.input)
    target = jnp.where(steps.input != NO_ITEM, steps.target, past.target)
    return dataclasses.replace(past, target=target)


def unroll(past: Past, steps: Steps) -> jax.Array:
    """Return the items of the past after each of T steps, [T, B, R]."""

    def body(past: Past, steps: Steps) -> tuple[Past, jax.Array]:
        past = step(past, steps)
        return past, past.item

    return jax.lax.scan(body, past, steps)[1]


def add(past: Past, item: jax.Array) -> Past:
    """Add an event of an item [B] to each user's past, none where it is NO_ITEM.

    It takes the slot of its item or, if there is none, the one whose item was had longest ago.
    """
    there = item != NO_ITEM
    events = past.events + there
    same = past.item == item[:, None]
    slot = jnp.where(same.any(axis=1), same.argmax(axis=1), past.event.argmin(axis=1))
    here = (jnp.arange(past.item.shape[1])[None] == slot[:, None]) & there[:, None]
    count = jnp.where(same, past.count, 0) + 1

    def put(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(here, new, old)

    return dataclasses.replace(
        past,
        item=put(item[:, None], past.item),
        count=put(count, past.count),
        event=put(events[:, None], past.event),
        session=put(past.sessions[:, None], past.session),
        events=events,
    )


def recent(past: Past, last: int) -> jax.Array:
    """Return the last different items of the open sessions, the very last first, [B, last].

    NO_ITEM where there are fewer, [B, R] where the past holds fewer.
    """
    here = (past.item != NO_ITEM) & (past.session == past.sessions[:, None])
    event, slot = jax.lax.top_k(jnp.where(here, past.event, 0), min(last, past.item.shape[1]))
    return jnp.where(event > 0, jnp.take_along_axis(past.item, slot, axis=1), NO_ITEM)


def pack(past: Past) -> jax.Array:
    """Return the past without its target as one array, [B, R + 1, 4] int32, to keep it.

    First events and sessions so far, then for each slot item, count, event and session.
    """
    none = jnp.zeros_like(past.events)
    so_far = jnp.stack([past.events, past.sessions, none, none], axis=1)
    slots = jnp.stack([past.item, past.count, past.event, past.session], axis=2)
    return jnp.concatenate([so_far[:, None], slots], axis=1)


def unpack(packed: jax.Array) -> Past:
    """Undo `pack`."""
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
    """Return what is added to the scores of `past.item`, [B, R]; 0 for empty slots.

    hidden: [B, H], what is scored; user: [B, H].
    """
    of_state = hidden @ weights.by_session + user @ weights.by_user  # [B, F]
    found = jnp.einsum("brf,bf->br", features(past), weights.mean[None] + of_state)
    return jnp.where(past.item != NO_ITEM, found, 0.0)


def onto(scores: jax.Array, item: jax.Array, more: jax.Array) -> jax.Array:
    """Add to the scores [V] of some items [M]: all of it where one comes twice, none to NO_ITEM."""
    return scores.at[item].add(more, mode="drop")


def features(past: Past) -> jax.Array:
    """Describe each slot, [B, R, F], in numbers of about 1."""
    age = (past.events[:, None] - past.event).astype(jnp.float32)
    sessions_ago = (past.sessions[:, None] - past.session).astype(jnp.float32)
    count = past.count.astype(jnp.float32)
    described = [
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
    return jnp.stack([values.astype(jnp.float32) for values in described], axis=1).mT


def _where(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Choose by lane: mask [B], values [B, ...]."""
    return jnp.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)
