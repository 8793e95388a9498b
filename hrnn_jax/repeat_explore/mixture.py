"""The probability of the next item: to repeat a place of the history, or to explore the rest.

Not in the paper. RepeatNet (Ren et al., AAAI 2019) has these two modes inside a session; here they
are of the user's whole history:

    P(j) = g P_repeat(j)         for the items of the places of the history
    P(j) = (1 - g) P_explore(j)  for all others

    g         = s(gate . (user_features, log sum of P_repeat's logits - that of P_explore's))
    P_explore = softmax over the others of explore . (score of the network, shares of neighbours)
    P_repeat  = softmax over the places of repeat . (place network, network, logit of P_explore)

All weights but the network's are learnt by fit.py. Where repeats are dropped from sessions, the
places of the open session have probability 0.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hrnn_jax.errors import InputError, reason
from hrnn_jax.files import atomic
from hrnn_jax.repeat_explore import features, neighbours
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore.history import History
from hrnn_jax.training.user_batches import NO_ITEM, Array

# Of `user_features`, what the place network sees of the user.
USER_INPUTS = np.array([1, 3, 4, 5, 6, 7, 10, 11])
PLACE_INPUTS = features.PLACE_FEATURES + len(USER_INPUTS)
EXPLORE_INPUTS = 1 + neighbours.LAGS * neighbours.SHARES
REPEAT_INPUTS = 3
GATE_INPUTS = features.USER_FEATURES + 1
FOLDER = "mixture"  # of a run folder
_PARTS = 4  # of the places and of the trail, of which the first one, two, three or all are used
_LIMIT = 5.0  # of a place network's input, in standard deviations


@struct.dataclass
class PlaceNetwork:
    """A linear function and a hidden layer: how likely each place is the next item, as a logit."""

    mean: Array  # [PLACE_INPUTS] of the inputs
    scale: Array  # [PLACE_INPUTS] their standard deviation
    linear: Array  # [PLACE_FEATURES]
    hidden_w: Array  # [PLACE_INPUTS, N]
    hidden_b: Array  # [N]
    output: Array  # [N]


@struct.dataclass
class Mixture:
    """The weights of the mixture."""

    place: PlaceNetwork
    repeat: Array  # [REPEAT_INPUTS]
    gate: Array  # [GATE_INPUTS]
    explore: Array  # [EXPLORE_INPUTS]
    drops_repeats: Array  # [] bool, whether an item is never twice in a session


@struct.dataclass
class FittedMixture:
    """A mixture and the neighbours that it weighs."""

    weights: Mixture
    table: neighbours.Table


@struct.dataclass
class OwnTerms:
    """What the mixture knows of n users by their histories alone."""

    last: Array  # [n, L] the last items of their sessions, NO_ITEM where a session has fewer
    place: Array  # [n, R] items of the history, NO_ITEM for none
    logit: Array  # [n, R] of the place network, 0 for an unused place
    allowed: Array  # [n, R] bool, places that can be repeated
    gate: Array  # [n] what the user adds to the logit of g, -inf where no place can be repeated


@struct.dataclass
class Terms(OwnTerms):
    """What the mixture knows of n users besides the scores of the network."""

    neighbour: Array  # [n, L, K] of their last items, NO_ITEM for none; equal ones' bonuses add up
    bonus: Array  # [n, L, K] to their logits of P_explore, see `neighbours.bonus`


def place_logits(network: PlaceNetwork, places: Array, user: Array) -> jax.Array:
    """Return a logit for each place, [n, R].

    Args:
        network: the weights.
        places: [PLACE_FEATURES, n, R], see `features.place_features`.
        user: [n, USER_FEATURES], see `features.user_features`.
    """
    n = features.PLACE_FEATURES
    mean, scale = network.mean[:, None], network.scale[:, None]
    of_user = _clipped((user[:, USER_INPUTS] - mean[n:].T) / scale[n:].T)
    of_place = _clipped((places - mean[:n, None]) / scale[:n, None])
    hidden = jnp.einsum("fk,fnr->knr", network.hidden_w[:n], of_place)
    hidden += (of_user @ network.hidden_w[n:] + network.hidden_b[None]).T[..., None]
    linear = jnp.einsum("f,fnr->nr", network.linear, of_place)
    return linear + jnp.einsum("k,knr->nr", network.output, jnp.tanh(hidden))


def _logits(
    network: PlaceNetwork, users: Array, history: History, user: jax.Array, *, in_parts: bool
) -> jax.Array:
    """Return the logits of all places, [n, R], 0 of unused ones; see `own_terms`."""
    n_places, size = history.item.shape[1], history.trail.shape[1]

    def of_trail(size: int) -> jax.Array:
        return features.trail_features(histories.first_events(history, size))

    def of_places(n_first: int) -> jax.Array:
        first = histories.first_places(history, n_first)
        places = features.place_features(first, trail[:, :, :n_first], users)
        # Here, not in the features: XLA then computes these in vectors.
        logits = jnp.where(first.item != NO_ITEM, place_logits(network, places, user), 0.0)
        return jnp.pad(logits, [(0, 0), (0, n_places - n_first)])

    if not in_parts:
        trail = of_trail(size)
        return of_places(n_places)
    # An event's place in the trail is its number, from 1, until it is full.
    in_trail = jnp.minimum(history.events.max() + 1, size)
    trail = _of_first(in_trail, size, of_trail)
    return _of_first(histories.used_places(history).max(), n_places, of_places)


def _of_first(needed: jax.Array, size: int, compute: Callable[[int], jax.Array]) -> jax.Array:
    """Compute what is of the first of some values: of the fewest parts of them that are enough."""
    sizes = np.unique(-(-size * np.arange(1, _PARTS + 1) // _PARTS))
    branches = [functools.partial(compute, int(part)) for part in sizes]
    return jax.lax.switch(jnp.searchsorted(sizes, needed), branches)


def _clipped(values: jax.Array) -> jax.Array:
    return jnp.clip(values, -_LIMIT, _LIMIT)


def allowed_places(history: History, drops_repeats: Array) -> jax.Array:
    """Return which places can be the next item, [n, R] bool."""
    return (history.item != NO_ITEM) & ~(histories.in_open_session(history) & drops_repeats)


def mixed(
    mixture: FittedMixture | None, history: History | None, *, in_parts: bool = False
) -> tuple[Mixture, Terms] | None:
    """Return the weights and the terms of n users, None for a network without a mixture."""
    if mixture is None or history is None:
        return None
    return mixture.weights, terms(mixture.weights, mixture.table, history, in_parts=in_parts)


def terms(
    mixture: Mixture, table: neighbours.Table, history: History, *, in_parts: bool = False
) -> Terms:
    """Compute what does not depend on the network.

    Args:
        mixture: the weights.
        table: the neighbours and the users of each item.
        history: of n users.
        in_parts: whether to compute only as many parts of the places and of the trail as any of
            the users has used: for many users at a time.
    """
    own = own_terms(mixture, table.users, history, in_parts=in_parts)
    item, share = neighbours.after(table, own.last)
    bonus = neighbours.bonus(share, mixture.explore[1:])
    return Terms(**vars(own), neighbour=item, bonus=bonus)


def own_terms(mixture: Mixture, users: Array, history: History, *, in_parts: bool) -> OwnTerms:
    """Compute what does not depend on the network and the neighbours, see `terms`.

    Args:
        mixture: the weights.
        users: [V, 2] of each item, see `neighbours.Table`.
        history: of n users.
        in_parts: see `terms`.
    """
    user = features.user_features(history)
    logit = _logits(mixture.place, users, history, user, in_parts=in_parts)
    allowed = allowed_places(history, mixture.drops_repeats)
    return OwnTerms(
        last=histories.recent_items(history, neighbours.LAST),
        place=history.item,
        logit=logit,
        allowed=allowed,
        gate=jnp.where(allowed.any(axis=1), user @ mixture.gate[:-1], -jnp.inf),
    )


def log_probabilities(
    mixture: Mixture, scores: jax.Array, column: jax.Array, terms: Terms
) -> tuple[jax.Array, jax.Array]:
    """Return the logarithms of the probabilities of the items for one user, less a constant.

    Args:
        mixture: the weights.
        scores: [M] of the network, in the order of its columns.
        column: [V] of each item.
        terms: of the user, without the axis of users.

    Returns:
        Values [M], and the constant, []: the sum of both is log P. To rank, the values will do.
    """

    def columns(item: jax.Array) -> jax.Array:
        return column.at[item].get(mode="fill", fill_value=len(scores))

    place = columns(terms.place)
    explore = mixture.explore[0] * scores
    explore = explore.at[columns(terms.neighbour)].add(terms.bonus, mode="drop")
    of_score, of_own = _at(scores, place), _at(explore, place)
    # -inf. As it depends on what is read of `explore` here, XLA overwrites that without a copy.
    taken = jnp.where(place < len(scores), -jnp.inf, of_own)
    explore = explore.at[place].set(taken, mode="drop")
    repeat, constant = repeat_logits(mixture, terms, of_score, of_own, jax.nn.logsumexp(explore))
    return explore.at[place].set(repeat, mode="drop"), constant


def repeat_logits(
    mixture: Mixture, terms: Terms, score: jax.Array, own: jax.Array, of_explore: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the logarithms of the probabilities of one user's places, see `log_probabilities`.

    Args:
        mixture: the weights.
        terms: of the user.
        score: [R] of the network.
        own: [R] logits of P_explore.
        of_explore: [] the logarithm of the sum of the exponentials of those of all other items.

    Returns:
        Values [R], and the constant, [].
    """
    # Elementwise: a product of matrices would need the three in one array.
    of_logit, of_score, of_own = mixture.repeat
    repeat = of_logit * terms.logit + of_score * score + of_own * own
    repeat = jnp.where(terms.allowed, repeat, -jnp.inf)
    of_repeat = _log_sum(repeat)
    # log P is explore + log(1 - g) - of_explore, and repeat + log(g) - of_repeat. Where every item
    # has a place, there is nothing to explore.
    nothing = of_explore == -jnp.inf
    gate = terms.gate + mixture.gate[-1] * (of_repeat - of_explore)
    constant = jnp.where(nothing, -of_repeat, jax.nn.log_sigmoid(-gate) - of_explore)
    return repeat + jnp.where(nothing, 0.0, gate + of_explore - of_repeat), constant


