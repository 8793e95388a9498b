"""Rank the test cases with a network (Section 4.3).

A test case is a held-out event that follows another one in its session. First the users' histories
are replayed (the paper's bootstrapping), then the representation before each case is scored
against the items. The target's rank is 1 + the number of other candidates that score above it;
the candidates that score most are recommended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import (
    Params,
)
from hrnn_jax.ranking import topk
from hrnn_jax.ranking.metrics import Ranking, count_recommended
from hrnn_jax.ranking.replay import Seen, replay
from hrnn_jax.ranking.topk import RankedItems, RankSettings
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import FittedMixture
from hrnn_jax.training.user_batches import NO_ITEM

_used_places = jax.jit(histories.used_places)
_LISTED, _LISTED_ROWS = 64, 4  # cases of a call that lists items, and of these ranked at a time
_T = TypeVar("_T")


class _Scoring(NamedTuple):
    """What makes scores of the states of users."""

    ranked: RankedItems
    mixture: FittedMixture | None


class Cases(NamedTuple):
    """Test cases, n of them or in blocks."""

    target: np.ndarray | jax.Array  # [n] items
    excluded: np.ndarray | jax.Array | None  # [n, S] items that do not compete; NO_ITEM for none


class ToRank(NamedTuple):
    """The test cases of a log, N of them, and what they are ranked among."""

    log: EventLog  # of the users with a case
    cases: np.ndarray  # [N] events of `log`
    candidates: np.ndarray  # [M] items, ascending
    excluded: np.ndarray | None  # [N, S] see `Cases`
    n_first: int  # length of the lists

    def of(self, events: np.ndarray) -> Cases:
        """Return some of the cases, by their events."""
        row = np.searchsorted(self.cases, events)
        return Cases(self.log.item[events], None if self.excluded is None else self.excluded[row])


# Events [n] that were predicted, the ranks of their items [n], and lists of items [n, n_first].
RankedChunk = tuple[np.ndarray, np.ndarray, np.ndarray]


def rank(
    params: Params,
    log: EventLog,
    *,
    model_config: ModelConfig,
    mixture: FittedMixture | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    candidates: np.ndarray | None = None,
    on_cases: Callable[[int], None] = lambda n_cases: None,
) -> Ranking:
    """Rank the targets of `log.cases` and count the recommended items.

    The HRNNs and RNN Concat first replay the user's whole history, RNN the session of the case
    alone.

    Args:
        params: the weights.
        log: the training events, which are the histories, and the test events.
        model_config: of the network.
        mixture: of a network with `places`.
        config: what competes and counts, and how much is computed at a time.
        candidates: the items to rank, by default those of `config`.
        on_cases: called with the number of cases that were ranked, each time some were.
    """
    given = to_rank(log, model_config, config, candidates)
    ranked = topk.arrange(params.items, given.candidates, whole=mixture is not None)
    scoring = _Scoring(ranked, mixture)

    def chunks() -> Iterator[RankedChunk]:
        for events, seen in replay(params, given.log, given.cases, model_config, config):
            part = given.of(events)
            yield events, *_rank_chunk(scoring, seen, part, given.n_first, config)

    return collect(given, chunks(), config, on_cases)


def to_rank(
    log: EventLog,
    model_config: ModelConfig,
    config: EvaluationConfig,
    candidates: np.ndarray | None = None,
) -> ToRank:
    """Say what is to be ranked, see `rank`."""
    if candidates is None:
        candidates = log.most_supported(config.candidates)
    session_only = model_config.variant == "rnn"
    groups = log.session if session_only else log.user
    tested = log.where(np.isin(groups, groups[log.test]))
    cases = tested.cases
    return ToRank(
        log=tested,
        cases=cases,
        # So that of equal scores the lower item is recommended first.
        candidates=np.sort(candidates),
        excluded=tested.session_items(cases) if config.exclude_session_items else None,
        n_first=min(max(config.cutoffs), len(candidates)),
    )


def collect(
    given: ToRank,
    chunks: Iterator[RankedChunk],
    config: EvaluationConfig,
    on_cases: Callable[[int], None],
) -> Ranking:
    """Collect the ranks of all cases, and count what is recommended, see `rank`."""
    cutoffs, n_items = config.cutoffs, given.log.n_items
    ranks = np.zeros(len(given.cases), np.int32)
    shown = np.zeros((len(cutoffs), n_items), np.int64)
    for events, found, best in chunks:
        ranks[np.searchsorted(given.cases, events)] = found
        place = np.where(best == NO_ITEM, max(cutoffs), np.arange(best.shape[1]))
        shown += count_recommended(best, place, cutoffs, n_items)
        on_cases(len(events))
    return Ranking(ranks, shown)


def best(
    params: Params,
    log: EventLog,
    n_first: int,
    *,
    model_config: ModelConfig,
    mixture: FittedMixture | None = None,
    config: EvaluationConfig = EvaluationConfig(),
) -> tuple[np.ndarray, np.ndarray]:
    """List the items that score most right before each of `log.cases`, among all items.

    All events of the users with a test event are replayed, also those of a network without users.

    Args:
        params: the weights.
        log: the histories, and a test event for each case.
        n_first: length of the lists, at most V.
        model_config: of the network.
        mixture: of a network with `places`.
        config: how much is computed at a time.

    Returns:
        Items and scores, [N, n_first] each, in the order of `topk.best`.
    """
    tested = log.where(np.isin(log.user, log.user[log.test]))
    cases = tested.cases
    items = np.zeros((len(cases), n_first), np.int32)
    scores = np.zeros((len(cases), n_first), np.float32)
    ranked = topk.arrange(params.items, np.arange(log.n_items))
    scoring = _Scoring(ranked, mixture)
    for events, seen in replay(params, tested, cases, model_config, config):
        row = np.searchsorted(cases, events)
        for begin in range(0, len(row), _LISTED):
            part = row[begin : begin + _LISTED]
            at = jax.device_put(np.arange(begin, begin + _LISTED))
            found = jax.device_get(_best_of(scoring, seen, at, n_first=n_first))
            items[part], scores[part] = found[0][: len(part)], found[1][: len(part)]
    return items, scores


@functools.partial(jax.jit, static_argnames="n_first")
def _best_of(
    scoring: _Scoring, seen: Seen, at: jax.Array, *, n_first: int
) -> tuple[jax.Array, jax.Array]:
    """List the best items of rows [n] of what was seen; those outside are any row."""
    here: Seen = jax.tree.map(lambda values: values[at], seen)
    mixed = mixtures.mixed(scoring.mixture, here.history)
    return topk.best(scoring.ranked, here.hidden, mixed, n_first=n_first, rows=_LISTED_ROWS)


def _put(arrays: _T, new: _T, i: jax.Array) -> _T:
    """Replace the arrays' values at index `i` of the first axis."""

    def put(all_: jax.Array, one: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(all_, one, i, axis=0)

    return jax.tree.map(put, arrays, new)


def _rank_chunk(
    scoring: _Scoring, seen: Seen, cases: Cases, n_first: int, config: EvaluationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the cases of the first rows of `seen` in one compiled call, see `_rank_blocks`."""
    n = len(cases.target)
    # By how many places they have used: a block costs as much as its case of the most.
    order = np.arange(n)
    if seen.history is not None:
        order = np.argsort(np.asarray(_used_places(seen.history))[:n], kind="stable")
    size, rows = block_size(len(scoring.ranked.item), config.score_values, config.cached_values)
    blocks = jax.device_put(in_blocks(cases, order, size, len(seen.hidden)))
    settings = RankSettings(n_first=n_first, ties=config.ties, rows=rows)
    found = _rank_blocks(scoring, seen, *blocks, settings=settings)
    ranks, best = jax.device_get(found)
    place = np.argsort(order)
    return ranks.reshape(-1)[place], best.reshape(-1, n_first)[place]


def block_size(n_ranked: int, score_values: int, cached_values: int) -> tuple[int, int]:
    """Return how many cases are scored at a time, and how many of these are ranked at a time.

    Args:
        n_ranked: items M that are scored.
        score_values: scores held at a time.
        cached_values: of these, ranked at a time.
    """
    # On a CPU, larger products are no faster, and a chunk's last block has more padding. Elsewhere
    # a block is ranked all at once: many small steps would wait.
    on_cpu = jax.default_backend() == "cpu"
    size = _power_of_two(np.clip(score_values // n_ranked, 1, 128 if on_cpu else 1024))
    rows = _power_of_two(np.clip(cached_values // n_ranked, 1, size)) if on_cpu else size
    return size, rows


def in_blocks(
    cases: Cases, order: np.ndarray, size: int, n_rows: int
) -> tuple[Cases, np.ndarray, np.int32]:
    """Put cases in blocks, as many for every chunk.

    Args:
        cases: n of them.
        order: [n] in which they are ranked.
        size: of a block.
        n_rows: the most cases of a chunk.

    Returns:
        The cases and `order`, [N, size] each, and the number of blocks that have any.
    """
    n, limit = len(order), -(-n_rows // size)

    def cut(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(0, limit * size - n), *[(0, 0)] * (values.ndim - 1)])
        return padded.reshape(limit, size, *values.shape[1:])

    sorted_: Cases = jax.tree.map(lambda values: values[order], cases)
    blocks = jax.tree.map(cut, (sorted_, order.astype(np.int32)))
    return *blocks, np.int32(-(-n // size))


def _power_of_two(limit: int) -> int:
    """Return the largest up to `limit`: such products are fastest, and such sizes divide evenly."""
    return 1 << (int(limit).bit_length() - 1)


@functools.partial(jax.jit, static_argnames="settings")
def _rank_blocks(
    scoring: _Scoring,
    seen: Seen,
    cases: Cases,
    rows: jax.Array,
    n_blocks: jax.Array,
    *,
    settings: RankSettings,
) -> tuple[jax.Array, jax.Array]:
    """Rank the first `n_blocks` of N blocks of n cases, of the rows [N, n] of `seen`.

    One call for all blocks, which share the memory of their scores: to allocate that anew takes as
    long as to compute them. Returns the ranks [N, n] and the recommended items [N, n, n_first].
    """
    limit, size = cases.target.shape

    def block(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        here: Seen = jax.tree.map(lambda values: values[rows[i]], seen)
        mixed = mixtures.mixed(scoring.mixture, here.history, in_parts=True)
        target, excluded = jax.tree.map(lambda values: values[i], cases)
        new = topk.rank(scoring.ranked, here.hidden, target, mixed, settings, excluded=excluded)
        return _put(found, new, i)

    none = (
        jnp.zeros((limit, size), jnp.int32),
        jnp.zeros((limit, size, settings.n_first), jnp.int32),
    )
    return jax.lax.fori_loop(0, n_blocks, block, none)
