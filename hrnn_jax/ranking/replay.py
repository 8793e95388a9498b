"""Replay the users' histories up to the test cases (the paper's bootstrapping, Section 4.3)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.gru import where
from hrnn_jax.model import (
    Carry,
    DenseWeights,
    Params,
    StepInputs,
    item_inputs,
    start_carry,
    step,
)
from hrnn_jax.precision import check_precision
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore.history import History
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_EVENT, Steps

_LANES_MULTIPLE = 8
_PLACES_MULTIPLE = 16  # a vector of float32


class Seen(NamedTuple):
    """What predicts the next event of N users."""

    hidden: jax.Array  # [N, H] the representation that is scored
    history: History | None  # of a network with a mixture


def replay(
    params: Params,
    log: EventLog,
    predicted: np.ndarray,
    model_config: ModelConfig,
    config: EvaluationConfig,
) -> Iterator[tuple[np.ndarray, Seen]]:
    """Replay a log, and yield chunk by chunk what predicts some of its events.

    Args:
        params: the weights.
        log: the histories of users, from their first event.
        predicted: [N] events of the log, each of which follows another one in its session.
        model_config: of the network.
        config: how much is computed at a time.

    Yields:
        The predicted events [n], and what predicts them: the first n rows of arrays [N, ...] on the
        device. The next chunk's values replace these.
    """
    laid = lay_out(log, predicted, model_config, config)
    n_lanes = laid.steps.input.shape[1]
    history = jax.device_put(start_history(log, (n_lanes,), model_config))
    carry = jax.device_put(start_carry((n_lanes,), model_config))
    seen = Seen(carry.session[-1], history)
    seen = jax.tree.map(lambda a: jnp.zeros((laid.n_rows, *a.shape[1:]), a.dtype), seen)
    for steps, minute, row, events in laid.chunks(config.chunk_steps):
        part = jax.device_put((steps, minute, row))
        (carry, history), seen = _bootstrap(
            params, (carry, history), seen, *part, model_config=model_config
        )
        if len(events):
            yield events, seen


def start_history(
    log: EventLog, shape: tuple[int, ...], model_config: ModelConfig
) -> History | None:
    """Return the history of lanes before a log is replayed, None for a network without `places`.

    Args:
        log: that is replayed; there are no more places, and no longer trail, than its longest user
            can use: a history is copied for each case.
        shape: (B,) lanes.
        model_config: of the network.
    """
    if not model_config.places:
        return None
    users = user_batches.layout(log, model_config.variant).user
    # An event's place in the trail is its number, from 1.
    trail = _rounded_up(_longest(users) + 1, _PLACES_MULTIPLE, histories.TRAIL)
    return histories.start(shape, _places(users, model_config.places), trail)


class Laid(NamedTuple):
    """A log to be replayed, T steps of B lanes in whole chunks."""

    steps: Steps
    minute: np.ndarray  # [T, B] of the events
    row: np.ndarray  # [T, B] among the predicted events of its chunk; `n_rows` for none
    n_rows: int  # at least the predicted events of any chunk
    events: Sequence[np.ndarray]  # the predicted events of each chunk

    def chunks(self, length: int) -> Iterator[tuple[Steps, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield steps, minutes, rows and predicted events of each chunk of so many steps."""
        for number, events in enumerate(self.events):
            begin, end = number * length, (number + 1) * length
            part = slice(begin, end)
            yield self.steps.window(begin, end), self.minute[part], self.row[part], events


