"""Export a trained network's weights as an npz file; numpy_scorer.py reads it and describes it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from hrnn_jax import errors, model
from hrnn_jax.files import atomic
from hrnn_jax.files.checkpoint import TrainedRun

# Settings beyond the paper that the scorer does not support, and their values in the paper.
_UNSUPPORTED = {"places": 0, "idle_gap": False, "embedding": "none"}


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
        InputError: the network has an extension of the paper that the scorer does not support.
    """
    for name, paper in _UNSUPPORTED.items():
        if getattr(about.config, name) != paper:
            raise errors.InputError(
                f"{about.folder} was trained with `{name}`, which numpy_scorer.py does not "
                "support: serve it over HTTP, or train it without"
            )
    network, items, user = params.network, params.items, params.network.user
    arrays: dict[str, Any] = {
        "items": np.array(about.items),
        "variant": np.array(about.config.variant),
        "leak": np.array(about.config.leak),
        "feed_last_item": np.array(about.config.feed_last_item),
        "drop_repeats": np.array(about.drop_repeats),
        "exclude_session_items": np.array(about.excludes_session_items(exclude_session_items)),
    }
    for name in ("item_in", "item_out", "item_bias"):
        arrays[name] = getattr(items, name)
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

    def savez(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # np.savez adds .npz to a name without it
            np.savez(file, **arrays)

    atomic.write(pathlib.Path(path), savez)
