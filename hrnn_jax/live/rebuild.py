"""Whether stored states fit the network, and computing them again from the stored events.

A state is meaningless to other weights than those that made it. Weights that continue the training
of others may go on with their states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax import errors
from hrnn_jax.checkpoint import TrainedRun
from hrnn_jax.live.batched_model import WIDTHS, BatchedModel
from hrnn_jax.live.replay import model_events, states_after
from hrnn_jax.live.state_store import StateStore, StoredState


def accept_states(
    store: StateStore,
    model: BatchedModel,
    about: TrainedRun,
    tables: Mapping[str, Sequence[tuple[Any, ...]]] | None = None,
    *,
    rebuild: bool,
) -> None:
    """Accept the states of a store, or replace them by exported ones, if they fit the network.

    Args:
        store: the states.
        model: the network.
        about: the network without its weights.
        tables: rows of exported tables that replace those of the store.
        rebuild: compute states that do not fit again from the stored events.

    Raises:
        InputError: the states were made by weights other than these and their ancestors.
    """
    ours = {
        "weights": about.lineage[0],
        "shape": repr((model.start.carry.shape, model.start.past.shape)),
    }
    stored = store.about if tables is None else dict(tables["about"])
    theirs = {name: stored.get(name, ours[name]) for name in ours}  # a new file has neither
    fits = theirs["weights"] in about.lineage and theirs["shape"] == ours["shape"]
    if not fits and not rebuild:
        raise errors.InputError(
            f"the states in {store.path} were made by other weights than those of {about.folder}: "
            "give another file, or compute them again from their events (`rebuild`=True, "
            "`rebuild_states` of the service)"
        )
    if tables is not None:
        store.replace(tables)
    if rebuild and theirs != ours:
        _rebuild(store, model)
    store.set_about(ours)


def _rebuild(store: StateStore, model: BatchedModel) -> None:
    """Compute all states again from the stored events, some hundred keys at a time."""
    sessions = store.sessions()
    keys = list(sessions)
    for begin in range(0, len(keys), WIDTHS[-1]):
        part = keys[begin : begin + WIDTHS[-1]]
        events = {key: model_events(store.events(key), store.item_index) for key in part}
        after = states_after(model, {}, events)
        states = {key: StoredState(some[-1], sessions[key]) for key, some in after.items() if some}
        store.write(states)
        store.delete([key for key in part if key not in states])  # none of their items is known
