"""Learn the mixture: the place network on training events, the few other weights on held-out ones.

The place network reads nothing but what was before an event or is of other users, so it learns from
the events that the network was trained on. How much the network, the neighbours and the places
weigh would be learnt wrong there: the network knows these events, and the neighbours were counted
from them. These weights are learnt on each user's last training session, with a network and
neighbours that have not seen it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from hrnn_jax.config import ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.repeat_explore import features, neighbours
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore.fit_places import cross_entropy, fit_places
from hrnn_jax.repeat_explore.mixture import Mixture, PlaceNetwork
from hrnn_jax.repeat_explore.replayed import Reader, Seen, see
from hrnn_jax.training.user_batches import NO_ITEM, layout

_TRAINING_REPEATS = 30_000  # that the place network learns from, drawn
_CASES = 4_000  # held-out ones, drawn, that the other weights are learnt from
_SAMPLED_ITEMS = 1_000  # of the catalogue, drawn, besides the neighbours of a case
_PRIOR = 1e-3  # weight of the squared distance of the other weights from where they start
_STEPS = 100  # of L-BFGS
_VALUES = 2**24  # scores of cases, computed together
_ENOUGH = 1_000  # events after another one in their session: with no repeat, few ever are one
_SEED = 3  # that other draws with the seed do not use

_Arrays = tuple[Any, ...]
_Loss = Callable[[jax.Array, jax.Array, _Arrays], jax.Array]


def fit(
    reader: Reader,
    log: EventLog,
    *,
    model_config: ModelConfig,
    seed: int,
    place: PlaceNetwork | None = None,
) -> Mixture:
    """Learn the weights of the mixture.

    Args:
        reader: of the network, trained on the training events of `log`, and of neighbours that
            were counted from these.
        log: the training events, and the held-out ones as its test events, see
            `EventLog.held_out`.
        model_config: of the network.
        seed: of all random draws.
        place: the place network that an earlier call with this log and seed has learnt, as it does
            not depend on the network.
    """
    rng = np.random.default_rng((seed, _SEED))
    of_places, of_items = rng.spawn(2)
    # As the network sees it: RNN Concat has one session for each user.
    drops_repeats = _drops_repeats(layout(log, model_config.variant))
    cases = _draw(log.cases, _CASES, rng)
    learnt_from = cases
    if place is None:
        learnt_from = np.union1d(cases, _draw(_repeats(log), _TRAINING_REPEATS, rng))
    seen = see(reader, log, learnt_from, model_config, drops_repeats)
    held_out = log.test[seen.event]
    tested = seen.where(held_out)
    if place is None:
        # In place of all: the features of places are most of the memory that learning takes.
        seen = seen.where(np.logical_not(held_out) & (seen.place >= 0))
        seen.places[:, features.RETURNS] = _log_returns(log, seen)
        place = fit_places(seen, of_places)
    explore = _fit_explore(reader, log, tested.where(np.logical_not(tested.known)), of_items)
    choosing = tested.where(np.any(tested.allowed, axis=1))
    scored = _score(reader, explore, choosing)
    inputs = _repeat_inputs(place, choosing, scored)
    repeat = _fit_repeat(inputs, choosing)
    of_repeat = _log_sum(np.where(choosing.allowed, inputs @ repeat, -np.inf))
    gate = _fit_gate(of_repeat, scored.of_explore, choosing)
    return Mixture(place, repeat, gate, explore, np.asarray(drops_repeats))


def _drops_repeats(log: EventLog) -> bool:
    """Return whether an item is never twice in a session, as in logs that are prepared so."""
    pairs = log.session.astype(np.int64) * log.n_items + log.item
    return int(log.follows.sum()) >= _ENOUGH and len(np.unique(pairs)) == len(pairs)


def _repeats(log: EventLog) -> np.ndarray:
    """Return the training events that follow one in their session and whose item the user had."""
    _, first = np.unique(log.user.astype(np.int64) * log.n_items + log.item, return_index=True)
    is_first = np.zeros(len(log), bool)
    is_first[first] = True
    return np.flatnonzero(~log.test & log.follows & ~is_first)


def _draw(events: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return events if len(events) <= most else np.sort(rng.choice(events, most, replace=False))


def _log_returns(log: EventLog, seen: Seen) -> np.ndarray:
    """Return `features.log_returns` of places before training events, [n, R]."""
    train = log.train
    pairs, events = neighbours.user_items(train)
    known = np.where(seen.item == NO_ITEM, 0, seen.item)
    wanted = log.user[seen.event][:, None].astype(np.int64) * log.n_items + known
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    own = (pairs[at] == wanted) & (events[at] > 1)
    users = neighbours.count_users(pairs, events, log.n_items)
    return np.asarray(features.log_returns(users, seen.item, own))


def _fit_explore(reader: Reader, log: EventLog, seen: Seen, rng: np.random.Generator) -> np.ndarray:
    """Learn what the network and the neighbours weigh for items that are no repeats.

    The softmax is over the target, the neighbours, and drawn items, which stand for the rest of the
    catalogue, so that a case costs the same for any catalogue.
    """
    start = np.zeros(mixtures.EXPLORE_INPUTS, np.float32)
    start[0] = 1
    if not len(seen.event):
        return start
    n = len(seen.event)
    cases = list(_explorations(reader, seen, log.n_items, rng))
    longest = max(len(case.item) for case in cases)
    inputs = np.zeros((n, longest, mixtures.EXPLORE_INPUTS), np.float32)
    offset = np.full((n, longest), -np.inf, np.float32)
    target = np.zeros(n, np.int32)
    item_out, bias = reader.item_out, reader.item_bias
    for row, case in enumerate(cases):
        size = len(case.item)
        inputs[row, :size, 0] = item_out[case.item] @ seen.hidden[row] + bias[case.item]
        inputs[row, :size, 1:] = case.shares
        offset[row, :size] = case.offset
        target[row] = case.target
    return _minimise(_explore_loss, start, inputs, (offset, target))


class _Exploration(NamedTuple):
    """The C items that compete in a case whose target is no repeat."""

    item: np.ndarray  # [C]
    shares: np.ndarray  # [C, EXPLORE_INPUTS - 1] of the neighbours, 0 of other items
    offset: np.ndarray  # [C] to their logits
    target: int  # its place among the items


def _explorations(
    reader: Reader, seen: Seen, n_items: int, rng: np.random.Generator
) -> Iterator[_Exploration]:
    """Yield the neighbours, drawn items and the target of each case, without the user's places."""
    n_drawn = min(_SAMPLED_ITEMS, n_items)
    lags = neighbours.lag_weights(seen.last.shape[1])
    for target, places, item, share in zip(
        seen.target, seen.item, *reader.after(seen.last), strict=True
    ):
        near, where = np.unique(item.reshape(-1), return_inverse=True)
        by_lag = np.einsum("lck,lg->lkgc", share, lags).reshape(where.size, -1)
        summed = np.zeros((len(near), by_lag.shape[1]), np.float32)
        np.add.at(summed, where.reshape(-1), by_lag)
        near, summed = near[near != NO_ITEM], summed[near != NO_ITEM]
        drawn = rng.choice(n_items, n_drawn, replace=False)
        candidates = np.concatenate([near, np.setdiff1d(drawn, near)])
        if target not in candidates:
            candidates = np.append(candidates, target)
        shares = np.zeros((len(candidates), summed.shape[1]), np.float32)
        shares[: len(near)] = summed
        # Each drawn item stands for as many of those that are no neighbours.
        offset = np.zeros(len(candidates), np.float32)
        offset[len(near) :] = np.log(n_items / n_drawn)
        is_target = candidates == target
        offset[is_target] = 0
        competes = ~np.isin(candidates, places)
        place = int(is_target[competes].argmax())
        yield _Exploration(candidates[competes], shares[competes], offset[competes], place)


