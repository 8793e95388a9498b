"""User-parallel mini-batches (Section 3.2.2, Figure 2) as numpy arrays, laid out for a whole epoch.

A mini-batch has B lanes. Each lane holds one user at a time and steps through the events of the
user's sessions; when they end, the next user takes the lane. `layout` makes the same batches serve
RNN (one lane for each session) and RNN Concat.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import operator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from hrnn_jax.event_log import NO_ITEM, EventLog
from hrnn_jax.extras import idle_time

NO_EVENT = -1
Array = Any  # numpy on the host, jax on the device: a type checker cannot distinguish them
_SIGN_BIT = 31
_BLOCK_STEPS = 4096  # laid out at a time, which fits the cache
_WIDTH_MULTIPLE = 8  # W is rounded up to this, so that epochs rarely differ in it and recompile


class Steps(NamedTuple):
    """What the lanes read at each step; padding has no input, no target and starts nothing."""

    input: Array  # [T, B] int32 item, NO_ITEM for padding
    target: Array  # [T, B] int32 next item of the session, NO_ITEM where not valid
    session_start: Array  # [T, B] bool, the input is the first of its session
    user_start: Array  # [T, B] bool, the input is the first of its user
    valid: Array  # [T, B] bool, there is a target
    time: Array  # [T, B] int32 Unix minutes of the target; 0 for padding
    gap: Array  # [T, B] int8 class of the idle time before the input, see idle_time.py
    opening: Array  # [T, W] int32 lanes that open a known user's session, then B, B + 1, ...

    @property
    def opens(self) -> Array:
        """[T, B] bool, the input opens a session of a known user: Eq. 3 and 4."""
        return self.session_start & ~self.user_start

    def window(self, begin: int, end: int) -> Steps:
        """Return the steps from `begin` up to `end`, or up to the last one."""
        return Steps(*(array[begin:end] for array in self))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The steps of an epoch, and which event of the log each input is."""

    steps: Steps
    event: np.ndarray  # [T, B] int32 index into the log of the input event, or NO_EVENT


def layout(log: EventLog, variant: str) -> EventLog:
    """Relabel users and sessions so that the same batches serve all variants (Section 4.2).

    Args:
        log: any log.
        variant: of the network. For RNN every session is a user of its own. For RNN Concat all of a
            user's sessions are one session. The HRNNs use the log as it is.

    Returns:
        The relabelled log.
    """
    if variant == "rnn":
        return dataclasses.replace(log, user=log.session)
    if variant == "rnn_concat":
        return dataclasses.replace(log, session=log.user)
    return log


