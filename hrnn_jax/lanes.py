"""User-parallel mini-batches (Section 3.2.2, Figure 2) as precomputed numpy arrays."""

from __future__ import annotations

import dataclasses
import heapq
from typing import Any, NamedTuple

import numpy as np

from hrnn_jax import log as log_lib

NO_ITEM = int(np.iinfo(np.int32).max)  # beyond any catalogue: gathers fill it, scatters drop it
NO_EVENT = -1
Array = Any  # numpy on the host, jax on the device, where a type checker cannot tell
_WIDTH_MULTIPLE = 8  # W is rounded up to this, so that epochs rarely differ in it and recompile


class Steps(NamedTuple):
    """What the lanes see at each step; padding has no input, no target and starts nothing."""

    input: Array  # [T, B] int32 item fed, NO_ITEM for padding
    target: Array  # [T, B] int32 next item of the session, NO_ITEM where not valid
    session_start: Array  # [T, B] bool, the input is the first of its session
    user_start: Array  # [T, B] bool, the input is the first of its user
    valid: Array  # [T, B] bool, there is a target
    opening: Array  # [T, W] int32 lanes that open a session of a known user, then B, B, ...


@dataclasses.dataclass(frozen=True)
class Schedule:
    """An epoch: its steps, and which event of the log each input is."""

    steps: Steps
    event: np.ndarray  # [T, B] int32 index into the log of the input event, or NO_EVENT


def layout(log: log_lib.EventLog, variant: str) -> log_lib.EventLog:
    """Relabel users and sessions so that one schedule serves all variants (Section 4.2).

    RNN takes every session for a user of its own; RNN Concat takes all of a user's sessions for
    one. The HRNNs take the log as it is.
    """
    if variant == "rnn":
        return dataclasses.replace(log, user=log.session)
    if variant == "rnn_concat":
        return dataclasses.replace(log, session=log.user)
    return log


def build(
    log: log_lib.EventLog,
    batch_size: int,
    *,
    rng: np.random.Generator | None = None,
    feed_last_item: bool = False,
) -> Schedule:
    """Lay the users of `log` on `batch_size` lanes; each lane takes the next user when one ends.

    Every (item, next item) pair of every session occurs exactly once. `feed_last_item` also feeds
    a session's last item, without a target, if the user has another session. Users come in the
    order drawn from `rng`; without one, the longest first, which packs the lanes best.
    """
    follows = log.follows
    new_user = log.opens_user
    has_next = np.append(follows[1:], False)
    is_input = has_next.copy()
    if feed_last_item:
        is_input[:-1] |= ~new_user[1:]
    inputs = np.flatnonzero(is_input)  # event indices
    user = np.cumsum(new_user)[inputs] - 1
    counts = np.bincount(user)
    users = np.flatnonzero(counts)
    order = (
        np.argsort(-counts[users], kind="stable") if rng is None else rng.permutation(len(users))
    )
    lane, begin, n_steps = _assign(counts[users[order]], batch_size)

    lane_of = np.empty(len(counts), np.int64)
    begin_of = np.empty(len(counts), np.int64)
    lane_of[users[order]], begin_of[users[order]] = lane, begin
    first_input = np.cumsum(counts) - counts
    t = begin_of[user] + np.arange(len(inputs)) - first_input[user]
    event = np.full((n_steps, batch_size), NO_EVENT, np.int32)
    event[t, lane_of[user]] = inputs

    filled = event != NO_EVENT
    valid = filled & has_next[event]
    session_start = filled & ~follows[event]
    user_start = filled & new_user[event]
    steps = Steps(
        input=np.where(filled, log.item[event], NO_ITEM).astype(np.int32),
        target=np.where(valid, np.append(log.item, NO_ITEM)[event + 1], NO_ITEM).astype(np.int32),
        session_start=session_start,
        user_start=user_start,
        valid=valid,
        opening=opening_lanes(session_start & ~user_start),
    )
    return Schedule(steps, event)


def _assign(lengths: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Give each user in turn to the lane that is free first: its lane, its first step, and T."""
    free = [(0, lane) for lane in range(batch_size)]  # a heap of (step, lane)
    lane, begin = [], []
    for length in lengths.tolist():
        step, first = free[0]
        lane.append(first)
        begin.append(step)
        heapq.heapreplace(free, (step + length, first))
    return np.array(lane, np.int64), np.array(begin, np.int64), max(free)[0]


def opening_lanes(opens: np.ndarray) -> np.ndarray:
    """List at each step the lanes where `opens` [T, B] is true: [T, W], filled up with B.

    Only these lanes need the user GRU and Eq. 4, about one in six.
    """
    t, lane = np.nonzero(opens)
    counts = np.bincount(t, minlength=len(opens))
    width = -(-int(counts.max(initial=0)) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    lanes = np.full((len(opens), width), opens.shape[1], np.int32)
    lanes[t, np.arange(len(t)) - (np.cumsum(counts) - counts)[t]] = lane
    return lanes


def pad(steps: Steps, n_steps: int, width: int) -> Steps:
    """Pad to `n_steps` steps and `width` openings, T' >= T and W' >= W."""
    batch_size = steps.input.shape[1]
    after = n_steps - len(steps.input)
    empty = Steps(NO_ITEM, NO_ITEM, False, False, False, batch_size)
    columns = Steps(*[batch_size] * 5, opening=width)

    return Steps(
        *(
            np.pad(array, ((0, after), (0, to - array.shape[1])), constant_values=value)
            for array, to, value in zip(steps, columns, empty, strict=True)
        )
    )
