"""Drawn weights of a mixture, and its probabilities in float64, written out item by item."""

import jax.numpy as jnp
import numpy as np

from hrnn_jax.repeat_explore import features, neighbours
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import FittedMixture, Mixture, PlaceNetwork
from hrnn_jax.training.user_batches import NO_ITEM

HIDDEN = 4


def drawn(*, seed: int = 0, drops_repeats: bool = False) -> Mixture:
    """Draw weights large enough to show every term."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 0.3) -> jnp.ndarray:
        return jnp.asarray(rng.normal(0, scale, shape), jnp.float32)

    n_inputs = mixtures.PLACE_INPUTS
    place = PlaceNetwork(
        mean=draw(n_inputs),
        scale=1 + draw(n_inputs) ** 2,
        linear=draw(features.PLACE_FEATURES),
        hidden_w=draw(n_inputs, HIDDEN),
        hidden_b=draw(HIDDEN),
        output=draw(HIDDEN),
    )
    return Mixture(
        place=place,
        repeat=draw(mixtures.REPEAT_INPUTS, scale=1),
        gate=draw(mixtures.GATE_INPUTS),
        explore=draw(mixtures.EXPLORE_INPUTS, scale=0.2).at[0].set(1),
        drops_repeats=jnp.asarray(drops_repeats),
    )


def fitted(
    log, model_config, *, seed: int = 0, drops_repeats: bool = False
) -> FittedMixture | None:
    """Return drawn weights with the neighbours of a log, None for a network without `places`."""
    if not model_config.places:
        return None
    table = neighbours.count(log.train, model_config.neighbours)
    return FittedMixture(drawn(seed=seed, drops_repeats=drops_repeats), table)


def probabilities(mixture: Mixture, scores, terms) -> np.ndarray:
    """Return the probability of each item for one user, [V], in float64.

    Args:
        mixture: the weights.
        scores: [V] of the network.
        terms: of the user.
    """
    n_items = len(scores)
    first, *_ = weights = np.asarray(mixture.repeat, np.float64)
    explore = float(mixture.explore[0]) * np.asarray(scores, np.float64)
    for item, bonus in zip(terms.neighbour.ravel(), terms.bonus.ravel(), strict=True):
        if item != NO_ITEM:
            explore[item] += bonus
    places = [item for item in terms.place.tolist() if item != NO_ITEM]
    repeat = {
        item: first * logit + weights[1] * float(scores[item]) + weights[2] * explore[item]
        for item, logit, allowed in zip(
            terms.place.tolist(), terms.logit.tolist(), terms.allowed.tolist(), strict=True
        )
        if allowed
    }
    others = [item for item in range(n_items) if item not in places]
    more = _log_sum(list(repeat.values())) - _log_sum([explore[item] for item in others])
    gate = float(terms.gate) + float(mixture.gate[-1]) * more
    g = 1 / (1 + np.exp(-gate)) if others else 1.0
    found = np.zeros(n_items)
    for items, logits, share in (
        (list(repeat), repeat, g),
        (others, {item: explore[item] for item in others}, 1 - g),
    ):
        if items:
            exps = np.exp([logits[item] for item in items])
            found[items] = share * exps / exps.sum()
    return found


def _log_sum(logits) -> float:
    return float(np.log(np.exp(logits).sum())) if logits else 0.0
