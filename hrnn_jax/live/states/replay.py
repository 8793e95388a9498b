"""How events change the state of a live user: Eq. 1 inside a session, Eq. 3 and 4 between sessions.

A user's past gets the last item of a session too, as a target, unless it is alone in the session
and no input. The other rules, which numpy_scorer.py applies too:

- An event's item is fed when the next event comes. Inside a session it is an input (Eq. 1).
- The last item of a session is an input only if the network was trained with `feed_last_item` or
  is RNN Concat. Otherwise a session of one event changes nothing, as in training.
- RNN starts each session from zeros.
- HRNN applies Eq. 3 and 4 before the first item of a session, if the state has been fed an item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from hrnn_jax.extras import idle_time
from hrnn_jax.live.batched_model import OPENS, WAITS, BatchedModel, LiveState
from hrnn_jax.live.events import OpenSession, StoredEvent, open_session
from hrnn_jax.live.store.state_rows import StoredState
from hrnn_jax.training.user_batches import NO_ITEM


def replay(
    model: BatchedModel,
    events: Mapping[str, Iterable[StoredEvent]],
    item_index: Mapping[str, int],
    states: Mapping[str, StoredState] = MappingProxyType({}),
) -> dict[str, list[LiveState]]:
    """Return the state of each key right after each of its events.

    Args:
        model: the network.
        events: of each key, oldest first. Those of items that the network does not know are left
            out.
        item_index: the index of each item that the network knows.
        states: by key, before the events; a key without a state starts from zeros.
    """
    known = {key: [e for e in some if e.item in item_index] for key, some in events.items()}
    latest = {key: states[key].live if key in states else model.start for key in known}
    # Number of the session and time of the latest event.
    before = {
        key: (state.session.number, state.session.last_time)
        for key, state in states.items()
        if state.live.item != NO_ITEM  # else none of a known item
    }
    result: dict[str, list[LiveState]] = {key: [] for key in known}
    # The first events of all keys are computed in one batch, then the second ones, and so on.
    for place in range(max(map(len, known.values()), default=0)):
        wave = {key: some[place] for key, some in known.items() if len(some) > place}
        changes = {
            key: _change(model, latest[key], before.get(key), event, item_index[event.item])
            for key, event in wave.items()
        }
        carries = model.advance([old for old, _ in changes.values()])
        pasts = model.add_to_past([old for old, _ in changes.values()])
        for (key, (old, new)), carry, past in zip(changes.items(), carries, pasts, strict=True):
            # The last item of a session is not always an input, see above.
            feeds = old.item != NO_ITEM and (not new.opens_session or model.config.feed_last_item)
            fed = old.fed or feeds
            is_alone = model.config.places and old.past[WAITS] == OPENS and not feeds
            before_item = old.past if is_alone else past
            is_first = old.item == NO_ITEM or new.opens_session
            latest[key] = new._replace(
                carry=carry.copy() if feeds else old.carry,  # a view would keep the whole batch
                past=model.with_waiting(before_item, wave[key].time, opens=is_first),
                opens_session=new.opens_session and fed,
                fed=fed,
            )
            result[key].append(latest[key])
            before[key] = wave[key].session, wave[key].time
    return result


def states_of_events(
    model: BatchedModel,
    events: Mapping[str, Sequence[StoredEvent]],
    item_index: Mapping[str, int],
    sessions: Mapping[str, OpenSession | None],
    before: Mapping[str, StoredState] = MappingProxyType({}),
) -> dict[str, StoredState]:
    """Compute states from the stored events, whatever weights served when these came.

    Args:
        model: the network.
        events: all stored events of each key, oldest first.
        item_index: the index of each item that the network knows.
        sessions: the open session of each key; None where it is damaged, so that the events tell.
        before: states by this network after a part of the events, to go on from.

    Returns:
        The state of each key that has a session or an event. Sessions stay as they were cut,
        whatever items the network knows: the next event belongs to the open session or opens one as
        if its weights had not changed. Where the network knows no item of the open session, the
        next one of a known item opens it for the network.
    """
    known = {key: [e for e in some if e.item in item_index] for key, some in events.items()}
    starts: dict[str, StoredState] = {}
    new = dict(known)
    for key, state in before.items():
        fed = [event for event in known[key] if event.place < state.session.n_events]
        starts[key] = state._replace(session=open_session(fed)) if fed else state
        new[key] = known[key][len(fed) :]
    after = replay(model, new, item_index, starts)
    states: dict[str, StoredState] = {}
    for key, some in events.items():
        start = starts[key].live if key in starts else model.start
        session = sessions[key] or (open_session(some) if some else None)
        if session is None:
            continue
        live = after[key][-1] if after[key] else start
        if known[key]:
            last = known[key][-1]
            session = session._replace(last_time=last.time)
            live = live._replace(ended=last.session != session.number)
        elif key in starts:
            old = starts[key].session
            session = session._replace(last_time=old.last_time)
            live = live._replace(ended=live.ended or old.number != session.number)
        states[key] = StoredState(live, session)
    return states


def _change(
    model: BatchedModel,
    state: LiveState,
    before: tuple[int, float] | None,
    event: StoredEvent,
    item: int,
) -> tuple[LiveState, LiveState]:
    """Return the state that an event changes, and the state with its item and place in time."""
    has_ended, state = state.ended, state._replace(ended=False)
    if before is None:
        return state, state._replace(item=item)
    number, time = before
    opens_session = has_ended or event.session != number
    if opens_session and model.config.variant == "rnn":  # each session is one of a new user
        return model.start, model.start._replace(item=item)
    opens_session = opens_session and model.config.hierarchical
    # In whole seconds, as a prepared log has them.
    gap = int(idle_time.of(math.floor(event.time) - math.floor(time), opens_session))
    return state, state._replace(item=item, opens_session=opens_session, gap=gap)
