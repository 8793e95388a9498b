"""A step and the scores of live users, in compiled programs of a few fixed widths.

However many users come at once, they are padded to one of WIDTHS: nothing is compiled while they
wait. What is computed is what training and evaluation compute: `model.step`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model, topk
from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time, item_neighbours, user_past
from hrnn_jax.user_batches import NO_ITEM, Steps

WIDTHS = (1, 8, 64, 512)  # users of a call that advances them
SCORED_WIDTHS = (2, 8, 64)  # ... that scores them (of one alone XLA makes a slow program)
FIRST = (16, 128, 1024)  # places of a list, those of what is left out of it included
SOME = (64, 1024, 16384)  # items that are scored alone, for one user
_ROWS = 4  # users whose scores are looked through at a time, which a core's cache holds


class Seen(NamedTuple):
    """What the model has seen of a user, and the last item, still to be fed.

    For it is fed when the next event comes, which tells whether it ended its session.
    """

    carry: np.ndarray  # [L + 1, H] float32: the layers of GRU_ses, then GRU_usr
    past: np.ndarray  # [R + 1, 4] int32, see past.pack: the item included; [0, 4] without a past
    item: int  # NO_ITEM for a user who has seen nothing
    opens: bool  # the item opens a session of a user with a history: Eq. 3 and 4 come first
    gap: int  # class of the idle time before the item, see gaps.py
    fed: bool  # the carry has been fed an item


class Users(NamedTuple):
    """The same of n users, as arrays."""

    carry: np.ndarray  # [n, L + 1, H]
    past: np.ndarray  # [n, R + 1, 4]
    item: np.ndarray  # [n] int32
    opens: np.ndarray  # [n] bool
    gap: np.ndarray  # [n] int8

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> Users:
        """Stack what was seen of several users, one at least."""
        carry, past, item, opens, gap, _ = zip(*seen, strict=True)
        return cls(
            carry=np.stack(carry),
            past=np.stack(past),
            item=np.array(item, np.int32),
            opens=np.array(opens),
            gap=np.array(gap, np.int8),
        )


class BatchedModel:
    """A trained network on the device, for any number of users at once."""

    def __init__(
        self,
        params: model.Params,
        config: ModelConfig,
        table: item_neighbours.Table | None = None,
    ):
        self.config = config
        carry = np.zeros((config.layers + 1, config.hidden_units), np.float32)
        nothing = np.zeros((0, 4), np.int32)
        if config.past:
            [nothing] = np.asarray(user_past.pack(user_past.start((1,), config.past)))
        # What was seen of a user who has seen nothing.
        self.start = Seen(carry, nothing, NO_ITEM, opens=False, gap=idle_time.NONE, fed=False)
        self._params = params
        self._table = table
        self._item_of = topk.deal(np.arange(config.n_items))  # [V] item of each column
        self._column_of = jnp.asarray(np.argsort(self._item_of), jnp.int32)  # [V]
        self._ranked = params.items.item_out[self._item_of], params.items.item_bias[self._item_of]

    def advance(self, users: Users) -> np.ndarray:
        """Feed each user the item: the carry after it, [n, L + 1, H]."""
        done = [
            np.asarray(_advance(self._params, padded, config=self.config))[:n]
            for padded, n in _parts(users, WIDTHS)
        ]
        return np.concatenate(done)

    def note(self, users: Users) -> np.ndarray:
        """Add the item to each user's past: [n, R + 1, 4] after it."""
        done = [np.asarray(_note(padded))[:n] for padded, n in _parts(users, WIDTHS)]
        return np.concatenate(done)

    def places(self, n_first: int) -> int:
        """Return how many places `best` looks for to find the first so many."""
        return min([n for n in FIRST if n >= n_first] + [self.config.n_items])

    def best(self, users: Users, places: int) -> tuple[np.ndarray, np.ndarray]:
        """Find which items score most after the item, and their scores: [n, places] each.

        The highest score comes first, of equal ones the lower item. Scores are before the output's
        tanh, as evaluation ranks them. places: as `places` gives them.
        """
        items, scores = [], []
        for padded, n in _parts(users, SCORED_WIDTHS):
            found = _best(
                *(self._params, self._table, self._ranked, self._column_of, padded),
                config=self.config,
                n_first=places,
            )
            columns, values = jax.device_get(found)
            items.append(self._item_of[columns[:n]])
            scores.append(values[:n])
        return np.concatenate(items), np.concatenate(scores)

    def score(self, user: Users, items: np.ndarray) -> np.ndarray:
        """Score some items after the item, [n] for one user, and no others."""
        scores = []
        for begin in range(0, len(items), SOME[-1]):
            part = items[begin : begin + SOME[-1]]
            some = np.zeros(next(size for size in SOME if size >= len(part)), np.int32)
            some[: len(part)] = part
            [(padded, _)] = _parts(user, WIDTHS)
            found = _score(
                *(self._params, self._table, self._ranked, self._column_of, padded, some),
                config=self.config,
            )
            scores.append(np.asarray(found)[: len(part)])
        return np.concatenate(scores)

    def warm_up(self, n_first: int) -> None:
        """Compile what `advance` and `note` need, and `best` for up to so many places."""
        for size in WIDTHS:
            users = Users.of([self.start] * size)
            self.advance(users)
            if self.config.past:
                self.note(users)
        for size in SCORED_WIDTHS:
            for places in {self.places(n) for n in (*FIRST, n_first) if n <= n_first}:
                self.best(Users.of([self.start] * size), places)