def build(
    log: EventLog,
    batch_size: int,
    *,
    rng: np.random.Generator | None = None,
    feed_last_item: bool = False,
) -> Schedule:
    """Lay out an epoch on lanes: a lane takes the next user when its user ends (Figure 2).

    Every (item, next item) pair of every session occurs exactly once. Lanes are numbered by how
    many steps they have, the longest first, so that those with a user are always the first ones:
    once no user is left to take the next free lane, a step can be computed for fewer lanes.

    Args:
        log: the events, relabelled by `layout`.
        batch_size: the lanes B.
        rng: draws the order of the users; without it the longest come first, which fills the lanes
            best.
        feed_last_item: whether a session's last item is an input too, without a target, if the
            user has another session.

    Returns:
        The schedule, of as many steps T as the fullest lane has.
    """
    users = _users(log, feed_last_item=feed_last_item)
    counts = np.diff(users.indptr)[:-1]
    padding = len(counts)
    order = np.flatnonzero(counts)
    lengths = counts[order]
    drawn = np.argsort(-lengths, kind="stable") if rng is None else rng.permutation(len(order))
    order, lengths = order[drawn], lengths[drawn]
    lane, filled = _assign(lengths, batch_size)
    n_steps = int(filled.max(initial=0))

    # Sorted by lane, each lane padded up to the last step.
    after = n_steps - filled
    lane = np.append(lane, np.repeat(np.arange(batch_size), after).astype(lane.dtype))
    order = np.append(order, np.full(after.sum(), padding))[np.argsort(lane, kind="stable")]
    laid = users[order]
    del users, order
    event = np.ascontiguousarray(laid.indices.reshape(batch_size, n_steps).T)
    words = laid.data.view(np.int32).reshape(batch_size, n_steps, 2)
    items, targets = np.empty_like(event), np.empty_like(event)
    session_start, user_start, valid = (np.empty(event.shape, bool) for _ in range(3))
    for begin in range(0, n_steps, _BLOCK_STEPS):
        at = slice(begin, begin + _BLOCK_STEPS)
        event[at] -= 1
        for column, (values, starts) in enumerate([(items, session_start), (targets, user_start)]):
            values[at] = words[:, at, column].T
            np.less(values[at], 0, out=starts[at])
            values[at] &= NO_ITEM
        np.not_equal(targets[at], NO_ITEM, out=valid[at])
    steps = Steps(
        input=items,
        target=targets,
        session_start=session_start,
        user_start=user_start,
        valid=valid,
        time=np.append(log.time[1:] // 60, [0, 0]).astype(np.int32)[event],  # NO_EVENT is the last
        gap=np.append(idle_time.before(log), np.int8(idle_time.NONE))[event],
        opening=opening_lanes(session_start & ~user_start),
    )
    return Schedule(steps, event)


def _users(log: EventLog, *, feed_last_item: bool) -> sparse.csr_array:
    """Make a sparse matrix with a row for each user and an entry for each input.

    A last row has one entry of padding. Rows are moved as blocks of memory, several times faster
    than events by their index. An entry's column is 1 + its event (NO_EVENT + 1 for padding). Its
    value is two words: the item, negative where it starts a session, and the target, negative where
    the input starts a user.
    """
    follows, new_user = log.follows, log.opens_user
    has_next = np.append(follows[1:], False)
    is_input = has_next.copy()
    if feed_last_item:
        is_input[:-1] |= ~new_user[1:]
    first = np.flatnonzero(new_user)
    # np.add.reduceat refuses an empty list of ranges.
    counts = np.add.reduceat(is_input, first, dtype=np.int32) if len(first) else first
    inputs = np.flatnonzero(is_input)
    words = np.full((len(inputs) + 1, 2), NO_ITEM, np.int32)
    item, target = words[:-1].T
    item[:] = np.take(log.item, inputs)
    target[:] = np.take(log.item, inputs + 1)
    if feed_last_item:
        target[~has_next[inputs]] = NO_ITEM
    # A user starts with their first input, which comes after the first event if that is alone in
    # its session: the state of the lane's user before would stay.
    starts_user = np.zeros(len(inputs), bool)
    starts_user[(np.cumsum(counts) - counts)[counts > 0]] = True
    for word, starts in ((item, np.take(~follows, inputs)), (target, starts_user)):
        word |= np.left_shift(starts, _SIGN_BIT, dtype=np.int32)
    columns = np.append(inputs, NO_EVENT).astype(np.int32)
    columns += 1
    bounds = np.concatenate([[0], np.cumsum(counts), [len(words)]]).astype(np.int32)
    values = words.view(np.int64)[:, 0]
    return sparse.csr_array((values, columns, bounds), shape=(len(counts) + 1, len(log) + 1))


def _assign(lengths: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Assign each user in turn to the lane that is free first; return the lanes and their steps.

    Without a Python statement for each user: a log may have millions, and for RNN each session is
    one.
    """
    free = list(range(batch_size))  # a heap of step * B + lane: the step from which each is free
    first = map(operator.itemgetter(0), itertools.repeat(free))
    after = map(operator.add, first, (lengths.astype(np.int64) * batch_size).data)
    taken = map(heapq.heapreplace, itertools.repeat(free), after)
    lane = np.fromiter(taken, np.int64, len(lengths)) % batch_size
    filled = np.zeros(batch_size, np.int64)
    for end in free:
        filled[end % batch_size] = end // batch_size
    longest_first = np.argsort(-filled, kind="stable")
    number = np.argsort(longest_first).astype(np.min_scalar_type(batch_size))
    return number[lane], filled[longest_first]


def opening_lanes(opens: np.ndarray) -> np.ndarray:
    """List the lanes that open a session: only these, about one in six, need Eq. 3 and 4.

    Args:
        opens: [T, B] bool, whether the lane opens a session of a known user.

    Returns:
        [T, W] int32, ascending, see `Steps.opening`.
    """
    counts = np.count_nonzero(opens, axis=1)
    width = -(-int(counts.max(initial=0)) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    lanes = _no_lanes(len(opens), opens.shape[1], width)
    if width:
        listed = np.flatnonzero(opens).astype(np.int32) % np.int32(opens.shape[1])
        np.place(lanes, np.arange(width) < counts[:, None], listed)
    return lanes


def pad(steps: Steps, n_steps: int, width: int) -> Steps:
    """Add steps of padding at the end, and give `opening` another number of places.

    Args:
        steps: T of them, with W places.
        n_steps: T' >= T.
        width: W', at least the lanes that open a session in any of the steps.

    Returns:
        The steps; arrays that need no padding are not copied.
    """
    after = n_steps - len(steps.input)
    if after:
        empty = Steps(NO_ITEM, NO_ITEM, False, False, False, 0, idle_time.NONE, opening=0)
        steps = Steps(
            *(
                np.pad(array, ((0, after), (0, 0)), constant_values=value)
                for array, value in zip(steps, empty, strict=True)
            )
        )
    if after or width != steps.opening.shape[1]:
        opening = _no_lanes(n_steps, steps.input.shape[1], width)
        n_filled, narrower = n_steps - after, min(width, steps.opening.shape[1])
        opening[:n_filled, :narrower] = steps.opening[:n_filled, :narrower]
        steps = steps._replace(opening=opening)
    return steps


def _no_lanes(n_steps: int, batch_size: int, width: int) -> np.ndarray:
    """Return B, B + 1, ... at each step, lanes that do not exist: [T, W]."""
    return np.tile(np.arange(batch_size, batch_size + width, dtype=np.int32), (n_steps, 1))
