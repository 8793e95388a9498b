"""Why an item has its score: parts that add up to it.

A network without `places` scores an item by

    hidden . item_out[j] + item_bias[j]              NETWORK + ITEM

With `places` a score is the logarithm of a probability, see repeat_explore/mixture.py. Of an item
that would repeat one of the user's past, and of any other one:

    log g + repeat . (habit, network, explore) - log(the sum over the other places)
    log(1 - g) + explore . (network, neighbours) - log(the sum over the other items)

with the score of the network again in two parts. All is computed in float64 from what the network
on the device returns, so that the parts add up to the listed score but for its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.batched_model import Anatomy, LiveState
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.repeat_explore.mixture import Mixture, Terms
from hrnn_jax.training.user_batches import NO_ITEM

REPEAT, EXPLORE = "repeat", "explore"  # log of the probability that the next event is one
NETWORK = "network"  # what the network reads from the events
ITEM = "item"  # what it has learnt of the item, whoever the user is
HABIT = "habit"  # when and how often the user had it
NEIGHBOURS = "neighbours"  # what others had next to the last items
OTHERS = "others"  # the items that it competes with


class Explanation(NamedTuple):
    """The parts of an item's score."""

    item: Id
    score: float
    parts: dict[str, float]  # by the names above; they add up to the score
    neighbours: list[tuple[Id, float]]  # the last items whose neighbour it is, and their parts


def explain(network: LiveNetwork, state: LiveState, items: Sequence[int]) -> list[Explanation]:
    """Take the scores of some items apart.

    Args:
        network: see `Recommender.network`.
        state: of the user, see `Recommender.state_after`.
        items: indices.

    Returns:
        The explanations of those items that can be next, in order.
    """
    anatomy = network.model.anatomy(state)
    if anatomy.weights is None or anatomy.terms is None:
        parts = [
            {NETWORK: float(anatomy.products[item]), ITEM: float(anatomy.bias[item])}
            for item in items
        ]
    else:
        mixed = _Mixed(anatomy, anatomy.weights, anatomy.terms)
        parts = [mixed.parts(item) for item in items]
    return [
        Explanation(
            network.trained.items[item],
            sum(some.values()),
            some,
            _neighbours(network, anatomy.terms, item, some),
        )
        for item, some in zip(items, parts, strict=True)
        if np.isfinite(sum(some.values()))
    ]


class _Mixed:
    """The terms of a mixture for one user, in float64."""

    def __init__(self, anatomy: Anatomy, weights: Mixture, terms: Terms) -> None:
        self.products = anatomy.products.astype(np.float64)
        self.bias = anatomy.bias.astype(np.float64)
        self.first = float(weights.explore[0])
        self.repeat = np.asarray(weights.repeat, np.float64)
        known = np.asarray(terms.neighbour) != NO_ITEM
        self.bonus = np.zeros(len(self.bias))
        np.add.at(self.bonus, np.asarray(terms.neighbour)[known], np.asarray(terms.bonus)[known])
        scores = self.products + self.bias
        explore = self.first * scores + self.bonus
        is_place = np.asarray(terms.place) != NO_ITEM
        place = np.asarray(terms.place)[is_place]
        self.logit = dict(zip(place.tolist(), np.asarray(terms.logit)[is_place], strict=True))
        own = np.stack([np.asarray(terms.logit)[is_place], scores[place], explore[place]])
        allowed = np.asarray(terms.allowed)[is_place]
        self.allowed = set(place[allowed].tolist())
        self.log_repeat = _log_sum((self.repeat @ own)[allowed])
        others = np.ones(len(explore), bool)
        others[place] = False
        self.log_explore = _log_sum(explore[others])
        balance = float(weights.gate[-1]) * (self.log_repeat - self.log_explore)
        self.gate = float(terms.gate) + balance if others.any() else np.inf

    def parts(self, item: int) -> dict[str, float]:
        """Return the parts of an item's score; -inf among them if it cannot be next."""
        if item not in self.logit:
            return {
                EXPLORE: -np.logaddexp(0, self.gate),
                NETWORK: self.first * self.products[item],
                ITEM: self.first * self.bias[item],
                NEIGHBOURS: self.bonus[item],
                OTHERS: -self.log_explore,
            }
        habit, network, explore = self.repeat
        if item not in self.allowed:
            return {REPEAT: -np.inf}
        return {
            REPEAT: -np.logaddexp(0, -self.gate),
            HABIT: habit * self.logit[item],
            NETWORK: (network + explore * self.first) * self.products[item],
            ITEM: (network + explore * self.first) * self.bias[item],
            NEIGHBOURS: explore * self.bonus[item],
            OTHERS: -self.log_repeat,
        }


def _neighbours(
    network: LiveNetwork, terms: Terms | None, item: int, parts: dict[str, float]
) -> list[tuple[Id, float]]:
    """Divide the part of the neighbours among the last items."""
    if terms is None or not parts.get(NEIGHBOURS):
        return []
    bonus = np.asarray(terms.bonus, np.float64)
    shares = np.where(np.asarray(terms.neighbour) == item, bonus, 0).sum(axis=1)
    scale = parts[NEIGHBOURS] / shares.sum()
    return [
        (network.trained.items[each], float(share * scale))
        for each, share in zip(np.asarray(terms.last).tolist(), shares, strict=True)
        if share
    ]


def _log_sum(logits: np.ndarray) -> float:
    """Return the logarithm of the sum of exp(logits), 0 of none."""
    if not len(logits):
        return 0.0
    most = logits.max()
    return float(most + np.log(np.exp(logits - most).sum()))
