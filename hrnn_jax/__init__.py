"""Personalised session-based recommendation with hierarchical recurrent networks (HRNN), in JAX.

Quadrana, Karatzoglou, Hidasi and Cremonesi, "Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks", RecSys 2017.

Public names are loaded when they are first used: importing this package loads neither jax nor
polars.

Letters in shape comments: T steps, B lanes, V items, H units, S seeds, E events, U users,
W lanes that open a session with a history, K steps per update or neighbours of an item, N test
cases, L session layers, R places of a user's history.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"
# Public name -> the module that defines it; __init__.pyi says so to type checkers.
_CONFIGS = (
    "CountsConfig DataConfig EaseConfig EvaluationConfig ItemKnnConfig ModelConfig PopularConfig "
    "ReadConfig RecommenderConfig SessionKnnConfig StanConfig TrainConfig"
)
_MODULES = ("callbacks", "datasets")  # the public names that are modules
_PLACES = {
    **dict.fromkeys(_MODULES, "estimators"),
    **dict.fromkeys(_CONFIGS.split(), "config"),
    **dict.fromkeys(("DivergedError", "InputError", "StorageError"), "errors"),
    **dict.fromkeys(("Recommender", "load_recommender"), "live.recommender"),
    **dict.fromkeys(("Ranking", "summarise"), "ranking.metrics"),
    **dict.fromkeys(("epoch_schedule", "run_epoch"), "training.epoch"),
    **dict.fromkeys(("init_state", "make_setup"), "training.train"),
    **dict.fromkeys(("Event", "Request"), "live.events"),
    **dict.fromkeys(("HRNN", "HRNNPlus", "RNN", "RNNConcat"), "estimators.networks"),
    **dict.fromkeys(
        (
            "Counts",
            "EASE",
            "ItemKNN",
            "Markov",
            "PPOP",
            "Popular",
            "SR",
            "STAN",
            "UVSTAN",
            "VSKNN",
            "VSKNNBR",
            "VSTAN",
        ),
        "estimators.counting_models",
    ),
    **dict.fromkeys(("Log", "Part", "read"), "estimators.logs"),
    **dict.fromkeys(("evaluate", "ranks"), "estimators.evaluate"),
    "Epoch": "estimators.callbacks.trained_epoch",
    "EventLog": "event_log",
    "load": "estimators.loading",
    "load_run": "files.checkpoint",
    "rank": "ranking.evaluation",
}
__all__ = sorted([*_PLACES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = importlib.import_module(f"{__name__}.{_PLACES[name]}")
    if name in _MODULES:
        value = importlib.import_module(f"{place.__name__}.{name}")
    else:
        value = getattr(place, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
