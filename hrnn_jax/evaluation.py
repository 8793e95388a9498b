"""Rank the test cases with a network: bootstrap the users' histories, then score (Section 4.3).

A test case is an event of a test session after its first. Its rank is 1 + the number of other
candidates that score above it. What is recommended are the candidates that score most.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model, topk, user_batches
from hrnn_jax.config import EvaluationConfig, ModelConfig, Ties
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours, user_past
from hrnn_jax.metrics import Ranking, count_recommended
from hrnn_jax.user_batches import NO_EVENT, Steps


def rank(
    params: model.Params,
    log: EventLog,
    *,
    model_config: ModelConfig,
    table: item_neighbours.Table | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    candidates: np.ndarray | None = None,
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> Ranking:
    """Rank the targets of `log.cases`, and count what is recommended in their place.

    The HRNNs and RNN Concat first replay the user's whole history, RNN the test session alone.
    table: neighbours of each item, for a network with `neighbours`. candidates: items ranked
    against the target, by default those of `config`. on_cases: told as cases are done.
    """
    cutoffs = config.cutoffs
    if candidates is None:
        candidates = log.most_supported(config.candidates)
    alone = model_config.variant == "rnn"
    tested = log.where(log.test if alone else np.isin(log.user, log.user[log.test]))
    positions = tested.cases
    result = np.zeros(len(positions), np.int32)
    shown = np.zeros((len(cutoffs), log.n_items), np.int64)
    # In order, so that of equal scores the lower item is recommended first.
    chosen = topk.deal(np.arange(log.n_items) if candidates is None else np.sort(candidates))
    column = np.full(log.n_items, len(chosen), np.int32)
    column[chosen] = np.arange(len(chosen))
    ranked = params.items.item_out[chosen], params.items.item_bias[chosen]
    columns = jax.device_put(column)
    n_first = min(max(cutoffs), len(chosen))
    place = np.arange(n_first)[None]
    for events, at, hidden in _hidden(params, tested, model_config=model_config, config=config):
        target = tested.item[events]
        cases = np.stack([*at, target, column[target]])
        found, first = _rank(
            params.items,
            table,
            ranked,
            columns,
            hidden,
            cases,
            n_first=n_first,
            config=config,
        )
        result[np.searchsorted(positions, events)] = found
        place_of = np.broadcast_to(place, first.shape)
        shown += count_recommended(chosen[first], place_of, cutoffs, log.n_items)
        on_cases(len(events))
    return Ranking(result, shown)


def _hidden(
    params: model.Params, log: EventLog, *, model_config: ModelConfig, config: EvaluationConfig
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple]]:
    """Yield case events [n], where their representations are [2, n], and those, see `_bootstrap`.

    The representation that predicts an event is at its step and lane of a chunk, on the device.
    """
    schedule = user_batches.build(
        user_batches.layout(log, model_config.variant),
        config.lanes,
        feed_last_item=model_config.feed_last_item,
    )
    length = config.chunk_steps
    n_steps = -(-len(schedule.event) // length) * length
    steps = user_batches.pad(schedule.steps, n_steps, schedule.steps.opening.shape[1])
    # The event predicted at [t, b]: a test case, unless RNN Concat enters a session there.
    predicted = np.where(schedule.steps.valid, schedule.event + 1, NO_EVENT)
    is_case = log.test & log.follows
    carry = jax.device_put(model.start_carry((config.lanes,), model_config))
    for begin in range(0, len(predicted), length):
        part = jax.device_put(steps.window(begin, begin + length))
        carry, hidden = _bootstrap(params, carry, part, model_config=model_config)
        events = predicted[begin : begin + length]
        t, lane = np.nonzero((events != NO_EVENT) & is_case[events])
        if len(t):
            yield events[t, lane], np.stack([t, lane]).astype(np.int32), hidden


@functools.partial(jax.jit, static_argnames="model_config")
def _bootstrap(
    params: model.Params,
    carry: model.Carry,
    steps: Steps,
    *,
    model_config: ModelConfig,
) -> tuple[model.Carry, tuple]:
    """Return what is scored at each time.

    The representations [T, B, H], what of the past is recalled, [T, B, R] each, and the last items
    whose neighbours gain, [T, B, L].
    """

    def body(carry: model.Carry, steps: Steps) -> tuple[model.Carry, tuple]:
        x = model.item_inputs(params.items, steps.input)  # of a step: the chunk's are large
        carry, hidden = model.step(params.network, carry, x, steps, config=model_config)
        recalled = model.past_bonus(params.network, carry, hidden)
        recent = None
        if carry.past is not None and model_config.neighbours:
            recent = user_past.recent_items(carry.past, item_neighbours.LAST)
        return carry, (hidden, recalled, recent)

    return jax.lax.scan(body, carry, steps)


def _rank(
    items: model.Items,
    table: item_neighbours.Table | None,
    ranked: tuple[jax.Array, jax.Array],
    columns: jax.Array,
    hidden: tuple,
    cases: np.ndarray,
    *,
    n_first: int,
    config: EvaluationConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank n cases in one compiled call: see `_rank_blocks`."""
    n, n_ranked = cases.shape[1], len(ranked[1])
    size = _power_of_two(np.clip(config.score_values // n_ranked, 1, 1024))
    on_cpu = jax.default_backend() == "cpu"  # elsewhere all at once: many small steps would wait
    rows = _power_of_two(np.clip(config.cached_values // n_ranked, 1, size)) if on_cpu else size
    n_steps, n_lanes, _ = hidden[0].shape
    limit = -(-n_steps * n_lanes // size) * size
    arguments = np.pad(cases, [(0, 0), (0, limit - n)]), np.int32(-(-n // size))
    found = _rank_blocks(
        items,
        table,
        ranked,
        columns,
        hidden,
        *jax.device_put(arguments),
        size=size,
        n_first=n_first,
        ties=config.ties,
        rows=rows,
    )
    rank, first = jax.device_get(found)
    return rank[:n], first[:n]


def _power_of_two(limit: int) -> int:
    """Return the largest up to `limit`: with them products are fastest, and divide evenly."""
    return 1 << (int(limit).bit_length() - 1)


@functools.partial(jax.jit, static_argnames=("size", "n_first", "ties", "rows"))
def _rank_blocks(
    items: model.Items,
    table: item_neighbours.Table | None,
    ranked: tuple[jax.Array, jax.Array],
    columns: jax.Array,
    hidden: tuple,
    cases: jax.Array,
    n_blocks: jax.Array,
    *,
    size: int,
    n_first: int,
    ties: Ties,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Rank the first blocks of cases [4, N]: step and lane in `hidden`, target, column.

    One call, in which all blocks share the memory of their scores: to get that anew takes as long
    as to compute them.
    """

    def block(i: jax.Array, found: tuple) -> tuple[jax.Array, jax.Array]:
        part = jax.lax.dynamic_slice_in_dim(cases, i * size, size, axis=1)
        t, lane, target, column = part
        representation, recalled, recent = jax.tree.map(lambda values: values[t, lane], hidden)
        bonus = topk.bonus(table, recalled, recent, columns)
        ranks = topk.rank(
            *(items, ranked, representation, target, column, bonus),
            n_first=n_first,
            ties=ties,
            rows=rows,
        )
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, i * size, axis=0),
            found,
            ranks,
        )

    n = cases.shape[1]
    none = jnp.zeros(n, jnp.int32), jnp.zeros((n, n_first), jnp.int32)
    return jax.lax.fori_loop(0, n_blocks, block, none)