def lay_out(
    log: EventLog,
    predicted: np.ndarray,
    model_config: ModelConfig,
    config: EvaluationConfig,
    *,
    n_shards: int = 1,
) -> Laid:
    """Lay out a log to be replayed, see `replay`, on lanes of which each shard has as many."""
    check_precision()
    log_of_lanes = user_batches.layout(log, model_config.variant)
    n_lanes = -(-_lanes(log_of_lanes.user, config.lanes) // n_shards) * n_shards
    schedule = user_batches.build(log_of_lanes, n_lanes, feed_last_item=model_config.feed_last_item)
    length = config.chunk_steps
    n_steps = -(-len(schedule.event) // length) * length
    steps = user_batches.pad(schedule.steps, n_steps, schedule.steps.opening.shape[1])
    minute = np.append(log.time // 60, 0).astype(np.int32)[schedule.event]  # NO_EVENT is the last
    minute = np.pad(minute, [(0, n_steps - len(minute)), (0, 0)])
    # The event predicted at [t, b]: a chosen one, unless RNN Concat enters a session there.
    next_event = np.where(schedule.steps.valid, schedule.event + 1, NO_EVENT)
    is_chosen = np.zeros(len(log) + 1, bool)  # the last for NO_EVENT
    is_chosen[predicted] = True
    t, lane = np.nonzero(is_chosen[next_event])
    first = np.searchsorted(t, np.arange(0, n_steps + 1, length))  # of each chunk
    n_rows = 1 << (int(np.diff(first).max(initial=1)) - 1).bit_length()
    row = np.full((n_steps, n_lanes), n_rows, np.int32)  # outside: not kept
    row[t, lane] = np.arange(len(t)) - first[t // length]
    events = np.split(next_event[t, lane], first[1:-1])[: len(first) - 1]
    return Laid(steps, minute, row, n_rows, events)


def _lanes(user: np.ndarray, most: int) -> int:
    """Return how many lanes are worth computing: those that end with the longest user, or `most`.

    More lanes would save no steps, and be empty while the longest user's last events are replayed.
    """
    return _rounded_up(-(-len(user) // _longest(user)), _LANES_MULTIPLE, most)


def _places(user: np.ndarray, most: int) -> int:
    """Return how many places can be used: no more than the longest user has events."""
    return _rounded_up(_longest(user), _PLACES_MULTIPLE, most)


def _longest(user: np.ndarray) -> int:
    """Return the events of the user who has the most."""
    return int(np.unique(user, return_counts=True)[1].max(initial=1))


def _rounded_up(needed: int, multiple: int, most: int) -> int:
    return min(most, -(-needed // multiple) * multiple)


@functools.partial(jax.jit, static_argnames="model_config", donate_argnames=("states", "seen"))
def _bootstrap(
    params: Params,
    states: tuple[Carry, History | None],
    seen: Seen,
    steps: Steps,
    minute: jax.Array,
    row: jax.Array,
    *,
    model_config: ModelConfig,
) -> tuple[tuple[Carry, History | None], Seen]:
    """Replay a chunk of steps: return the states after it, and what was seen.

    What is seen after step t of lane b becomes row[t, b] of `seen`, if it has this row: a history
    is large. The memory of both is that of another chunk: new memory, which the operating system
    clears page by page, would take a fifth of a step with a history.
    """

    def body(
        i: jax.Array, so_far: tuple[tuple[Carry, History | None], Seen]
    ) -> tuple[tuple[Carry, History | None], Seen]:
        (carry, history), seen = so_far
        now: Steps = jax.tree.map(lambda values: values[i], steps)
        x = item_inputs(params.items, now.input)  # of one step: those of a chunk are large
        carry, hidden = advance(params.network, carry, StepInputs(x, now), model_config)
        if history is not None:
            history = histories.step(history, now, minute[i])
        seen = jax.tree.map(
            lambda all_, new: all_.at[row[i]].set(new, mode="drop"), seen, Seen(hidden, history)
        )
        return (carry, history), seen

    return jax.lax.fori_loop(0, len(steps.input), body, (states, seen))


def advance(
    network: DenseWeights, carry: Carry, inputs: StepInputs, model_config: ModelConfig
) -> tuple[Carry, jax.Array]:
    """Advance lanes by one event, see `model.step`; users start from zeros."""
    # `step` would pass on what the lane's previous user left.
    session = tuple(where(inputs.steps.user_start, 0.0, h) for h in carry.session)
    carry = dataclasses.replace(carry, session=session)
    return step(network, carry, inputs, config=model_config)
