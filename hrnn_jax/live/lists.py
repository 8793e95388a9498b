"""The items of the highest scores: for requests, and after each event of a user."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hrnn_jax import errors
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.batched_model import LiveState, Query
from hrnn_jax.live.events import Request, StoredEvent, key_of_request
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.live.states.user_states import UserStates
from hrnn_jax.live.store.state_rows import StoredState


def lists_for(states: UserStates, requests: Sequence[Request]) -> list[list[tuple[Id, float]]]:
    """Return the lists that requests ask for, see `Recommender.recommend_many`."""
    keys = [key_of_request(request) for request in requests]
    states.check_process()
    network, queries = states.network, None
    if not (network.excludes_session_items or any(each.exclude_seen for each in requests)):
        # While events are synced to the disk, lists of states in memory go on.
        cached = states.store.cached(keys)
        if cached.keys() == {*keys} and network is states.network:
            queries = _queries(states, network, keys, requests, cached)
    if queries is None:
        with states.exclusive():
            network = states.network  # of these states; another one may follow it soon
            queries = _queries(states, network, keys, requests, states.of(dict.fromkeys(keys)))
    return [network.named(*ranked) for ranked in network.model.rank(queries)]


def _queries(
    states: UserStates,
    network: LiveNetwork,
    keys: Sequence[str],
    requests: Sequence[Request],
    of_keys: Mapping[str, StoredState],
) -> list[Query]:
    """Return what a network is to list for requests, by the states of their keys."""
    queries: list[Query] = []
    of_session = _session_items(states, network, of_keys)
    for key, request in zip(keys, requests, strict=True):
        excluded = _indices(network, "exclude", request.exclude) | of_session.get(key, set())
        if request.exclude_seen:
            excluded |= {
                network.item_index[event.item] for event in states.known_events(key, network)
            }
        candidates = None
        if request.candidates is not None:
            candidates = _indices(network, "candidates", request.candidates)
        live = of_keys[key].live if key in of_keys else network.model.start
        queries.append(Query(live, request.k, excluded, candidates))
    return queries


def _indices(network: LiveNetwork, name: str, items: Collection[Id] | None) -> set[int]:
    """Return the indices of those items of an argument that are in the catalogue."""
    return set() if items is None else set(network.indices(name, items))


def _session_items(
    states: UserStates, network: LiveNetwork, of_keys: Mapping[str, StoredState]
) -> dict[str, set[int]]:
    """Return by key what a network's lists leave out as items of the open session, if so."""
    if not network.excludes_session_items:
        return {}
    numbers = {key: state.session.number for key, state in of_keys.items()}
    return {
        key: {network.item_index[item] for item in items if item in network.item_index}
        for key, items in states.store.session_items(numbers).items()
    }


def lists_after(
    network: LiveNetwork,
    states: Sequence[LiveState],
    events: Sequence[StoredEvent | None],
    k: int,
    *,
    exclude_seen: bool,
    first: int = 0,
) -> list[list[tuple[Id, float]]]:
    """Return the list right after each event of one user.

    Args:
        network: the network.
        states: after each event.
        events: of the user, with items of the catalogue; None for none.
        k: length of the lists.
        exclude_seen: leave out the items so far; by default those of the open session, if the
            network leaves them out of lists.
        first: the event that the lists begin with.
    """
    queries: list[Query] = []
    seen: frozenset[int] = frozenset()
    session = -1
    for state, event in zip(states, events, strict=True):
        if event is not None:
            if not exclude_seen and event.session != session:
                seen, session = frozenset(), event.session
            if exclude_seen or network.excludes_session_items:
                seen |= {network.item_index[event.item]}
        queries.append(Query(state, k, {*seen}, None))
    return [network.named(*ranked) for ranked in network.model.rank(queries[first:])]


def check_size(n_events: int, n_items: int, limit: int | None) -> None:
    """Raise InputError if lists of so many items, one after each event, are more than a limit."""
    if limit is not None and n_events * n_items > limit:
        raise errors.InputError(
            f"{n_events:,} events with {n_items:,} recommendations each are more than "
            f"{limit:,}: ask for fewer sessions or events, or for a smaller k"
        )
