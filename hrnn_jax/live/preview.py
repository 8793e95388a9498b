"""Follow given events of a newcomer: the list after each event, and nothing is stored."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from hrnn_jax.arguments import whole_number
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.events import Event, Outcome, assign_sessions, check_event
from hrnn_jax.live.lists import check_size, lists_after
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.live.states.replay import replay

_NOBODY = "newcomer"  # stands for the user; its key is in no store


class Previewed(NamedTuple):
    """What a newcomer's event would do."""

    outcome: Outcome
    recommended: list[tuple[Id, float]]  # items and scores right after the event, best first


def preview(
    network: LiveNetwork,
    events: Sequence[Event],
    k: int = 10,
    *,
    exclude_seen: bool = False,
    limit: int | None = None,
) -> list[Previewed]:
    """Follow the events of a newcomer, as `Recommender.observe_many` would, without keeping them.

    Args:
        network: see `Recommender.network`.
        events: in order. Their users and event ids do not count: all are of one newcomer.
        k: items recommended right after each event.
        exclude_seen: leave out the items of the events so far.
        limit: the most items to recommend in all; None for any number.

    Returns:
        The outcome of each event, and the list right after it.

    Raises:
        InputError: an event or `k` is invalid, or more than `limit` items would be recommended.
    """
    k = whole_number("k", k)
    check_size(len(events), min(k, len(network.item_index)), limit)
    any_year = network.trained.any_year
    checked = [
        check_event(Event(event.item, _NOBODY, event.time, event.session), any_year=any_year)
        for event in events
    ]
    assigned = assign_sessions(
        checked,
        {},
        {} if network.trained.drop_repeats else None,
        (),
        item_index=network.item_index,
        gap_seconds=network.trained.gap_seconds,
    )
    observed = [None, *itertools.chain(*assigned.observed.values())]
    after = replay(network.model, assigned.observed, network.item_index)
    states = [network.model.start, *itertools.chain(*after.values())]
    lists = lists_after(network, states, observed, k, exclude_seen=exclude_seen)
    n_observed = itertools.accumulate(outcome == "observed" for outcome in assigned.outcomes)
    return [
        Previewed(outcome, lists[n])
        for outcome, n in zip(assigned.outcomes, n_observed, strict=True)
    ]
