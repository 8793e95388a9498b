"""The network for many live users at once, in compiled programs of a few fixed widths.

A batch of users is padded to the next of the widths, so that nothing is compiled while requests
wait. The computation is that of training and evaluation, `model.step`.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model
from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time
from hrnn_jax.live.item_index import LONGEST, MEASURED_USERS, ItemIndex
from hrnn_jax.precision import check_precision
from hrnn_jax.ranking import topk
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import FittedMixture
from hrnn_jax.training.user_batches import NO_ITEM, Array, Steps

WIDTHS = (1, 8, 64, 512)  # users of a call that advances states
# Users of a call that scores; the product with all items takes half of the time for one.
SCORED_WIDTHS = (1, 2, 8, 16)
LIST_LENGTHS = (16, 128, 1024)  # of the lists of best items, excluded ones included
CANDIDATE_COUNTS = (64, 1024, 16384)  # items of a call that scores candidates for one user
# Two places in the first row of a packed past: whether the last item waits to be added, and its
# Unix minute. `OPENS` is for the first item of a session, `INSIDE` for another.
WAITS, MINUTE = (0, 8), (0, 9)
INSIDE, OPENS = 1, 2
Ranked = tuple[np.ndarray, np.ndarray]  # items and their scores, best first
# From the catalogue, the mixture and representations of users to an index.
MakeIndex = Callable[[model.Items, mixtures.Mixture | None, np.ndarray], ItemIndex]
_NO_PAST = (0, 4)  # the shape that state files have of a network without places
_ROWS = 4  # users whose scores are compared at a time; they fit into the cache of a core


class LiveState(NamedTuple):
    """The state of a live user as the model needs it.

    The last item is not part of the carry and the past yet: it is fed when the next event comes,
    which tells whether the item was the last of its session.
    """

    carry: np.ndarray  # [L + 1, H] float32: the layers of GRU_ses, then GRU_usr
    past: np.ndarray  # [R + 48, 11] int32, see history.pack and `WAITS`; empty if unused
    item: int  # index of the last item, NO_ITEM before the first event
    opens_session: bool  # Eq. 3 and 4 come before the last item
    gap: int  # class of the idle time before the last item, see idle_time.py
    fed: bool  # an item has been fed to the carry
    ended: bool = False  # the last item's session is over, so that the next event opens one


class Anatomy(NamedTuple):
    """What the scores of all V items are made of, for one user."""

    products: np.ndarray  # [V] of the representation and each item's output row
    bias: np.ndarray  # [V]
    weights: mixtures.Mixture | None  # of a network with `places`
    terms: mixtures.Terms | None  # of the user, without the axis of users


class Query(NamedTuple):
    """A list of items to make for one user."""

    state: LiveState
    k: int  # items; fewer are returned where no more are left
    excluded: set[int]  # items to leave out
    candidates: set[int] | None  # score only these items


class _Batch(NamedTuple):
    """The states of W users as arrays."""

    carry: Array  # [W, L + 1, H] float32
    past: Array  # [W, R + 48, 11] int32
    item: Array  # [W] int32
    gap: Array  # [W] int8
    opening: Array  # [W] int32, as in user_batches.Steps


class _Network(NamedTuple):
    """The weights on the device, and the items in the order in which they are scored."""

    params: model.Params
    mixture: FittedMixture | None  # of a network with `places`
    ranked: topk.RankedItems  # the whole catalogue


class BatchedModel:
    """A trained network on the device, for any number of users at once."""

    def __init__(
        self,
        params: model.Params,
        config: ModelConfig,
        mixture: FittedMixture | None = None,
        *,
        make_index: MakeIndex | None = None,
    ):
        """Order the items for scoring.

        Args:
            params: the weights.
            config: of the network.
            mixture: of a network with `places`.
            make_index: makes the index that finds the best items; None to score all items.
        """
        check_precision()
        self.config = config
        carry = np.zeros((config.layers + 1, config.hidden_units), np.float32)
        past = np.zeros(_NO_PAST, np.int32)
        if config.places:
            nothing = jax.tree.map(jnp.asarray, histories.start((1,), config.places))
            [past] = np.asarray(histories.pack(nothing))
        # The state of a user without an event.
        self.start = LiveState(
            carry, past, NO_ITEM, opens_session=False, gap=idle_time.NONE, fed=False
        )
        ranked = topk.arrange(params.items, np.arange(config.n_items), by_unit=True)
        self._network = _Network(params, jax.device_put(mixture), ranked)
        self.index: ItemIndex | None = None
        if make_index:
            weights = None if mixture is None else mixture.weights
            self.index = make_index(params.items, weights, self._newcomers())

    def _newcomers(self) -> np.ndarray:
        """Return the representations of users with one event each, of items drawn."""
        rng = np.random.default_rng(0)
        items = rng.integers(self.config.n_items, size=MEASURED_USERS).tolist()
        states = [self.start._replace(item=item) for item in items]
        program = functools.partial(_represented, self._network, config=self.config)
        return self._call(program, states, WIDTHS)[0]

    def advance(self, states: Sequence[LiveState]) -> np.ndarray:
        """Feed each state its last item.

        Returns:
            The carries after it, [n, L + 1, H].
        """
        step = functools.partial(_advance, self._network.params, config=self.config)
        return self._call(step, states, WIDTHS)

    def add_to_past(self, states: Sequence[LiveState]) -> np.ndarray:
        """Add the last item of each state to its past, where it waits to be added.

        Returns:
            The pasts after it, [n, R + 48, 11]; empty ones for a network that does not use them.
        """
        if not self.config.places:
            return np.stack([state.past for state in states])
        return self._call(_add_to_past, states, WIDTHS)

    def with_waiting(self, past: np.ndarray, time: float, *, opens: bool) -> np.ndarray:
        """Return a past after which an item waits to be added.

        Args:
            past: [R + 48, 11], or empty.
            time: of the item, in Unix seconds.
            opens: whether the item is the first one of its session.
        """
        past = past.copy()
        if self.config.places:
            past[WAITS], past[MINUTE] = OPENS if opens else INSIDE, math.floor(time / 60)
        return past

    def list_length(self, n_first: int) -> int:
        """Return the length of the compiled list that holds the first `n_first` items."""
        return min([n for n in LIST_LENGTHS if n >= n_first] + [self.config.n_items])

    def best(self, states: Sequence[LiveState], length: int) -> Ranked:
        """Find the items of the highest scores after the last item.

        Args:
            states: of n users.
            length: of the lists, as `list_length` returns it.

        Returns:
            Items and scores, [n, length] each, the highest score first, and of equal scores the
            lower item. Scores are those that evaluation ranks, before the output's tanh. An index
            may find fewer items, and leave out some of the best; the other scores are then -inf.
        """
        if self.index and length <= LONGEST and length < self.config.n_items:
            found = functools.partial(self._found_by, self.index, length=length)
            return self._call(found, states, SCORED_WIDTHS)
        program = functools.partial(_best, self._network, config=self.config, n_first=length)
        return self._call(program, states, SCORED_WIDTHS)

    def _found_by(self, index: ItemIndex, users: _Batch, *, length: int) -> Ranked:
        hidden, terms = jax.device_get(_represented(self._network, users, config=self.config))
        return index.best(hidden, terms, length)

    def rank(self, queries: Sequence[Query]) -> list[Ranked]:
        """Return the best items and their scores for each query.

        Returns:
            Item indices and scores, in the order of `best`; both have k places or fewer.
        """
        lists: list[Ranked] = [(np.empty(0, np.int32), np.empty(0))] * len(queries)
        by_length: dict[int, list[int]] = collections.defaultdict(list)
        for n, query in enumerate(queries):
            if query.candidates is None:
                by_length[self.list_length(query.k + len(query.excluded))].append(n)
            elif candidates := sorted(query.candidates - query.excluded):
                items = np.array(candidates, np.int32)
                scores = self._score(query.state, items)
                order = np.argsort(-scores, kind="stable")[: query.k]
                order = order[scores[order] > -np.inf]
                lists[n] = items[order], scores[order]
        for length, group in by_length.items():
            best = self.best([queries[n].state for n in group], length)
            for n, items, scores in zip(group, *best, strict=True):
                query = queries[n]
                can_be = ~np.isin(items, list(query.excluded)) & (scores > -np.inf)
                kept = np.flatnonzero(can_be)[: query.k]
                lists[n] = items[kept], scores[kept]
        return lists

    def anatomy(self, state: LiveState) -> Anatomy:
        """Return what the scores after the last item are made of."""
        program = functools.partial(_anatomy, self._network, config=self.config)
        products, terms = self._call(program, [state], WIDTHS)
        bias = np.asarray(self._network.params.items.item_bias)
        mixture = self._network.mixture
        of_user = jax.tree.map(lambda values: values[0], terms)
        weights = None if mixture is None else jax.device_get(mixture.weights)
        return Anatomy(products[0], bias, weights, of_user)

    def warm_up(self, k: int = 10) -> None:
        """Compile the programs for lists of up to k items, with as many excluded items."""
        for width in WIDTHS:
            self.advance([self.start] * width)
            self.add_to_past([self.start] * width)
        for width in SCORED_WIDTHS:
            for length in self._list_lengths(_usual(k)):
                self.best([self.start] * width, length)

    def rare_programs(self, k: int = 10) -> list[Callable[[], object]]:
        """Return calls that compile what `warm_up` leaves out: longer lists, and candidates.

        Args:
            k: that `warm_up` had.

        Returns:
            A call for each program that any query can reach, those of fewer items first, and
            that of `anatomy`.
        """
        n_items = self.config.n_items
        smaller = (0, *CANDIDATE_COUNTS)
        programs: list[tuple[int, Callable[[], object]]] = [
            (count, functools.partial(self._score, self.start, np.zeros(count, np.int32)))
            for count, before in zip(CANDIDATE_COUNTS, smaller, strict=False)
            if before < n_items
        ]
        for length in self._list_lengths(n_items) - self._list_lengths(_usual(k)):
            for width in SCORED_WIDTHS:
                states = [self.start] * width
                programs.append((length, functools.partial(self.best, states, length)))
        likely = [program for _, program in sorted(programs, key=lambda pair: pair[0])]
        return [*likely, functools.partial(self.anatomy, self.start)]

    def _list_lengths(self, n_first: int) -> set[int]:
        """Return the lengths of the lists that hold up to `n_first` items."""
        return {self.list_length(n) for n in (*LIST_LENGTHS, n_first) if n <= n_first}

    def _score(self, state: LiveState, items: np.ndarray) -> np.ndarray:
        """Score some items, [n] indices, for one user: [n]."""
        scores: list[np.ndarray] = []
        for begin in range(0, len(items), CANDIDATE_COUNTS[-1]):
            part = items[begin : begin + CANDIDATE_COUNTS[-1]]
            count = next(n for n in CANDIDATE_COUNTS if n >= len(part))
            padded = np.pad(part, (0, count - len(part)))
            program = functools.partial(_score, self._network, padded, config=self.config)
            scores.append(self._call(program, [state], WIDTHS)[0, : len(part)])
        return np.concatenate(scores)

    def _call(
        self, program: Callable[[_Batch], Any], states: Sequence[LiveState], widths: Sequence[int]
    ) -> Any:
        """Call a program with padded batches of states; return its arrays, a row for each state."""
        results: list[Any] = []
        for begin in range(0, len(states), widths[-1]):
            part = states[begin : begin + widths[-1]]
            width = next(width for width in widths if width >= len(part))
            results.append(program(_batch_of([*part, *[self.start] * (width - len(part))])))
        # Only the last batch has padding.
        return jax.tree.map(
            lambda *parts: np.concatenate(parts)[: len(states)], *jax.device_get(results)
        )


def _batch_of(states: Sequence[LiveState]) -> _Batch:
    """Return states as arrays."""
    width = len(states)
    opening = np.arange(width, 2 * width, dtype=np.int32)
    opened = [place for place, state in enumerate(states) if state.opens_session]
    opening[: len(opened)] = opened
    return _Batch(
        carry=np.stack([state.carry for state in states]),
        past=np.stack([state.past for state in states]),
        item=np.array([state.item for state in states], np.int32),
        gap=np.array([state.gap for state in states], np.int8),
        opening=opening,
    )


def _step(
    params: model.Params, users: _Batch, *, config: ModelConfig
) -> tuple[model.Carry, jax.Array]:
    """Feed each user the last item: the state after it, and the representation to score [W, H]."""
    no, width = jnp.zeros(len(users.item), bool), len(users.item)
    steps = Steps(
        input=users.item,
        target=jnp.full(width, NO_ITEM, jnp.int32),
        session_start=no,
        user_start=no,
        valid=no,
        time=jnp.zeros(width, jnp.int32),
        gap=users.gap,
        opening=users.opening,
    )
    before = model.Carry(
        session=tuple(users.carry[:, layer] for layer in range(config.layers)),
        user=users.carry[:, -1],
    )
    x = model.item_inputs(params.items, users.item)
    after, hidden = model.step(params.network, before, model.StepInputs(x, steps), config=config)
    # A user without an event is scored by a state of zeros: a step would add the cell's biases.
    has_item = (users.item != NO_ITEM)[:, None]
    return after, jnp.where(has_item, hidden, before.session[-1])


def _represent(
    network: _Network, users: _Batch, *, config: ModelConfig
) -> tuple[jax.Array, tuple[mixtures.Mixture, mixtures.Terms] | None]:
    """Return the representation to score, [W, H], and what a mixture adds to the scores."""
    _, hidden = _step(network.params, users, config=config)
    history = _history_with_last_item(users) if config.places else None
    return hidden, mixtures.mixed(network.mixture, history)


@functools.partial(jax.jit, static_argnames="config")
def _represented(
    network: _Network, users: _Batch, *, config: ModelConfig
) -> tuple[jax.Array, mixtures.Terms | None]:
    hidden, mixed = _represent(network, users, config=config)
    return hidden, None if mixed is None else mixed[1]


@functools.partial(jax.jit, static_argnames="config")
def _advance(params: model.Params, users: _Batch, *, config: ModelConfig) -> jax.Array:
    after, _ = _step(params, users, config=config)
    return jnp.stack([*after.session, after.user], axis=1)


def _usual(k: int) -> int:
    """Return the most items that lists of k are usually taken from: some are excluded."""
    return max(2 * k, LIST_LENGTHS[1])


@functools.partial(jax.jit, static_argnames=("config", "n_first"))
def _best(
    network: _Network, users: _Batch, *, config: ModelConfig, n_first: int
) -> tuple[jax.Array, jax.Array]:
    hidden, mixed = _represent(network, users, config=config)
    return topk.best(network.ranked, hidden, mixed, n_first=n_first, rows=_ROWS)


@functools.partial(jax.jit, static_argnames="config")
def _score(network: _Network, items: jax.Array, user: _Batch, *, config: ModelConfig) -> jax.Array:
    hidden, mixed = _represent(network, user, config=config)
    if mixed is not None:  # probabilities are of the whole catalogue
        return topk.all_scores(network.ranked, hidden, mixed)[:, network.ranked.column[items]]
    of_all = network.params.items
    return (of_all.item_out[items] @ hidden[0] + of_all.item_bias[items])[None]


@functools.partial(jax.jit, static_argnames="config")
def _anatomy(
    network: _Network, users: _Batch, *, config: ModelConfig
) -> tuple[jax.Array, mixtures.Terms | None]:
    hidden, mixed = _represent(network, users, config=config)
    return hidden @ network.params.items.item_out.T, None if mixed is None else mixed[1]


@jax.jit
def _add_to_past(users: _Batch) -> jax.Array:
    return histories.pack(_history_with_last_item(users))


def _history_with_last_item(users: _Batch) -> histories.History:
    waits, minute = (users.past[:, row, column] for row, column in (WAITS, MINUTE))
    item = jnp.where(waits > 0, users.item, NO_ITEM)
    return histories.add(histories.unpack(users.past), item, minute, waits == OPENS)
