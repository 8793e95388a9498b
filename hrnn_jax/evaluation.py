"""Rank the test cases with a network: bootstrap the users' histories, then score (Section 4.3).

A test case is an event of a test session after its first. Its rank is 1 + the number of other
candidates that score above it. What is recommended are the candidates that score most.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import lanes, model, ranking
from hrnn_jax import log as log_lib


@dataclasses.dataclass(frozen=True)
class Config:
    """How test cases are ranked."""

    ties: ranking.Ties = "against"
    feed_last_item: bool = False  # as in training
    lanes: int = 256  # users bootstrapped side by side
    chunk_steps: int = 64  # steps of one compiled call
    score_values: int = 1 << 23  # scores held at a time; times 4 bytes


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
    column = np.full(log.n_items, len(chosen), np.int32)
    column[chosen] = np.arange(len(chosen))
    ranked = params.items
    if candidates is not None:
        ranked = jax.tree.map(lambda table: table[chosen], params.items)
    n_first = min(max(cutoffs), len(chosen))
    for events, hidden in _hidden(params, tested, model_config=model_config, config=config):
        target = tested.item[events]
        found, first = _rank(
            params.items, ranked, hidden, target, column[target], n_first=n_first, config=config
        )
        result[np.searchsorted(positions, events)] = found
        place = np.broadcast_to(np.arange(n_first), first.shape)
        shown += ranking.count(chosen[first], place, cutoffs, log.n_items)
        on_cases(len(events))
    return ranking.Ranking(result, shown)


def _hidden(
    params: model.Params, log: log_lib.EventLog, *, model_config: model.Config, config: Config
):
    """Yield (case events [n], representations [n, H] that predict them) as lanes reach them."""
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
            yield events[t, lane], np.asarray(jax.device_get(hidden))[t, lane]


@functools.partial(jax.jit, static_argnames="model_config")
def _bootstrap(
    params: model.Params, carry: model.Carry, steps: lanes.Steps, *, model_config: model.Config
) -> tuple[model.Carry, jax.Array]:
    x = model.rows(params.items.item_in, steps.input)
    return model.unroll(params.network, carry, x, steps, config=model_config)


def _rank(
    items: model.Items,
    ranked: model.Items,
    hidden: np.ndarray,
    target: np.ndarray,
    column: np.ndarray,
    *,
    n_first: int,
    config: Config,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank n targets in blocks of one static size: see `_rank_block`."""
    size = int(np.clip(config.score_values // len(ranked.item_bias), 1, 1024))
    result = np.empty(len(target), np.int32)
    first = np.empty((len(target), n_first), np.int32)
    for begin in range(0, len(target), size):
        block = [array[begin : begin + size] for array in (hidden, target, column)]
        n = len(block[0])
        padded = [np.pad(a, [(0, size - n)] + [(0, 0)] * (a.ndim - 1)) for a in block]
        found = _rank_block(
            items, ranked, *jax.device_put(padded), n_first=n_first, ties=config.ties
        )
        # What is padding ranks nothing and recommends nothing.
        result[begin : begin + n], first[begin : begin + n] = (a[:n] for a in jax.device_get(found))
    return result, first


@functools.partial(jax.jit, static_argnames=("n_first", "ties"))
def _rank_block(
    items: model.Items,
    ranked: model.Items,
    hidden: jax.Array,
    target: jax.Array,
    column: jax.Array,
    *,
    n_first: int,
    ties: ranking.Ties,
) -> tuple[jax.Array, jax.Array]:
    """Rank each target, [n], and find the columns of the `n_first` best scores, [n, n_first].

    A rank is found by counting, without sorting, the ranked items that score above the target.
    column: where the target stands among the `ranked`, or their number if it does not. Scores
    are before the output's tanh, which saturates: items of different scores would tie.
    """
    scores = hidden @ ranked.item_out.T + ranked.item_bias[None]
    n_ranked = scores.shape[1]
    # A target among the ranked is compared by the very number in its column: no rounding apart.
    inside = jnp.take_along_axis(scores, jnp.minimum(column, n_ranked - 1)[:, None], axis=1)
    outside = (hidden * items.item_out[target]).sum(axis=1) + items.item_bias[target]
    own = jnp.where((column < n_ranked)[:, None], inside, outside[:, None])
    # Written so that a score that is not a number counts against the model.
    above = ~(scores <= own) if ties == "for" else ~(scores < own)
    others = jnp.arange(n_ranked)[None] != column[:, None]
    return 1 + (above & others).sum(axis=1), jax.lax.top_k(scores, n_first)[1]
