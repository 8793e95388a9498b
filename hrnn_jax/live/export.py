"""Export a trained network's weights as an npz file; numpy_scorer.py reads it and describes it."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np

from hrnn_jax import model
from hrnn_jax.files import atomic
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.repeat_explore.mixture import FittedMixture


def write(
    path: pathlib.Path | str,
    about: TrainedRun,
    params: model.Params,
    *,
    exclude_session_items: bool | None = None,
) -> None:
    """Write the weights as an npz file.

    Args:
        path: of the file.
        about: the network without its weights.
        params: the weights.
        exclude_session_items: as of `RecommenderConfig`.

    Raises:
        InputError: the file cannot be written.
    """
    network, items, user = params.network, params.items, params.network.user
    arrays: dict[str, Any] = {
        "items": np.array(about.items),
        "variant": np.array(about.config.variant),
        "leak": np.array(about.config.leak),
        "feed_last_item": np.array(about.config.feed_last_item),
        "drop_repeats": np.array(about.drop_repeats),
        "exclude_session_items": np.array(about.excludes_session_items(exclude_session_items)),
    }
    if about.config.residual:
        arrays["residual"] = np.array(True)
    tables = {name: getattr(items, name) for name in ("item_in", "item_out", "item_bias")}
    extras = {"embedding_w": network.embedding_w, "gap_w": network.gap_w}
    arrays |= {name: values for name, values in (tables | extras).items() if values is not None}
    for name in ("w_cand", "w_gates", "b"):
        arrays[f"session_{name}"] = np.stack([getattr(layer, name) for layer in network.session])
        if user is not None:
            arrays[f"user_{name}"] = getattr(user.gru, name)
    if network.session_w_in:
        arrays["session_w_in"] = np.stack(network.session_w_in)
    if user is not None:
        arrays |= {"user_w_in": user.w_in, "init_w": user.init_w, "init_b": user.init_b}
        if user.to_session_w is not None:
            arrays["user_to_session_w"] = user.to_session_w
    if (fitted := about.mixture) is not None:
        arrays |= _of_mixture(fitted, about.config.places)

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, **jax.device_get(arrays))

    atomic.write(pathlib.Path(path), savez)


def _of_mixture(fitted: FittedMixture, places: int) -> dict[str, Any]:
    weights, table = fitted.weights, fitted.table
    return {
        "places": np.array(places),
        **{f"place_{name}": values for name, values in vars(weights.place).items()},
        "mixture_repeat": weights.repeat,
        "mixture_gate": weights.gate,
        "mixture_explore": weights.explore,
        "never_twice": weights.drops_repeats,
        "neighbour_item": table.item,
        "neighbour_share": table.share,
        "item_users": table.users,
    }