def _parts(users: Users, widths: Sequence[int]) -> Iterator[tuple[tuple, int]]:
    """Cut users into calls of a fixed width, and yield the arguments of each and its users.

    The lanes that open a session are listed as in `lanes.Steps`.
    """
    for begin in range(0, len(users.item), widths[-1]):
        part = Users(*(values[begin : begin + widths[-1]] for values in users))
        n = len(part.item)
        width = next(size for size in widths if size >= n)
        carry, past = (
            np.zeros((width, *some.shape[1:]), some.dtype) for some in (part.carry, part.past)
        )
        item = np.full(width, NO_ITEM, np.int32)
        gap = np.full(width, idle_time.NONE, np.int8)
        carry[:n], past[:n], item[:n], gap[:n] = part.carry, part.past, part.item, part.gap
        opening = np.arange(width, 2 * width, dtype=np.int32)
        opened = np.flatnonzero(part.opens)
        opening[: len(opened)] = opened
        yield (carry, past, item, gap, opening), n


def _step(
    params: model.Params, users: tuple, *, config: ModelConfig
) -> tuple[model.Carry, jax.Array]:
    """Feed each user the item: the state and what is scored after it."""
    carry, _, item, gap, opening = users
    no, width = jnp.zeros(len(item), bool), len(item)
    steps = Steps(
        input=item,
        target=jnp.full(width, NO_ITEM, jnp.int32),
        session_start=no,
        user_start=no,
        valid=no,
        time=jnp.zeros(width, jnp.int32),
        gap=gap,
        opening=opening,
    )
    before = model.Carry(
        session=tuple(carry[:, layer] for layer in range(config.layers)),
        user=carry[:, -1],
        past=None,  # is kept apart, for it knows of the last item
    )
    after, hidden = model.step(
        params.network, before, model.item_inputs(params.items, item), steps, config=config
    )
    # Who has seen nothing starts from zeros, and no bias is fed in place of an item.
    seen = (item != NO_ITEM)[:, None]
    return after, jnp.where(seen, hidden, before.session[-1])


def _represent(
    params: model.Params,
    table: item_neighbours.Table | None,
    users: tuple,
    columns: jax.Array,
    *,
    config: ModelConfig,
) -> tuple[jax.Array, topk.Bonus | None]:
    """Return what is scored after the item, [n, H], and what is added to the scores."""
    after, hidden = _step(params, users, config=config)
    _, packed, *_ = users
    if config.past:
        after = dataclasses.replace(after, past=user_past.unpack(packed))
    recalled = model.past_bonus(params.network, after, hidden)
    recent = None
    if after.past is not None and config.neighbours:
        recent = user_past.recent_items(after.past, item_neighbours.LAST)
    return hidden, topk.bonus(table, recalled, recent, columns)


@functools.partial(jax.jit, static_argnames="config")
def _advance(params: model.Params, users: tuple, *, config: ModelConfig) -> jax.Array:
    after, _ = _step(params, users, config=config)
    return jnp.stack([*after.session, after.user], axis=1)


@functools.partial(jax.jit, static_argnames=("config", "n_first"))
def _best(
    params: model.Params,
    table: item_neighbours.Table | None,
    ranked: tuple[jax.Array, jax.Array],
    column_of: jax.Array,
    users: tuple,
    *,
    config: ModelConfig,
    n_first: int,
) -> tuple[jax.Array, jax.Array]:
    hidden, bonus = _represent(params, table, users, column_of, config=config)
    return topk.best(ranked, hidden, bonus, n_first=n_first, rows=_ROWS)


@functools.partial(jax.jit, static_argnames="config")
def _score(
    params: model.Params,
    table: item_neighbours.Table | None,
    ranked: tuple[jax.Array, jax.Array],
    column_of: jax.Array,
    user: tuple,
    items: jax.Array,
    *,
    config: ModelConfig,
) -> jax.Array:
    hidden, bonus = _represent(params, table, user, column_of, config=config)
    item_out, item_bias = ranked
    columns = column_of[items]
    scores = item_out[columns] @ hidden[0] + item_bias[columns]
    return topk.of_items(scores, items, bonus)


@jax.jit
def _note(users: tuple) -> jax.Array:
    _, packed, item, _, opening = users
    past = user_past.unpack(packed)
    opens = jnp.zeros(len(item), bool).at[opening].set(True, mode="drop") | (past.events == 0)
    return user_past.pack(user_past.add(past, item, opens))