def _explore_loss(weights: jax.Array, inputs: jax.Array, others: _Arrays) -> jax.Array:
    offset, target = others
    allowed = offset > -jnp.inf
    return cross_entropy(inputs @ weights + jnp.where(allowed, offset, 0), allowed, target)


class _Scored(NamedTuple):
    """What the network and P_explore say of n cases, whatever their targets are."""

    score: np.ndarray  # [n, R] of the places, by the network
    logit: np.ndarray  # [n, R] of the places, of P_explore
    of_explore: np.ndarray  # [n] log sum of the exponentials of all other items' logits


def _score(reader: Reader, explore: np.ndarray, seen: Seen) -> _Scored:
    """Score all items in each case, which is as much work as to rank the cases."""
    n_items = len(reader.item_bias)
    item, share = reader.after(seen.last)
    bonus = np.asarray(neighbours.bonus(share, explore[1:]))
    size = max(1, _VALUES // n_items)
    found = [
        _score_block(
            reader,
            explore,
            *(a[begin : begin + size] for a in (seen.hidden, seen.item, item, bonus)),
        )
        for begin in range(0, max(1, len(seen.event)), size)
    ]
    return _Scored(*map(np.concatenate, zip(*found, strict=True)))


def _score_block(
    reader: Reader,
    explore: np.ndarray,
    hidden: np.ndarray,
    place: np.ndarray,
    neighbour: np.ndarray,
    bonus: np.ndarray,
) -> _Scored:
    scores = hidden @ reader.item_out.T + reader.item_bias
    logits = explore[0] * scores
    known, used = neighbour != NO_ITEM, place != NO_ITEM
    np.add.at(logits, (np.nonzero(known)[0], neighbour[known]), bonus[known])
    column = np.where(used, place, 0)
    of_places = [np.take_along_axis(values, column, axis=1) for values in (scores, logits)]
    logits[np.nonzero(used)[0], place[used]] = -np.inf
    return _Scored(*of_places, of_explore=_log_sum(logits))


def _log_sum(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the sums of exp(logits) of each row, -inf where all are -inf."""
    most = logits.max(axis=1)
    most = np.where(np.isfinite(most), most, 0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logits - most[:, None]).sum(axis=1)) + most


def _repeat_inputs(place: PlaceNetwork, seen: Seen, scored: _Scored) -> np.ndarray:
    """Return what P_repeat is learnt from, [n, R, REPEAT_INPUTS]."""
    logit = np.asarray(mixtures.place_logits(place, np.moveaxis(seen.places, 1, 0), seen.user))
    return np.stack([logit, scored.score, scored.logit], axis=2).astype(np.float32)


def _fit_repeat(inputs: np.ndarray, seen: Seen) -> np.ndarray:
    """Learn what the place network, the network and the neighbours weigh for repeats."""
    start = np.array([1, 0, 0], np.float32)
    is_repeat = seen.place >= 0
    if not is_repeat.any():
        return start
    others = seen.allowed[is_repeat], seen.place[is_repeat]
    return _minimise(_repeat_loss, start, inputs[is_repeat], others)


def _repeat_loss(weights: jax.Array, inputs: jax.Array, others: _Arrays) -> jax.Array:
    allowed, place = others
    return cross_entropy(inputs @ weights, allowed, place)


def _fit_gate(of_repeat: np.ndarray, of_explore: np.ndarray, seen: Seen) -> np.ndarray:
    """Learn how likely a repeat is, from the users and the log sums [n] of the logits of both."""
    start = np.zeros(mixtures.GATE_INPUTS, np.float32)
    # Where nothing can be repeated, or every item has a place, there is nothing to choose.
    is_open = np.isfinite(of_repeat) & np.isfinite(of_explore)
    if not is_open.any():
        return start
    inputs = np.column_stack([seen.user, of_repeat - of_explore])[is_open].astype(np.float32)
    return _minimise(_gate_loss, start, inputs, (seen.place[is_open] >= 0,))


def _gate_loss(weights: jax.Array, inputs: jax.Array, others: _Arrays) -> jax.Array:
    (is_repeat,) = others
    logit = inputs @ weights
    return jnp.logaddexp(0, jnp.where(is_repeat, -logit, logit)).mean()


def _minimise(loss: _Loss, start: np.ndarray, inputs: np.ndarray, others: _Arrays) -> np.ndarray:
    """Return the weights of the least loss, of a convex one, near where they start.

    Args:
        loss: of the weights, the inputs, and what else it is of.
        start: [F] of the weights.
        inputs: [..., F].
        others: see `loss`.
    """
    # Weights of values of the order of 1.
    flat = inputs.reshape(-1, inputs.shape[-1])
    scale = np.sqrt((flat**2).mean(axis=0)) + 1e-3
    prior = max(_PRIOR, 1 / len(inputs))

    data = jax.device_put((start, scale, np.float32(prior), inputs, others))

    def of_scaled(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = _value_and_grad(loss, jnp.asarray(weights / scale, jnp.float32), *data)
        return float(value), np.asarray(grad, np.float64) / scale

    found = optimize.minimize(
        of_scaled, start * scale, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    return (found.x / scale).astype(np.float32)


@functools.partial(jax.jit, static_argnames="loss")
def _value_and_grad(
    loss: _Loss,
    weights: jax.Array,
    start: jax.Array,
    scale: jax.Array,
    prior: jax.Array,
    inputs: jax.Array,
    others: _Arrays,
) -> tuple[jax.Array, jax.Array]:
    """Return the loss, with the distance of the weights from where they start, and its gradient."""

    def total(weights: jax.Array) -> jax.Array:
        distance = ((weights - start) * scale) ** 2
        return loss(weights, inputs, others) + prior * distance.sum()

    return jax.value_and_grad(total)(weights)
