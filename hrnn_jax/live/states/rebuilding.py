"""Stored states that fit a network, and those that are computed again from their events.

A state is meaningless to other weights than those that made it, but weights that continue the
training of others may go on with their states.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hrnn_jax import errors
from hrnn_jax.live.batched_model import WIDTHS
from hrnn_jax.live.events import OpenSession
from hrnn_jax.live.live_network import LiveNetwork
from hrnn_jax.live.states.replay import states_of_events
from hrnn_jax.live.store.state_rows import Row, StoredState, event_of, session_of, state_of
from hrnn_jax.live.store.state_schema import FORMAT
from hrnn_jax.live.store.state_store import StateStore

logger = logging.getLogger(__name__)
_UNFINISHED = "none: a rebuild has not ended"  # stands for the weights until it has


def accept(
    store: StateStore,
    network: LiveNetwork,
    tables: Mapping[str, Sequence[Row]] | None = None,
    *,
    rebuild: bool,
) -> None:
    """Accept the stored states, or replace them by exported ones, if they fit the network.

    Args:
        store: the states. It is closed where computing them is interrupted, as some of them are
            of other weights than the others; no weights fit them until they are computed again.
        network: the network.
        tables: the exported states.
        rebuild: compute states that do not fit again. In a database that is one transaction.

    Raises:
        InputError: the states do not fit; nothing has changed.
    """
    with store.updating():
        _accept(store, network, tables, rebuild=rebuild)
        store.drop_old_events()  # of a start that kept more of them


def _accept(
    store: StateStore,
    network: LiveNetwork,
    tables: Mapping[str, Sequence[Row]] | None,
    *,
    rebuild: bool,
) -> None:
    ours = network.about
    stored = store.about if tables is None else dict(tables["about"])
    n_states = len(store) if tables is None else len(tables["states"])
    unknown = dict.fromkeys(ours, "damaged") if n_states else ours  # a new file has neither
    theirs = {name: stored.get(name, unknown[name]) for name in ours}
    fits = theirs["weights"] in network.trained.lineage and theirs["shape"] == ours["shape"]
    if not fits and not rebuild:
        raise errors.InputError(_refusal(store, network, theirs["weights"]))
    if tables is not None:
        if stored.get("format") != FORMAT:
            raise errors.InputError(
                f"the exported states are in format {stored.get('format')}, not {FORMAT}: export "
                "them with this version"
            )
        _check_states(tables["states"], network if fits else None)
        _check_events(tables["events"])
    begun: dict[str, str] = {"weights": _UNFINISHED} if rebuild and theirs != ours else {}
    if tables is not None:
        store.replace({**tables, "about": list((stored | begun).items())})
    elif begun:
        store.set_about(begun)
    if begun:
        try:
            _rebuild(store, network)
        except BaseException:
            store.close()
            raise
    store.set_about(ours)


def _check_states(rows: Sequence[Row], network: LiveNetwork | None) -> None:
    """Raise InputError for the first exported state that is damaged, or that no network can make.

    Args:
        rows: of the exported states.
        network: that made them; None if another one did, so that they are computed again.
    """
    for number, row in enumerate(rows, 1):
        try:
            if network is not None:
                state = state_of(row, network.item_index, network.model.start)
                if not np.isfinite(state.live.carry).all():
                    raise errors.InputError("it has numbers that are not finite")
            elif session_of(row) is None:
                raise errors.InputError("its bytes have changed (CRC-32)")
        except errors.InputError as error:
            raise errors.InputError(
                f"states.parquet, row {number}: {error}; export the states again"
            ) from None


def _check_events(rows: Sequence[Row]) -> None:
    """Raise InputError for the first exported event that is damaged."""
    for number, row in enumerate(rows, 1):
        if event_of(row) is None:
            raise errors.InputError(
                f"events.parquet, row {number}: its bytes have changed (CRC-32); export the states "
                "again"
            )


def _refusal(store: StateStore, network: LiveNetwork, weights: str) -> str:
    """Say why states of these weights do not fit the network."""
    if weights == _UNFINISHED:
        return (
            f"a rebuild of the states in {store.name} was interrupted, so some of them are of "
            "other weights than the others: start again with `rebuild`=True (`rebuild_states` of "
            "the service)"
        )
    return (
        f"the states in {store.name} were made by other weights than those of "
        f"{network.trained.folder}: give another file, or compute them again from their events "
        "(`rebuild`=True, `rebuild_states` of the service)"
    )


def repair(
    store: StateStore, network: LiveNetwork, sessions: Mapping[str, OpenSession | None]
) -> dict[str, StoredState]:
    """Compute damaged states again from the stored events, and write them.

    Args:
        store: where the states are.
        network: the network.
        sessions: the open session by the key of each damaged state; None if it is damaged too.

    Returns:
        The states of those keys that have a stored event. The others have lost their state, and
        are newcomers.
    """
    with store.updating(sessions):
        # Another process may have computed some meanwhile, and gone on with them.
        others, sessions = store.get(sessions)
        states, n_events = _computed(store, network, sessions)
        try:
            _replace(store, sessions, states)
            result = "written"
        except errors.StorageError as error:  # reading goes on
            result = f"not written, as {error}"
    if n := len(sessions):
        logger.warning(
            f"{n} damaged state{'s' * (n > 1)} in {store.name} computed again from "
            f"{n_events} stored events, and {result}"
        )
    return states | others


def _computed(
    store: StateStore, network: LiveNetwork, sessions: Mapping[str, OpenSession | None]
) -> tuple[dict[str, StoredState], int]:
    """Compute states from the stored events.

    Returns:
        The state of each key that has a stored event, and the number of these events.
    """
    events = {key: some for key in sessions if (some := store.events(key))}
    states = states_of_events(network.model, events, network.item_index, sessions)
    return states, sum(map(len, events.values()))


def _replace(store: StateStore, keys: Collection[str], states: Mapping[str, StoredState]) -> None:
    """Write the states of some keys that were computed again; delete the keys without one."""
    store.write(states, written=store.written(states))
    store.delete([key for key in keys if key not in states])


def _rebuild(store: StateStore, network: LiveNetwork) -> None:
    """Compute all states again from the stored events, some hundred keys at a time."""
    every = list(store.sessions())
    for begin in range(0, len(every), WIDTHS[-1]):
        keys = every[begin : begin + WIDTHS[-1]]
        states, damaged = store.get(keys)
        sessions = {key: state.session for key, state in states.items()}
        computed, _ = _computed(store, network, sessions | damaged)
        _replace(store, keys, computed)
