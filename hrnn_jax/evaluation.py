"""Rank the test cases with a network (Section 4.3).

A test case is an event of a test session after its first. First the users' histories are replayed
(the paper's bootstrapping), then the representation before each case is scored against the items.
The target's rank is 1 + the number of other candidates that score above it; the candidates that
score most are recommended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import topk, user_batches
from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking, count_recommended
from hrnn_jax.model import Carry, Params, StepInputs, item_inputs, start_carry, step
from hrnn_jax.topk import Query, RankedItems, RankSettings
from hrnn_jax.user_batches import NO_EVENT, Steps


def rank(
    params: Params,
    log: EventLog,
    *,
    model_config: ModelConfig,
    table: item_neighbours.Table | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    candidates: np.ndarray | None = None,
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> Ranking:
    """Rank the targets of `log.cases` and count the recommended items.

    The HRNNs and RNN Concat first replay the user's whole history, RNN the test session alone.

    Args:
        params: the weights.
        log: the training events, which are the histories, and the test events.
        model_config: of the network.
        table: the neighbours of each item, for a network with `neighbours`.
        config: cutoffs, ties, number of candidates, and how much is computed at a time.
        candidates: the items to rank, by default those of `config`.
        on_cases: called with the number of cases that were ranked, each time some were.
    """
    cutoffs = config.cutoffs
    if candidates is None:
        candidates = log.most_supported(config.candidates)
    session_only = model_config.variant == "rnn"
    tested = log.where(log.test if session_only else np.isin(log.user, log.user[log.test]))
    cases = tested.cases
    ranks = np.zeros(len(cases), np.int32)
    shown = np.zeros((len(cutoffs), log.n_items), np.int64)
    # In ascending order, so that of equal scores the lower item is recommended first.
    ranked = topk.arrange(params.items, np.sort(candidates))
    for events, at, query in _queries(params, tested, model_config, config):
        at_and_target = np.stack([*at, tested.item[events]])
        found, best = _rank_chunk(ranked, table, query, at_and_target, config)
        ranks[np.searchsorted(cases, events)] = found
        place = np.broadcast_to(np.arange(best.shape[1]), best.shape)
        shown += count_recommended(best, place, cutoffs, log.n_items)
        on_cases(len(events))
    return Ranking(ranks, shown)


def _queries(
    params: Params, log: EventLog, model_config: ModelConfig, config: EvaluationConfig
) -> Iterator[tuple[np.ndarray, np.ndarray, Query]]:
    """Yield of each chunk the case events [n], their steps and lanes [2, n], and the queries.

    The query that predicts an event is at its step and lane in the arrays [T, B, ...] of the
    chunk's queries, on the device.
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
    carry = jax.device_put(start_carry((config.lanes,), model_config))
    for begin in range(0, len(predicted), length):
        part = jax.device_put(steps.window(begin, begin + length))
        carry, query = _bootstrap(params, carry, part, model_config=model_config)
        events = predicted[begin : begin + length]
        t, lane = np.nonzero((events != NO_EVENT) & is_case[events])
        if len(t):
            yield events[t, lane], np.stack([t, lane]).astype(np.int32), query


@functools.partial(jax.jit, static_argnames="model_config")
def _bootstrap(
    params: Params, carry: Carry, steps: Steps, *, model_config: ModelConfig
) -> tuple[Carry, Query]:
    """Replay a chunk of steps: return the state after it and the queries [T, B, ...]."""

    def body(carry: Carry, steps: Steps) -> tuple[Carry, Query]:
        x = item_inputs(params.items, steps.input)  # of one step: those of a chunk are large
        carry, hidden = step(params.network, carry, StepInputs(x, steps), config=model_config)
        return carry, topk.query(params.network, carry, hidden, model_config)

    return jax.lax.scan(body, carry, steps)


def _rank_chunk(
    ranked: RankedItems,
    table: item_neighbours.Table | None,
    query: Query,
    cases: np.ndarray,
    config: EvaluationConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the cases [3, n] of a chunk in one compiled call, see `_rank_blocks`."""
    n, n_ranked = cases.shape[1], len(ranked.item)
    size = _power_of_two(np.clip(config.score_values // n_ranked, 1, 1024))
    on_cpu = jax.default_backend() == "cpu"  # elsewhere all at once: many small steps would wait
    rows = _power_of_two(np.clip(config.cached_values // n_ranked, 1, size)) if on_cpu else size
    n_first = min(max(config.cutoffs), n_ranked)
    n_steps, n_lanes, _ = query.hidden.shape
    limit = -(-n_steps * n_lanes // size)  # blocks: the same number for every chunk
    blocks = np.pad(cases, [(0, 0), (0, limit * size - n)]).reshape(3, limit, size)
    blocks, n_blocks = jax.device_put((blocks, np.int32(-(-n // size))))
    settings = RankSettings(n_first=n_first, ties=config.ties, rows=rows)
    found = _rank_blocks(ranked, table, query, blocks, n_blocks, settings=settings)
    ranks, best = jax.device_get(found)
    return ranks.reshape(-1)[:n], best.reshape(-1, n_first)[:n]


def _power_of_two(limit: int) -> int:
    """Return the largest up to `limit`: such products are fastest, and such sizes divide evenly."""
    return 1 << (int(limit).bit_length() - 1)


@functools.partial(jax.jit, static_argnames="settings")
def _rank_blocks(
    ranked: RankedItems,
    table: item_neighbours.Table | None,
    query: Query,
    cases: jax.Array,
    n_blocks: jax.Array,
    *,
    settings: RankSettings,
) -> tuple[jax.Array, jax.Array]:
    """Rank the first `n_blocks` blocks of cases [3, N, n]: step and lane in `query`, target.

    One call for all blocks, which share the memory of their scores: to allocate that anew takes as
    long as to compute them. Returns the ranks [N, n] and the recommended items [N, n, n_first].
    """

    def block(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        t, lane, target = jax.lax.dynamic_index_in_dim(cases, i, axis=1, keepdims=False)
        here = jax.tree.map(lambda values: values[t, lane], query)
        bonus = topk.bonus(here, table, ranked)
        new = topk.rank(ranked, here.hidden, target, bonus, settings)
        return jax.tree.map(
            lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, i, axis=0), found, new
        )

    _, limit, size = cases.shape
    none = (
        jnp.zeros((limit, size), jnp.int32),
        jnp.zeros((limit, size, settings.n_first), jnp.int32),
    )
    return jax.lax.fori_loop(0, n_blocks, block, none)
