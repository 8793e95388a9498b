"""How events change the state of a live user: Eq. 1 inside a session, Eq. 3 and 4 between sessions.

The rules, which numpy_scorer.py applies too:

- An event's item is fed when the next event comes. Inside a session it is an input (Eq. 1).
- The last item of a session is an input only if the network was trained with `feed_last_item` or
  is RNN Concat. Otherwise a session of one event changes nothing, as in training.
- RNN starts each session from zeros.
- HRNN applies Eq. 3 and 4 before the first item of a session, if the state has been fed an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax.config import ModelConfig
from hrnn_jax.extras import idle_time
from hrnn_jax.live.batched_model import BatchedModel, LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent
from hrnn_jax.user_batches import NO_ITEM


class ModelEvent(NamedTuple):
    """An event of a known item as the model takes it."""

    item: int  # index
    opens_session: bool  # and it is not the user's first session
    idle_seconds: float | None  # since the user's event before; None for the first


def model_events(
    events: Iterable[StoredEvent],
    item_index: Mapping[str, int],
    session: OpenSession | None = None,
) -> list[ModelEvent]:
    """Return the events of one key as the model takes them.

    Args:
        events: oldest first.
        item_index: the index of each item that the network knows; events of others are left out.
        session: the open session before the events, None if they are the first.
    """
    result: list[ModelEvent] = []
    before = None if session is None else (session.number, session.last_time)
    for event in events:
        if event.item in item_index:
            opens_session = before is not None and event.session != before[0]
            idle_seconds = None if before is None else event.time - before[1]
            result.append(ModelEvent(item_index[event.item], opens_session, idle_seconds))
            before = event.session, event.time
    return result


def states_after(
    model: BatchedModel,
    states: Mapping[str, LiveState],
    events: Mapping[str, Sequence[ModelEvent]],
) -> dict[str, list[LiveState]]:
    """Return the state of each key right after each of its events.

    The first events of all keys are computed in one batch, then the second ones, and so on.

    Args:
        model: the network.
        states: by key; a key without a state starts from zeros.
        events: of each key, in order.
    """
    after: dict[str, list[LiveState]] = {key: [] for key in events}
    current = {key: states.get(key, model.start) for key in events}
    for place in range(max(map(len, events.values()), default=0)):
        wave = {key: some[place] for key, some in events.items() if len(some) > place}
        old = [current[key] for key in wave]
        fed = {
            n: old[n]
            for n, event in enumerate(wave.values())
            if _feeds(old[n], event, model.config)
        }
        carries = dict(zip(fed, model.advance(list(fed.values())), strict=True)) if fed else {}
        pasts = _pasts_after(model, old, list(wave.values()))
        for n, (key, event) in enumerate(wave.items()):
            current[key] = _state_after(model, old[n], event, carries.get(n), pasts[n])
            after[key].append(current[key])
    return after


def _feeds(state: LiveState, event: ModelEvent, config: ModelConfig) -> bool:
    """Tell whether the state's last item is an input, now that the next event is known."""
    if state.item == NO_ITEM or (event.opens_session and config.variant == "rnn"):
        return False
    inside = not event.opens_session or config.variant == "rnn_concat"
    return inside or config.feed_last_item


def _pasts_after(
    model: BatchedModel, states: Sequence[LiveState], events: Sequence[ModelEvent]
) -> Sequence[np.ndarray]:
    """Return the users' past items with each event's item added, [R + 1, 4] each."""
    if not model.config.past:
        return [state.past for state in states]
    added: list[LiveState] = []
    for state, event in zip(states, events, strict=True):
        restarts = event.opens_session and model.config.variant == "rnn"
        before = model.start if restarts else state
        opens_session = event.opens_session and model.config.hierarchical
        added.append(before._replace(item=event.item, opens_session=opens_session))
    # Copies: each would else keep the whole batch in memory.
    return [past.copy() for past in model.add_to_past(added)]


def _state_after(
    model: BatchedModel,
    state: LiveState,
    event: ModelEvent,
    carry: np.ndarray | None,
    past: np.ndarray,
) -> LiveState:
    """Return the state after an event; carry: after its last item, None if that is no input."""
    if event.opens_session and model.config.variant == "rnn":
        return model.start._replace(item=event.item, past=past)
    opens_session = event.opens_session and model.config.hierarchical
    gap = idle_time.NONE
    if event.idle_seconds is not None:
        gap = int(idle_time.of(event.idle_seconds, opens_session))
    fed = state.fed or carry is not None
    return LiveState(
        carry=state.carry if carry is None else carry.copy(),  # a view would keep the whole batch
        past=past,
        item=event.item,
        opens_session=opens_session and fed,
        gap=gap,
        fed=fed,
    )
