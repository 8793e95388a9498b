"""Rank the test cases with a network: bootstrap the users' histories, then score (Section 4.3).

A test case is an event of a test session after its first. Its rank is 1 + the number of other
candidates that score above it. What is recommended are the candidates that score most.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from hrnn_jax import lanes, model, ranking, scoring
from hrnn_jax import log as log_lib


@dataclasses.dataclass(frozen=True)
class Config:
    """How test cases are ranked."""

    ties: ranking.Ties = "against"
    feed_last_item: bool = False  # as in training
    lanes: int = 256  # users bootstrapped side by side
    chunk_steps: int = 128  # steps of one compiled call
    # Scores held at a time, times 4 bytes: beyond 32 MB glibc maps them anew for every block, and
    # to touch new pages takes as long as to compute what they hold.
    score_values: int = 13 << 19
    cached_values: int = 1 << 18  # ... of them looked through at a time: what a core's cache holds


def rank(
    params: model.Params,
    log: log_lib.EventLog,
    *,
    model_config: model.Config,
    config: Config = Config(),
    candidates: np.ndarray | None = None,
    cutoffs: Sequence[int],
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> ranking.Ranking:
    """Rank the targets of `log.cases`, and count what is recommended in their place.

    The HRNNs and RNN Concat first replay the user's whole history, RNN the test session alone.
    candidates: items ranked against the target, all by default. on_cases: told as cases are done.
    """
    alone = model_config.variant == "rnn"
    tested = log.where(log.test if alone else np.isin(log.user, log.user[log.test]))
    positions = tested.cases
    result = np.zeros(len(positions), np.int32)
    shown = np.zeros((len(cutoffs), log.n_items), np.int64)
    # In order, so that of equal scores the lower item is recommended first.
    chosen = np.arange(log.n_items) if candidates is None else np.sort(candidates)
    ranked = scoring.deal(params.items, chosen)
    n_first = min(max(cutoffs), len(chosen))
    place = np.arange(n_first)[None]
    for events, at, hidden in _hidden(params, tested, model_config=model_config, config=config):
        found, first = _rank(
            params.items, ranked, hidden, at, tested.item[events], n_first=n_first, config=config
        )
        result[np.searchsorted(positions, events)] = found
        shown += ranking.count(first, np.broadcast_to(place, first.shape), cutoffs, log.n_items)
        on_cases(len(events))
    return ranking.Ranking(result, shown)


def _hidden(
    params: model.Params, log: log_lib.EventLog, *, model_config: model.Config, config: Config
) -> Iterator[tuple[np.ndarray, np.ndarray, jax.Array]]:
    """Yield case events [n], where their representations are [2, n], and those [T, B, H].

    The representation that predicts an event is at its step and lane of a chunk, on the device.
    """
    schedule = lanes.build(
        lanes.layout(log, model_config.variant), config.lanes, feed_last_item=config.feed_last_item
    )
    length = config.chunk_steps
    n_steps = -(-len(schedule.event) // length) * length
    steps = lanes.pad(schedule.steps, n_steps, schedule.steps.opening.shape[1])
    # The event predicted at [t, b]: a test case, unless RNN Concat enters a session there.
    predicted = np.where(schedule.steps.valid, schedule.event + 1, lanes.NO_EVENT)
    is_case = log.test & log.follows
    carry = jax.device_put(model.start((config.lanes,), model_config))
    for begin in range(0, len(predicted), length):
        part = jax.device_put(lanes.Steps(*(a[begin : begin + length] for a in steps)))
        carry, hidden = _bootstrap(params, carry, part, model_config=model_config)
        events = predicted[begin : begin + length]
        t, lane = np.nonzero((events != lanes.NO_EVENT) & is_case[events])
        if len(t):
            yield events[t, lane], np.stack([t, lane]).astype(np.int32), hidden


@functools.partial(jax.jit, static_argnames="model_config")
def _bootstrap(
    params: model.Params, carry: model.Carry, steps: lanes.Steps, *, model_config: model.Config
) -> tuple[model.Carry, jax.Array]:
    def body(carry: model.Carry, steps: lanes.Steps) -> tuple[model.Carry, jax.Array]:
        x = model.rows(params.items.item_in, steps.input)  # of a step: the chunk's are large
        return model.step(params.network, carry, x, steps, config=model_config)

    return jax.lax.scan(body, carry, steps)


def _rank(
    items: model.Items,
    ranked: scoring.Ranked,
    hidden: jax.Array,
    at: np.ndarray,
    target: np.ndarray,
    *,
    n_first: int,
    config: Config,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank n targets, [n], and find the items that come first, [n, n_first], block by block."""
    width = len(ranked.items)
    size = int(np.clip(config.score_values // width, 1, 1024))
    on_cpu = jax.default_backend() == "cpu"  # a GPU reads what it has just written as fast as any
    rows = int(np.clip(config.cached_values // width, 1, size)) if on_cpu else size
    size -= size % rows
    n = len(target)
    # What fills up the last block is ranked with it, and left out.
    cases = np.pad(np.stack([*at, target, ranked.column[target]]), [(0, 0), (0, -n % size)])
    found = [
        _rank_block(
            items,
            ranked.weights,
            hidden,
            jax.device_put(cases[:, begin : begin + size]),
            n_ranked=ranked.count,
            n_first=n_first,
            ties=config.ties,
            rows=rows,
        )
        for begin in range(0, n, size)
    ]
    rank, first = (np.concatenate(part)[:n] for part in zip(*jax.device_get(found), strict=True))
    return rank, ranked.items[first]


@functools.partial(jax.jit, static_argnames=("n_ranked", "n_first", "ties", "rows"))
def _rank_block(
    items: model.Items, weights: jax.Array, hidden: jax.Array, cases: jax.Array, **settings: Any
) -> tuple[jax.Array, jax.Array]:
    """cases: [4, n], where in `hidden` [T, B, H] the representations are, targets, columns."""
    t, lane, target, column = cases
    return scoring.rank(items, weights, hidden[t, lane], target, column, **settings)
