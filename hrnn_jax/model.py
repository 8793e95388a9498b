"""The networks: RNN, HRNN Init and HRNN All as pure functions of their weights (Eq. 1, 3, 4, 5).

GRU_ses (Eq. 1) reads the items of a session. When a user's next session starts, GRU_usr reads the
state that the last one ended with (Eq. 3), and its own state starts the next session's GRU_ses (Eq.
4) and, in HRNN All, is an input of it (Eq. 5). The cell of both is in gru.py, Eq. 2 in losses.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend import random

from hrnn_jax import gru
from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time
from hrnn_jax.gru import Recurrence
from hrnn_jax.training.user_batches import Array, Steps

_DRAWN_AT_ONCE = 1 << 20  # weights; drawing takes some times as much memory besides


@struct.dataclass
class Items:
    """The tables with one row for each item.

    GRU_ses reads an item as its column of the input matrix, which is the product with the item's
    one-hot vector, or as its embedding.
    """

    item_in: Array | None  # [V, 3H], candidate | reset | update; [V, H] separate; None tied
    item_out: Array  # [V, H]
    item_bias: Array  # [V]


@struct.dataclass
class UserNetwork:
    """What connects a user's sessions: GRU_usr (Eq. 3), the initial state (Eq. 4) and Eq. 5."""

    w_in: jax.Array  # [H, 3H]
    gru: Recurrence
    init_w: jax.Array  # [H, H], W_init
    init_b: jax.Array  # [H], b_init
    to_session_w: jax.Array | None  # [H, 3H], or [H, 2H] with user_input="gates"; HRNN All only


@struct.dataclass
class DenseWeights:
    """The weights whose size does not depend on the catalogue."""

    session: tuple[Recurrence, ...]  # GRU_ses, a Recurrence per layer
    embedding_w: jax.Array | None  # [H, 3H], of the first layer where items have embeddings
    gap_w: jax.Array | None  # [idle_time.CLASSES, 3H], of the first layer too
    session_w_in: tuple[jax.Array, ...]  # [H, 3H] per layer above the first
    user: UserNetwork | None


@struct.dataclass
class Params:
    """All weights."""

    network: DenseWeights
    items: Items


@struct.dataclass
class Carry:
    """The state of the lanes."""

    session: tuple[Array, ...]  # [B, H] per layer, s_{m,n}
    user: Array  # [B, H], c_{u,m}


class StepInputs(NamedTuple):
    """What the lanes read at one time, or at T times on a leading axis."""

    x: jax.Array  # [B, 3H] or [B, H], `item_inputs` of steps.input
    steps: Steps  # [B] each, and [W]
    key: jax.Array | None = None  # of this time, for dropout; None for none
    # [] number of the first of these lanes, for dropout, where they are a part of a batch's
    first_lane: jax.Array | None = None


@struct.dataclass
class DropoutRates:
    """The probabilities of dropout, [] each."""

    user: Array
    session: Array
    init: Array
    embedding: Array

    @classmethod
    def of(cls, config: ModelConfig) -> DropoutRates:
        """Return a config's probabilities."""
        return cls(
            user=np.float32(config.dropout_user),
            session=np.float32(config.dropout_session),
            init=np.float32(config.dropout_init),
            embedding=np.float32(config.dropout_embedding),
        )


