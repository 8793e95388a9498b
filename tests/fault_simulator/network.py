"""A network of a few integers: its state depends on all events and on their order.

The weights are one integer. A state x becomes `fold(x, ..)` with each item that is fed, and the
scores are integers below P, which float32 holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time
from hrnn_jax.live.batched_model import BatchedModel, LiveState, Ranked
from hrnn_jax.training.user_batches import NO_ITEM

P = 65_521
SHAPE = (2, 6)
CONFIG = ModelConfig(n_items=9, variant="hrnn_init", hidden_units=6, feed_last_item=True)


def fold(weights: int, x: int, item: int, opens: bool, gap: int) -> int:
    """Return the state after an item."""
    return (x * 31 + (item + 1) * 577 + opens * 7 + gap * 1009 + weights) % P


def scores(weights: int, x: int) -> list[int]:
    """Return the score of each item."""
    return [
        (x * (item + 3) * 7919 + item * 104_729 + weights) % P for item in range(CONFIG.n_items)
    ]


class Network(BatchedModel):
    """In the place of `BatchedModel`; which items a query gets of the best ones is its code."""

    def __init__(self, params: int, config: ModelConfig, mixture: None, *, make_index: None):
        self.config, self._weights, self.index = config, params, None
        carry, past = np.zeros(SHAPE, np.float32), np.zeros((0, 4), np.int32)
        self.start = LiveState(carry, past, NO_ITEM, False, idle_time.NONE, False)

    def advance(self, states: Sequence[LiveState]) -> np.ndarray:
        return np.stack([np.full(SHAPE, self._after(state), np.float32) for state in states])

    def best(self, states: Sequence[LiveState], length: int) -> Ranked:
        of_all = np.array([scores(self._weights, self._after(state)) for state in states])
        items = np.argsort(-of_all, axis=1, kind="stable")[:, :length]
        return items, np.take_along_axis(of_all, items, axis=1).astype(np.float32)

    def _after(self, state: LiveState) -> int:
        # A sum notices each number of the carry; of a sound one they are all the same.
        x = int(state.carry.sum()) // state.carry.size
        if state.item == NO_ITEM:
            return x
        return fold(self._weights, x, int(state.item), state.opens_session, int(state.gap))
