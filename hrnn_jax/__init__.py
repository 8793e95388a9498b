"""Personalised session-based recommendation with hierarchical recurrent networks (HRNN), in JAX.

Quadrana, Karatzoglou, Hidasi and Cremonesi, "Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks", RecSys 2017.

Public names are loaded when they are first used: importing this package loads neither jax nor
polars.

Letters in shape comments: T steps, B lanes, V items, H units, S seeds, E events, U users,
W lanes that open a session with a history, K steps per update, N test cases, L session layers,
R items of a user's past, F features of each.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time, see __getattr__
    from hrnn_jax.config import (
        DataConfig,
        EvaluationConfig,
        ItemKnnConfig,
        ModelConfig,
        SessionKnnConfig,
        TrainConfig,
    )
    from hrnn_jax.epoch import epoch_schedule, run_epoch
    from hrnn_jax.errors import DivergedError, InputError, StorageError
    from hrnn_jax.evaluation import rank
    from hrnn_jax.event_log import EventLog
    from hrnn_jax.metrics import Ranking, summarise
    from hrnn_jax.train import init_state, make_setup

__version__ = "0.2.0"
__all__ = [
    "DataConfig",
    "DivergedError",
    "EvaluationConfig",
    "EventLog",
    "InputError",
    "ItemKnnConfig",
    "ModelConfig",
    "Ranking",
    "SessionKnnConfig",
    "StorageError",
    "TrainConfig",
    "__version__",
    "epoch_schedule",
    "init_state",
    "make_setup",
    "rank",
    "run_epoch",
    "summarise",
]
_MODULES = {
    "config": (
        "DataConfig",
        "EvaluationConfig",
        "ItemKnnConfig",
        "ModelConfig",
        "SessionKnnConfig",
        "TrainConfig",
    ),
    "epoch": ("epoch_schedule", "run_epoch"),
    "errors": ("DivergedError", "InputError", "StorageError"),
    "evaluation": ("rank",),
    "event_log": ("EventLog",),
    "metrics": ("Ranking", "summarise"),
    "train": ("init_state", "make_setup"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