def _at(values: jax.Array, place: jax.Array) -> jax.Array:
    return values.at[place].get(mode="fill", fill_value=0)


def _log_sum(logits: jax.Array) -> jax.Array:
    """Return the logarithm of the sum of exp(logits), 0 where all are -inf."""
    total = jax.nn.logsumexp(logits)
    return jnp.where(total > -jnp.inf, total, 0.0)


def file(run: pathlib.Path, seed: int) -> pathlib.Path:
    """Return the file of a seed's mixture in a run folder."""
    return run / FOLDER / f"seed_{seed}.npz"


def save(path: pathlib.Path, mixture: Mixture, *, epochs: int) -> None:
    """Write a mixture as npz.

    Args:
        path: of the file; its folder is made.
        mixture: of one seed.
        epochs: of the network that it is for.

    Raises:
        InputError: the file cannot be written.
    """
    of_place = {f"place_{name}": values for name, values in vars(mixture.place).items()}
    others = {name: values for name, values in vars(mixture).items() if name != "place"}

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, epochs=epochs, **jax.device_get({**of_place, **others}))

    path.parent.mkdir(exist_ok=True)
    atomic.write(path, savez)


def load(path: pathlib.Path, *, epochs: int) -> Mixture:
    """Read a mixture.

    Args:
        path: of the file.
        epochs: of the network that it is to be for.

    Raises:
        InputError: the file is missing or damaged, or the mixture is for other epochs.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            values = dict(file)
        found = int(values.pop("epochs"))
        of_place = {
            field.name: values.pop(f"place_{field.name}")
            for field in dataclasses.fields(PlaceNetwork)
        }
        mixture = Mixture(place=PlaceNetwork(**of_place), **values)
        _check_shapes(mixture)
    except Exception as error:  # np.load has no error of its own for a damaged file
        raise InputError(
            f"{path} is missing or damaged ({reason(error)}): repeat the command of the run with "
            "`resume`"
        ) from error
    if found != epochs:
        raise InputError(
            f"{path} is for {found} epochs, and the network has {epochs}: repeat the command of "
            "the run with `resume`"
        )
    return mixture


def _check_shapes(mixture: Mixture) -> None:
    """Refuse a mixture of other inputs than those of this version.

    Raises:
        ValueError: with what is wrong.
    """
    expected = {
        "place network": (mixture.place.mean, PLACE_INPUTS),
        "gate": (mixture.gate, GATE_INPUTS),
        "explore": (mixture.explore, EXPLORE_INPUTS),
        "repeat": (mixture.repeat, REPEAT_INPUTS),
    }
    for name, (values, n_inputs) in expected.items():
        if values.shape != (n_inputs,):
            raise ValueError(f"its {name} has {values.size} inputs, in this version {n_inputs}")
