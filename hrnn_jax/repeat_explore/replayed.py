"""What was known before chosen events of a log, from which a mixture's weights are learnt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import Params
from hrnn_jax.ranking import replay
from hrnn_jax.repeat_explore import features, neighbours
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.training.user_batches import NO_ITEM, Array

_AT_ONCE = 256  # events whose features are computed together


class Seen(NamedTuple):
    """What was known before each of N events, and the events."""

    event: np.ndarray  # [N] of the log
    target: np.ndarray  # [N] item
    item: np.ndarray  # [N, R] of the places
    place: np.ndarray  # [N] place of the target if it is allowed there, else -1
    known: np.ndarray  # [N] bool, whether the target has a place
    allowed: np.ndarray  # [N, R] bool
    places: np.ndarray  # [N, PLACE_FEATURES, R] float32
    user: np.ndarray  # [N, USER_FEATURES]
    last: np.ndarray  # [N, LAST] items
    hidden: np.ndarray  # [N, H]

    def where(self, keep: np.ndarray) -> Seen:
        """Return what was known before the events where `keep` [N] is True."""
        return Seen(*(values[keep] for values in self))


Inputs = tuple[np.ndarray, ...]  # what `inputs_of` returns, on the host


class Reader:
    """Reads a network, its neighbours and the histories of users, all on one device."""

    def __init__(self, params: Params, table: neighbours.Table) -> None:
        """Read with the weights of one seed, and neighbours counted from its training events."""
        self._params, self._table = params, table
        self.item_out = np.asarray(params.items.item_out)
        self.item_bias = np.asarray(params.items.item_bias)

    def inputs(
        self, log: EventLog, events: np.ndarray, config: ModelConfig, drops_repeats: bool
    ) -> Iterator[tuple[np.ndarray, Inputs]]:
        """Replay a log, and yield some of its events with what was known before each.

        Args:
            log: the histories of users, from their first event.
            events: [N] of the log, each of which follows another one in its session.
            config: of the network, without dropout.
            drops_repeats: whether an item is never twice in a session.

        Yields:
            Events [n], and what `inputs_of` returns of them.
        """
        for found, states in replay.replay(self._params, log, events, config, EvaluationConfig()):
            for begin in range(0, len(found), _AT_ONCE):
                event = found[begin : begin + _AT_ONCE]
                at = np.arange(begin, begin + _AT_ONCE)
                values = jax.device_get(_inputs_at(states, at, drops_repeats, self._table.users))
                yield event, tuple(a[: len(event)] for a in values)

    def after(self, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of the last items of sessions, see `neighbours.after`."""
        return jax.device_get(neighbours.after(self._table, last))


def see(
    reader: Reader, log: EventLog, events: np.ndarray, config: ModelConfig, drops_repeats: bool
) -> Seen:
    """Replay the users of some events, and collect what was known before each of these.

    Args:
        reader: of the network and its neighbours.
        log: the histories of users, from their first event.
        events: [N] of the log, each of which follows another one in its session.
        config: of the network.
        drops_repeats: whether an item is never twice in a session.
    """
    if not len(events):  # a short log has no repeat and no held-out case
        return _nothing(config)
    is_chosen = np.zeros(len(log), bool)
    is_chosen[events] = True
    of_users = np.isin(log.user, log.user[events])
    number = np.flatnonzero(of_users)
    config = config.without_dropout()
    rows: list[Seen] = []
    chosen = np.flatnonzero(is_chosen[of_users])
    for found, inputs in reader.inputs(log.where(of_users), chosen, config, drops_repeats):
        event = number[found]
        target = log.item[event]
        hidden, item, allowed, places, user, last = inputs
        is_target = item == target[:, None]
        could = is_target & allowed
        place = np.where(could.any(axis=1), could.argmax(axis=1), -1)
        rows.append(
            Seen(
                event=event,
                target=target,
                item=item,
                place=place,
                known=is_target.any(axis=1),
                allowed=allowed,
                places=places,
                user=user,
                last=last,
                hidden=hidden,
            )
        )
    return Seen(*map(np.concatenate, zip(*rows, strict=True)))


def _nothing(config: ModelConfig) -> Seen:
    """Return what was known before no event at all."""
    return Seen(
        event=np.zeros(0, np.int64),
        target=np.zeros(0, np.int32),
        item=np.zeros((0, config.places), np.int32),
        place=np.zeros(0, np.int64),
        known=np.zeros(0, bool),
        allowed=np.zeros((0, config.places), bool),
        places=np.zeros((0, features.PLACE_FEATURES, config.places), np.float32),
        user=np.zeros((0, features.USER_FEATURES), np.float32),
        last=np.zeros((0, neighbours.LAST), np.int32),
        hidden=np.zeros((0, config.hidden_units), np.float32),
    )


@jax.jit
def _inputs_at(
    seen: replay.Seen, at: jax.Array, drops_repeats: jax.Array, users: Array
) -> tuple[jax.Array, ...]:
    return inputs_of(jax.tree.map(lambda values: values[at], seen), drops_repeats, users)


def inputs_of(seen: replay.Seen, drops_repeats: jax.Array, users: Array) -> tuple[jax.Array, ...]:
    """Return what the weights are learnt from, of n users.

    Args:
        seen: of the users, with a history.
        drops_repeats: [] bool, whether an item is never twice in a session.
        users: [V, 2] of each item, see `neighbours.Table`.

    Returns:
        The representations [n, H], the items of the places [n, R], which can be the next one
        [n, R], the features of the places [n, PLACE_FEATURES, R] and of the users
        [n, USER_FEATURES], and the last items of their sessions [n, LAST].
    """
    history = seen.history
    assert history is not None
    places = features.place_features(history, features.trail_features(history), users)
    places = jnp.where(history.item != NO_ITEM, places, 0.0)
    return (
        seen.hidden,
        history.item,
        mixtures.allowed_places(history, drops_repeats),
        jnp.moveaxis(places, 0, 1),
        features.user_features(history),
        histories.recent_items(history, neighbours.LAST),
    )