def init_params(key: jax.Array, config: ModelConfig, item: jax.Array | None = None) -> Params:
    """Draw the weights, uniformly in +-sqrt(6 / (rows + columns)) of each gate's own matrix.

    Args:
        key: a random key.
        config: of the network.
        item: [R] the items whose rows the tables are to have, zeros for NO_ITEM; by default all. A
            row does not depend on which others are drawn.

    Returns:
        The weights; biases, and what is not in the paper, are 0.
    """
    units = config.hidden_units
    keys = iter(jax.random.split(key, 16 + 4 * config.layers))

    def draw(rows: int, columns: int, gates: int = 1) -> jax.Array:
        bound = math.sqrt(6 / (rows + columns))
        return uniform(next(keys), (rows, gates * columns), bound)

    def draw_items(gates: int = 1) -> jax.Array:
        if item is None:
            return draw(config.n_items, units, gates)
        bound = math.sqrt(6 / (config.n_items + units))
        rows = uniform_rows(next(keys), item, gates * units, bound)
        return jnp.where((item < config.n_items)[:, None], rows, 0.0)

    def recurrence() -> Recurrence:
        return Recurrence(
            w_cand=draw(units, units),
            w_gates=draw(units, units, gates=2),
            b=jnp.zeros(3 * units),
        )

    user = None
    if config.hierarchical:
        columns = 3 if config.user_input == "full" else 2
        user = UserNetwork(
            w_in=draw(units, units, gates=3),
            gru=recurrence(),
            init_w=draw(units, units),
            init_b=jnp.zeros(units),
            to_session_w=draw(units, units, columns) if config.variant == "hrnn_all" else None,
        )
    session = tuple(recurrence() for _ in range(config.layers))
    session_w_in = tuple(draw(units, units, gates=3) for _ in range(config.layers - 1))
    item_in = embedding_w = None
    if config.embedding != "tied":
        item_in = draw_items(gates=3 if config.embedding == "none" else 1)
    item_out = draw_items()
    if config.embedding != "none":
        embedding_w = draw(units, units, gates=3)
    return Params(
        network=DenseWeights(
            session=session,
            embedding_w=embedding_w,
            gap_w=jnp.zeros((idle_time.CLASSES, 3 * units)) if config.idle_gap else None,
            session_w_in=session_w_in,
            user=user,
        ),
        items=Items(item_in=item_in, item_out=item_out, item_bias=jnp.zeros(len(item_out))),
    )


