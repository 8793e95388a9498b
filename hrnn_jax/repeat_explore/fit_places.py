"""Learn the place network: which of a user's past items a repeat is of, from training events."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hrnn_jax.repeat_explore import features
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.mixture import PlaceNetwork
from hrnn_jax.repeat_explore.replayed import Seen
from hrnn_jax.training.user_batches import Array

_NETWORKS = 2  # whose mean the place network is
_HIDDEN_UNITS, _EPOCHS, _BATCH, _LEARNING_RATE = 16, 10, 64, 0.01  # of each
_DECAY = 1e-4  # of the place network's weights
_PARTS = 9  # of the features of places, whose moments are computed one after the other


def fit_places(seen: Seen, rng: np.random.Generator) -> PlaceNetwork:
    """Train the place network on repeats: the cross-entropy of the target among the places.

    It is the mean of two, each of which is trained by itself. How many users had an item tells much
    of repeats on some logs, and misleads on others: the first one does not read it. Features that
    are always 0 have no weight.
    """
    n_inputs, n_places = mixtures.PLACE_INPUTS, features.PLACE_FEATURES
    mean, variance = _moments(seen)
    reads = np.tile(variance > 0, (_NETWORKS, 1))
    reads[0, features.OF_USERS] = False
    reads = reads.astype(np.float32)
    hidden_w = rng.normal(0, n_inputs**-0.5, (_NETWORKS, n_inputs, _HIDDEN_UNITS))
    weights = {
        "linear": np.zeros((_NETWORKS, n_places), np.float32),
        "hidden_w": hidden_w.astype(np.float32) * reads[:, :, None],
        "hidden_b": np.zeros((_NETWORKS, _HIDDEN_UNITS), np.float32),
        "output": np.zeros((_NETWORKS, _HIDDEN_UNITS), np.float32),
    }
    fixed = {"mean": mean.astype(np.float32), "scale": np.sqrt(variance + 1e-4).astype(np.float32)}
    size = min(_BATCH, len(seen.event))
    n_steps = len(seen.event) // max(1, size)
    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, max(1, _EPOCHS * n_steps)))

    def loss_of_one(weights: Any, reads: Array, batch: Any) -> jax.Array:
        places, user, allowed, place = batch
        of_read = {
            "linear": weights["linear"] * reads[:n_places],
            "hidden_w": weights["hidden_w"] * reads[:, None],
        }
        network = PlaceNetwork(**fixed, **(weights | of_read))
        logits = mixtures.place_logits(network, jnp.moveaxis(places, 1, 0), user)
        decay = sum((values**2).sum() for values in weights.values())
        return cross_entropy(logits, allowed, place) + _DECAY * decay

    def loss(weights: Any, batch: Any) -> jax.Array:
        return jax.vmap(loss_of_one, in_axes=(0, 0, None))(weights, reads, batch).sum()

    @jax.jit
    def update(weights: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        changes, state = optimizer.update(jax.grad(loss)(weights, batch), state)
        return optax.apply_updates(weights, changes), state

    state = optimizer.init(weights)
    for _ in range(_EPOCHS):
        order = rng.permutation(len(seen.event))
        for step in range(n_steps):
            rows = order[step * size : (step + 1) * size]
            batch = seen.places[rows], seen.user[rows], seen.allowed[rows], seen.place[rows]
            weights, state = update(weights, state, batch)
    learnt = jax.device_get(weights)
    return PlaceNetwork(
        **fixed,
        linear=learnt["linear"].mean(axis=0),
        hidden_w=np.concatenate(learnt["hidden_w"], axis=1),
        hidden_b=learnt["hidden_b"].reshape(-1),
        output=learnt["output"].reshape(-1) / _NETWORKS,
    )


def _moments(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and variances of what the place network reads, [PLACE_INPUTS] each.

    Of all places of all rows: a user counts as often as there are places.
    """
    n_used = np.maximum(1, seen.allowed.sum())
    is_used = seen.allowed[:, None]
    moments = []
    # Arrays of all features would need several times the memory of the features themselves.
    for places in np.array_split(seen.places, _PARTS, axis=1):
        mean = np.where(is_used, places, 0).sum(axis=(0, 2)) / n_used
        squares = (places - mean[:, None]) ** 2
        moments.append((mean, np.where(is_used, squares, 0).sum(axis=(0, 2)) / n_used))
    user = seen.user[:, mixtures.USER_INPUTS]
    n_of_user = seen.allowed.sum(axis=1)[:, None] / n_used
    mean = (n_of_user * user).sum(axis=0)
    moments.append((mean, (n_of_user * (user - mean) ** 2).sum(axis=0)))
    means, variances = zip(*moments, strict=True)
    return np.concatenate(means), np.concatenate(variances)


def cross_entropy(logits: jax.Array, allowed: Any, target: Any) -> jax.Array:
    """Return the mean cross-entropy of targets [n] among those of [n, C] that are allowed."""
    total = jax.nn.logsumexp(logits, axis=1, where=allowed)
    own = jnp.take_along_axis(logits, jnp.asarray(target)[:, None], axis=1)[:, 0]
    return (total - own).mean()
