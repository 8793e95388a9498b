"""The hierarchical RNN and its session-only relatives (Eq. 1-5) as pure functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend import random

from hrnn_jax import gru as gru_lib
from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time, user_past
from hrnn_jax.user_batches import Array, Steps

_DRAWN_AT_ONCE = 1 << 20  # weights; what drawing takes besides is some times as much


@struct.dataclass
class Items:
    """The tables with one row an item.

    What is fed of an item is its column of GRU_ses' matrix, so that its one-hot vector never is, or
    its embedding.
    """

    item_in: Array | None  # [V, 3H], candidate | reset | update; [V, H] separate; None tied
    item_out: Array  # [V, H]
    item_bias: Array  # [V]


@struct.dataclass
class UserNetwork:
    """What carries a user from one session to the next: GRU_usr (Eq. 3) and Eq. 4, 5."""

    w_in: jax.Array  # [H, 3H]
    gru: gru_lib.Recurrence
    init_w: jax.Array  # [H, H]
    init_b: jax.Array  # [H]
    to_session_w: jax.Array | None  # [H, 3H], or [H, 2H] with user_input="gates"; HRNN All only


@struct.dataclass
class DenseWeights:
    """The weights whose size does not depend on the catalogue."""

    session: tuple[gru_lib.Recurrence, ...]  # GRU_ses, a Recurrence per layer
    embedding_w: jax.Array | None  # [H, 3H], of the first layer where items have embeddings
    gap_w: jax.Array | None  # [gaps.CLASSES, 3H], of the first layer too
    session_w_in: tuple[jax.Array, ...]  # [H, 3H] per layer above the first
    user: UserNetwork | None
    past: user_past.Weights | None


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
    past: user_past.Past | None


def init_params(key: jax.Array, config: ModelConfig) -> Params:
    """Draw weights uniformly in +-sqrt(6 / (rows + columns)), each gate's on its own shape."""
    units = config.hidden_units
    keys = iter(jax.random.split(key, 16 + 4 * config.layers))

    def draw(rows: int, columns: int, gates: int = 1) -> jax.Array:
        bound = math.sqrt(6 / (rows + columns))
        return uniform(next(keys), (rows, gates * columns), bound)

    def recurrence() -> gru_lib.Recurrence:
        return gru_lib.Recurrence(
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
        item_in = draw(config.n_items, units, gates=3 if config.embedding == "none" else 1)
    item_out = draw(config.n_items, units)
    if config.embedding != "none":
        embedding_w = draw(units, units, gates=3)
    return Params(
        network=DenseWeights(
            session=session,
            embedding_w=embedding_w,
            gap_w=jnp.zeros((idle_time.CLASSES, 3 * units)) if config.idle_gap else None,
            session_w_in=session_w_in,
            user=user,
            past=user_past.init_weights(units) if config.past else None,
        ),
        items=Items(item_in=item_in, item_out=item_out, item_bias=jnp.zeros(config.n_items)),
    )


def uniform(key: jax.Array, shape: tuple[int, int], bound: float) -> jax.Array:
    """Draw as jax.random.uniform does between -bound and bound, to the bit, a few rows at a time.

    Drawn as a whole, a table takes four times its memory.
    """
    rows = max(1, _DRAWN_AT_ONCE // shape[1])
    if shape[0] <= rows or math.prod(shape) >= 2**32:  # more, and an index is no longer one word
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return _uniform_by_rows(jax.random.key_data(key), bound, shape=shape, rows=rows)


@functools.partial(jax.jit, static_argnames=("shape", "rows"))
def _uniform_by_rows(
    key_data: jax.Array, bound: jax.Array, *, shape: tuple[int, int], rows: int
) -> jax.Array:
    n = rows * shape[1]

    def add(i: jax.Array, table: jax.Array) -> jax.Array:
        begin = jnp.minimum(i * rows, shape[0] - rows)  # the last ones once more, if need be
        index = begin.astype(jnp.uint32) * shape[1] + jnp.arange(n, dtype=jnp.uint32)
        words = random.threefry_2x32(key_data, jnp.concatenate([jnp.zeros_like(index), index]))
        mantissa = (words[:n] ^ words[n:]) >> 9
        one = jnp.float32(1).view(jnp.uint32)
        unit = (mantissa | one).view(jnp.float32) - 1
        values = jnp.maximum(-bound, unit * (bound - -bound) + -bound)
        return jax.lax.dynamic_update_slice(table, values.reshape(rows, -1), (begin, 0))

    return jax.lax.fori_loop(0, -(-shape[0] // rows), add, jnp.zeros(shape))


def start_carry(shape: tuple[int, ...], config: ModelConfig) -> Carry:
    """Return the state of lanes that have seen nothing: zeros. shape: (B,) or (S, B)."""

    def zeros() -> np.ndarray:
        return np.zeros((*shape, config.hidden_units), np.float32)

    return Carry(
        session=tuple(zeros() for _ in range(config.layers)),
        user=zeros(),
        past=user_past.start(shape, config.past) if config.past else None,
    )


def step(
    network: DenseWeights,
    carry: Carry,
    x: jax.Array,
    steps: Steps,
    key: jax.Array | None = None,
    *,
    config: ModelConfig,
    constant: bool = False,
) -> tuple[Carry, jax.Array]:
    """Advance all lanes by one event (Eq. 1, 3, 4, 5).

    Whatever ended with the event before is settled here, at the start of the next step: then one
    step's gradient reaches GRU_usr and Eq. 4.

    x: [B, 3H] or [B, H], `item_inputs` at steps.input; steps: one time of them, [B] and [W]; key:
    for dropout, None for none; constant: whether `carry` is one, and no gradient of it is wanted.
    Returns the state and the representation to score, [B, H].
    """
    bits_user, bits_init, *bits_session = _bits(key, x, steps, config)
    if network.embedding_w is not None:
        x = dropout(bits_session.pop(), x, config.dropout_embedding) @ network.embedding_w
    if network.gap_w is not None:
        x = x + gather_rows(network.gap_w, steps.gap)
    session = [_where(steps.user_start, 0.0, h) for h in carry.session]
    user = _where(steps.user_start, 0.0, carry.user)
    moving = None
    if network.user is not None:
        known = steps.opening  # lanes that open a session of a user with a history
        moving = known if constant else None
        ended = gru_lib.take(session[-1], known)
        before = gru_lib.take(user, known)
        after = gru_lib.cell(network.user.gru, ended @ network.user.w_in, before)  # Eq. 3
        after = dropout(bits_user, after, config.dropout_user)
        opened = jnp.tanh(after @ network.user.init_w + network.user.init_b[None])  # Eq. 4
        opened = dropout(bits_init, opened, config.dropout_init)
        user = gru_lib.put(user, known, after)
        session[0] = gru_lib.put(session[0], known, opened)
        if network.user.to_session_w is not None:  # Eq. 5
            given = gru_lib.product(user, moving, network.user.to_session_w)
            x = x + jnp.pad(given, ((0, 0), (x.shape[1] - given.shape[1], 0)))
    for layer, recurrence in enumerate(network.session):
        if layer > 0:
            x = session[layer - 1] @ network.session_w_in[layer - 1]
        h = gru_lib.cell(recurrence, x, session[layer], moving if layer == 0 else None)  # Eq. 1
        session[layer] = dropout(bits_session[layer], h, config.dropout_session)
    past = None if carry.past is None else user_past.step(carry.past, steps)
    return Carry(session=tuple(session), user=user, past=past), session[-1]


def past_bonus(
    network: DenseWeights, carry: Carry, hidden: jax.Array
) -> tuple[jax.Array, jax.Array] | None:
    """Return items of the users' past and what is added to their scores, [B, R] each.

    carry, hidden: as `step` returns them. None for a network that does not look at the past.
    """
    if network.past is None or carry.past is None:
        return None
    return carry.past.item, user_past.bonus(network.past, carry.past, hidden, carry.user)


def unroll(
    network: DenseWeights,
    carry: Carry,
    x: jax.Array,
    steps: Steps,
    keys: jax.Array | None = None,
    *,
    config: ModelConfig,
) -> tuple[Carry, jax.Array, tuple[jax.Array, jax.Array] | None]:
    """Scan `step` and `past_bonus` over time.

    x: [T, B, 3H] or [T, B, H]; steps: [T, ...]; keys: [T]. Returns the state, the representations
    [T, B, H] and the past [T, B, R]. For a training window; bootstrapping has a gather of its own.
    Over one step alone, no gradient with respect to `carry` is to be taken.
    """
    constant = len(x) == 1

    def body(carry: Carry, inputs: tuple) -> tuple[Carry, tuple]:
        x, steps, key = inputs
        carry, hidden = step(network, carry, x, steps, key, config=config, constant=constant)
        return carry, (hidden, past_bonus(network, carry, hidden))

    carry, (hidden, past) = jax.lax.scan(body, carry, (x, steps, keys))
    return carry, hidden, past


def dropout(bits: jax.Array | None, values: jax.Array, probability: float) -> jax.Array:
    """Zero each value with `probability` and scale the others up to keep the mean.

    bits: random, u32, of the values' shape; None for no dropout.
    """
    if bits is None or probability == 0:
        return values
    keep = bits >= np.uint32(probability * 2**32)
    return jnp.where(keep, values / (1 - probability), 0.0)


def _bits(
    key: jax.Array | None, x: jax.Array, steps: Steps, config: ModelConfig
) -> Sequence[jax.Array | None]:
    """Draw what dropout needs in a step: for GRU_usr [W, H], Eq. 4 [W, H], each layer [B, H].

    And then for the embedding [B, H], if there is one. In one go, and GRU_usr and Eq. 4 share words
    of 32 bits: drawing is most of dropout's cost.
    """
    n_session = config.layers + (config.embedding != "none")
    if key is None:
        return [None] * (2 + n_session)
    lengths = (len(steps.opening), *[len(x)] * n_session)
    bits = jax.random.bits(key, (sum(lengths), config.hidden_units))
    shared, *sessions = jnp.split(bits, np.cumsum(lengths)[:-1])
    return [shared << 16, shared & np.uint32(0xFFFF0000), *sessions]


def item_inputs(items: Items, item: jax.Array) -> jax.Array:
    """Gather what `step` is fed of items, zeros for NO_ITEM."""
    return gather_rows(items.item_out if items.item_in is None else items.item_in, item)


def gather_rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """Gather rows, zeros for NO_ITEM."""
    return table.at[index].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _where(mask: jax.Array, new: jax.Array | float, old: jax.Array) -> jax.Array:
    """Choose by lane: mask [B], values [B, H]."""
    return jnp.where(mask[:, None], new, old)