def uniform(key: jax.Array, shape: tuple[int, int], bound: float) -> jax.Array:
    """Draw what jax.random.uniform draws between -bound and bound, bit by bit, some rows at a time.

    Drawn as a whole, a table takes four times its memory.

    Args:
        key: a random key.
        shape: of the weights.
        bound: of their absolute values.

    Returns:
        The weights.
    """
    if shape[0] <= max(1, _DRAWN_AT_ONCE // shape[1]):
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return uniform_rows(key, jnp.arange(shape[0], dtype=jnp.int32), shape[1], bound)


def uniform_rows(key: jax.Array, row: jax.Array, columns: int, bound: float) -> jax.Array:
    """Draw some rows of what jax.random.uniform draws between -bound and bound, bit by bit.

    Args:
        key: a random key.
        row: [R] int32 numbers of rows.
        columns: of the weights C.
        bound: of their absolute values.

    Returns:
        The rows [R, C].
    """
    rows = min(len(row), max(1, _DRAWN_AT_ONCE // columns))  # at a time
    return _uniform_rows(jax.random.key_data(key), row, bound, columns=columns, rows=rows)


@functools.partial(jax.jit, static_argnames=("columns", "rows"))
def _uniform_rows(
    key_data: jax.Array, row: jax.Array, bound: jax.Array, *, columns: int, rows: int
) -> jax.Array:
    n = rows * columns

    def add(i: jax.Array, table: jax.Array) -> jax.Array:
        begin = jnp.minimum(i * rows, len(row) - rows)  # the last rows perhaps twice
        index = place_in_table(jax.lax.dynamic_slice_in_dim(row, begin, rows), columns)
        words = random.threefry_2x32(key_data, jnp.concatenate([a.reshape(-1) for a in index]))
        mantissa = (words[:n] ^ words[n:]) >> 9
        one = jnp.float32(1).view(jnp.uint32)
        unit = (mantissa | one).view(jnp.float32) - 1
        values = jnp.maximum(-bound, unit * (bound - -bound) + -bound)
        return jax.lax.dynamic_update_slice(table, values.reshape(rows, -1), (begin, 0))

    return jax.lax.fori_loop(0, -(-len(row) // rows), add, jnp.zeros((len(row), columns)))


def place_in_table(row: jax.Array, columns: int) -> tuple[jax.Array, jax.Array]:
    """Number the weights of some rows of a table with C columns, row after row, as jax does.

    Args:
        row: [R] int32.
        columns: C.

    Returns:
        The high and the low 32 bits of the numbers, [R, C] each.
    """
    # row C as 64 bits, by halves of 16 bits, of which no sum overflows.
    row_high, row_low = row.astype(jnp.uint32) >> 16, row.astype(jnp.uint32) & 0xFFFF
    c_high, c_low = jnp.uint32(columns >> 16), jnp.uint32(columns & 0xFFFF)
    middle = row_high * c_low + (row_low * c_low >> 16)
    other = row_low * c_high + (middle & 0xFFFF)
    high = row_high * c_high + (middle >> 16) + (other >> 16)
    first = row.astype(jnp.uint32) * jnp.uint32(columns)
    low = first[:, None] + jnp.arange(columns, dtype=jnp.uint32)[None]
    return high[:, None] + (low < first[:, None]), low


def start_carry(shape: tuple[int, ...], config: ModelConfig) -> Carry:
    """Return the state of lanes before their first event: zeros.

    Args:
        shape: (B,) lanes, or (S, B) for several seeds.
        config: of the network.

    Returns:
        The state, as numpy arrays.
    """

    def zeros() -> np.ndarray:
        return np.zeros((*shape, config.hidden_units), np.float32)

    return Carry(
        session=tuple(zeros() for _ in range(config.layers)),
        user=zeros(),
    )


def step(
    network: DenseWeights,
    carry: Carry,
    inputs: StepInputs,
    *,
    config: ModelConfig,
    constant: bool = False,
    rates: DropoutRates | None = None,
) -> tuple[Carry, jax.Array]:
    """Advance all lanes by one event.

    Eq. 3 and 4 of a session that ended with the event before are computed here, at the start of the
    next session's first step: the gradient of one step then reaches GRU_usr and W_init.

    Args:
        network: the weights.
        carry: the lanes' state.
        inputs: of one time.
        config: of the network.
        constant: whether `carry` is a constant, so that its gradient is not computed.
        rates: of dropout, by default the config's. Others only replace probabilities above 0, so
            that one compiled program serves all.

    Returns:
        The state after the event, and the representation to score, [B, H]. With s the state of
        GRU_ses and c that of GRU_usr:

            c  = GRU_usr(s, c)            where a session of a known user starts      (Eq. 3)
            s  = tanh(c W_init + b_init)  there; s = c = 0 where a new user starts    (Eq. 4)
            s' = GRU_ses(item, s)         or GRU_ses(item, s, c) in HRNN All          (Eq. 1, 5)

        The representation is s', or s' plus the item's embedding with `residual`.

        With leak=carried, s' = (1 - z) s_carried + z c, where s_carried is the state of GRU_ses in
        `carry`: at a session's first step what the last one ended with, and at a user's first step
        what the lane's previous user left. For users that are to start from zeros, the caller
        clears `carry`.
    """
    x, steps, key, first_lane = inputs
    rates = rates or DropoutRates.of(config)
    bits = _dropout_bits(key, steps, config, first_lane)
    embedding = x
    if network.embedding_w is not None:
        embedding = dropout(bits.embedding, x, rates.embedding)
        x = embedding @ network.embedding_w
    if network.gap_w is not None:
        x = x + gather_rows(network.gap_w, steps.gap)
    session = [gru.where(steps.user_start, 0.0, h) for h in carry.session]
    user = gru.where(steps.user_start, 0.0, carry.user)
    moving = None
    if network.user is not None:
        opening = steps.opening
        moving = opening if constant else None
        ended = gru.take(session[-1], opening)
        before = gru.take(user, opening)
        after = gru.cell(network.user.gru, ended @ network.user.w_in, before)  # Eq. 3
        after = dropout(bits.user, after, rates.user)
        initial = jnp.tanh(after @ network.user.init_w + network.user.init_b[None])  # Eq. 4
        initial = dropout(bits.init, initial, rates.init)
        user = gru.put(user, opening, after)
        session[0] = gru.put(session[0], opening, initial)
        if network.user.to_session_w is not None:  # Eq. 5
            of_user = gru.product(user, moving, network.user.to_session_w)
            x = x + jnp.pad(of_user, ((0, 0), (x.shape[1] - of_user.shape[1], 0)))
    output = x  # of the layer below
    for layer, recurrence in enumerate(network.session):
        if layer > 0:
            x = output @ network.session_w_in[layer - 1]
        if layer == 0:
            leak = carry.session[0] if config.leak == "carried" else None
            h = gru.cell(recurrence, x, session[0], moving, leak)  # Eq. 1
        else:
            h = gru.cell(recurrence, x, session[layer])
        output = dropout(bits.session[layer], h, rates.session)
        session[layer] = output if config.recurrent_dropout else h
    hidden = output + embedding if config.residual else output
    return Carry(session=tuple(session), user=user), hidden


def unroll(
    network: DenseWeights,
    carry: Carry,
    inputs: StepInputs,
    *,
    config: ModelConfig,
    rates: DropoutRates | None = None,
) -> tuple[Carry, jax.Array]:
    """Scan `step` over the T steps of a training window.

    (Evaluation scans `step` itself, to gather the inputs of one step at a time.)

    Args:
        network: the weights.
        carry: the lanes' state before the window; a constant where T is 1.
        inputs: of T times.
        config: of the network.
        rates: of dropout, see `step`.

    Returns:
        The state after the window, and the representations [T, B, H].
    """
    constant = len(inputs.x) == 1

    def body(carry: Carry, inputs: StepInputs) -> tuple[Carry, jax.Array]:
        return step(network, carry, inputs, config=config, constant=constant, rates=rates)

    return jax.lax.scan(body, carry, inputs)


def dropout(bits: jax.Array | None, values: jax.Array, probability: Array) -> jax.Array:
    """Set each value to 0 with some probability, and scale the others up to keep the mean.

    Args:
        bits: random uint32 of the values' shape; None for no dropout.
        values: any array.
        probability: [] to drop a value, below 1.

    Returns:
        An array of the values' shape.
    """
    if bits is None:
        return values
    keep = bits >= (probability * np.float32(2**32)).astype(np.uint32)
    return jnp.where(keep, values / (1 - probability), 0.0)


class _DropoutBits(NamedTuple):
    """The random bits of a step's dropout, None where nothing is dropped."""

    session: Sequence[jax.Array | None]  # [B, H] per layer
    embedding: jax.Array | None = None  # [B, H]
    user: jax.Array | None = None  # [W, H]
    init: jax.Array | None = None  # [W, H]


def _dropout_bits(
    key: jax.Array | None, steps: Steps, config: ModelConfig, first_lane: jax.Array | None
) -> _DropoutBits:
    """Draw the bits of a step's dropout; those of a lane depend on the key and the lane alone.

    Drawing is most of dropout's cost, so both words of each draw are used.
    """
    units, n_layers = config.hidden_units, config.layers
    session: list[jax.Array | None] = [None] * n_layers
    if key is None:
        return _DropoutBits(session)
    embedding = user = init = None
    if config.dropout_user or config.dropout_init:
        # Above all numbers of columns that the other words have.
        user, init = _words(key, _numbered(steps.opening, first_lane), 1 << 30, units)
    n_session = n_layers * (config.dropout_session > 0)
    if n_drawn := n_session + (config.dropout_embedding > 0):
        lanes = _numbered(jnp.arange(len(steps.input)), first_lane)
        words = jnp.concatenate(_words(key, lanes, 0, -(-n_drawn * units // 2)), axis=1)
        drawn = [words[:, i * units : (i + 1) * units] for i in range(n_drawn)]
        session[:n_session] = drawn[:n_session]
        embedding = drawn[n_session] if n_drawn > n_session else None
    return _DropoutBits(
        session,
        embedding,
        user if config.dropout_user else None,
        init if config.dropout_init else None,
    )


def _numbered(lanes: jax.Array, first_lane: jax.Array | None) -> jax.Array:
    return lanes if first_lane is None else lanes + first_lane


def _words(key: jax.Array, lane: jax.Array, begin: int, n: int) -> Sequence[jax.Array]:
    """Draw two uint32 for each lane and each of n columns from `begin` on: [lanes, n], twice."""
    shape = (len(lane), n)
    key_1, key_2 = jax.random.key_data(key)
    lanes = jnp.broadcast_to(lane.astype(jnp.uint32)[:, None], shape)
    columns = jnp.broadcast_to(begin + jnp.arange(n, dtype=jnp.uint32)[None], shape)
    return random.threefry2x32_p.bind(key_1, key_2, lanes, columns)


def item_inputs(items: Items, item: jax.Array) -> jax.Array:
    """Gather the inputs of GRU_ses for some items.

    Args:
        items: the tables.
        item: [...] int32.

    Returns:
        [..., 3H] or [..., H] rows, zeros for NO_ITEM.
    """
    return gather_rows(items.item_out if items.item_in is None else items.item_in, item)


def gather_rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """Gather rows of a table [V, ...], zeros for NO_ITEM."""
    return table.at[index].get(mode="fill", fill_value=0, wrap_negative_indices=False)
