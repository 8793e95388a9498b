"""How events move what the model has seen of a user: Eq. 1 in a session, Eq. 3 and 4 between.

An event's item is fed when the next one comes. Inside a session it is then an input (Eq. 1). The
last item of a session is none, unless the network was trained to see it (`feed_last_item`): a
session of one event leaves no trace, as in training, where it has no input.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time
from hrnn_jax.live import batched_model
from hrnn_jax.live.batched_model import BatchedModel
from hrnn_jax.user_batches import NO_ITEM


class Move(NamedTuple):
    """An event of a known item."""

    who: str
    item: int
    opens: bool  # a session after the first
    idle: float | None  # seconds since the move before; None for the first


def follow(
    network: BatchedModel,
    before: Mapping[str, batched_model.Seen],
    moves: Sequence[Move],
) -> list[batched_model.Seen]:
    """Return what was seen of each who right after each move.

    before: by who; nothing was seen of those who are not in it. moves: each one's in order. They
    go as waves: the first of each who side by side, then the second, and so on.
    """
    seen = dict(before)
    after = [network.start] * len(moves)
    for wave in _waves(moves):
        old = [seen.get(moves[i].who, network.start) for i in wave]
        fed = [n for n, i in enumerate(wave) if _is_input(old[n], moves[i], network.config)]
        carries = {}
        if fed:
            users = batched_model.Users.of([old[n] for n in fed])
            carries = dict(zip(fed, network.advance(users), strict=True))
        pasts = [one.past for one in old]
        if network.config.past:
            pasts = _note(network, old, [moves[i] for i in wave])
        for n, i in enumerate(wave):
            after[i] = _after(network, old[n], carries.get(n), pasts[n].copy(), moves[i])
            seen[moves[i].who] = after[i]
    return after


def _waves(moves: Sequence[Move]) -> Iterator[list[int]]:
    """Yield the indices of the moves that are the first of their who, then of the second, ..."""
    earlier: collections.Counter[str] = collections.Counter()
    waves: dict[int, list[int]] = {}
    for i, move in enumerate(moves):
        waves.setdefault(earlier[move.who], []).append(i)
        earlier[move.who] += 1
    yield from waves.values()


def _is_input(old: batched_model.Seen, move: Move, config: ModelConfig) -> bool:
    """Tell whether the item still to be fed becomes an input, now that the next event is known."""
    if old.item == NO_ITEM:
        return False
    if not move.opens or config.variant == "rnn_concat":
        return True
    return (
        config.feed_last_item and config.variant != "rnn"
    )  # RNN forgets what a session has seen anyway


def _note(
    network: BatchedModel, old: Sequence[batched_model.Seen], moves: Sequence[Move]
) -> np.ndarray:
    """Return the pasts after the moves, as the variant's layout has them (see lanes.layout)."""
    variant = network.config.variant
    users = []
    for seen, move in zip(old, moves, strict=True):
        before = network.start if move.opens and variant == "rnn" else seen
        opens = move.opens and network.config.hierarchical
        users.append(before._replace(item=move.item, opens=opens))
    return network.note(batched_model.Users.of(users))


def _after(
    network: BatchedModel,
    old: batched_model.Seen,
    carry: np.ndarray | None,
    past: np.ndarray,
    move: Move,
) -> batched_model.Seen:
    if move.opens and network.config.variant == "rnn":
        return network.start._replace(item=move.item, past=past)
    gap = idle_time.NONE
    if move.idle is not None:
        gap = int(idle_time.of(move.idle, move.opens and network.config.hierarchical))
    fed = old.fed or carry is not None
    return batched_model.Seen(
        carry=old.carry if carry is None else carry.copy(),  # else it holds the whole batch
        past=past,
        item=move.item,
        opens=move.opens and network.config.hierarchical and fed,
        gap=gap,
        fed=fed,
    )
