"""The search spaces of `tune`: for each model, the flags and the values that are drawn.

The paper tuned "the hyper-parameters of each model (baselines included) on the validation set
using random search" (Section 4.2) and names no ranges: these contain all of Table 2.

Nothing here imports Optuna: `sampling` makes its distributions of these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hrnn_jax import errors


@dataclasses.dataclass(frozen=True)
class Choice:
    """Some values, each as likely."""

    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers between two, which are whole where the two are."""

    low: float
    high: float
    log: bool = False  # log-uniform

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int)


Values = Choice | Range
Space = dict[str, Values]  # by flag
SAMPLERS = ("random", "tpe")
PRUNERS = ("median", "none")


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    space: Space
    sampler: str  # one of SAMPLERS
    pruner: str  # one of PRUNERS
    startup_trials: int  # complete trials before any is pruned


TENTHS = Choice((0.0, 0.1, 0.2, 0.3, 0.4, 0.5))
TRAINING: Space = {
    "learning_rate": Range(0.01, 0.3, log=True),
    "momentum": TENTHS,
    "batch_size": Choice((25, 50, 100, 200)),
    "dropout_session": TENTHS,
}
NEIGHBOURS: Space = {"neighbours": Range(10, 1000, log=True)}
SESSION_KNN: Space = {
    **NEIGHBOURS,
    "sample_size": Range(500, 5000, log=True),
}
# The values that session-rec's configurations search, by the lengths of their logs' sessions.
STEPS = Choice((0.00001, 0.4525, 0.905, 1.81, 3.62, 7.24, 14.48, 28.96))
STAN: Space = {
    "neighbours": Choice((100, 200, 500, 1000, 1500, 2000)),
    "sample_size": Choice((1000, 2500, 5000, 10000)),
    "lambda_spw": STEPS,
    "lambda_snh": Choice((2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 100.0)),
    "lambda_inh": STEPS,
}
VSTAN: Space = {
    **STAN,
    "lambda_ipw": STEPS,
    "lambda_idf": Choice((0.0, 1.0, 2.0, 5.0, 10.0)),
}
# Of parts of a mixture, next to a part of weight 1.
WEIGHTS = Choice((0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0))
PERSONAL: Space = {"dropout_user": TENTHS, "dropout_init": TENTHS}
BY_MODEL: dict[str, Space] = {
    "rnn": TRAINING,
    "rnn_concat": TRAINING,
    "hrnn_init": TRAINING | PERSONAL,
    "hrnn_all": TRAINING | PERSONAL,
    # It shortens the list only: a metric at a smaller N does not depend on it.
    "item_knn": NEIGHBOURS,
    "vsknn": SESSION_KNN,
    "vsknn_br": {
        **SESSION_KNN,
        "boost": Range(0.0, 4.0),
        "remind_weight": Range(0.0, 4.0),
    },
    "stan": STAN,
    "vstan": VSTAN,
    # The ranges of Latifi et al. 2021; their reminders weigh 1 to 10, in another unit.
    "u_vstan": {
        **VSTAN,
        "extend": Range(1, 25),
        "boost": Range(0.1, 3.9),
        "remind_weight": Range(0.0, 4.0),
    },
    "popular": {"window_hours": Choice((0.0, 1.0, 6.0, 24.0, 168.0, 720.0))},
    "counts": {
        "half_life": Choice((5.0, 10.0, 20.0, 50.0, 200.0, 1000.0)),
        "markov_weight": WEIGHTS,
        "rules_weight": WEIGHTS,
        "cosine_weight": WEIGHTS,
        **NEIGHBOURS,
    },
    "ease": {
        "l2": Range(1.0, 10000.0, log=True),  # Steck's best are 200, 500 and 1,000
        "ease_rows": Choice(("users", "sessions")),
    },
}
# Flag files that need a space of their own: their model, and the space.
BY_FLAG_FILE: dict[str, tuple[str, Space]] = {
    "hrnn_plus": (
        "hrnn_init",
        {
            "learning_rate": Range(0.0005, 0.005, log=True),
            "batch_size": Choice((50, 100)),
            "negative_hours": Choice((0.0, 24.0)),
            "embedding": Choice(("none", "tied")),
            "dropout_session": Choice((0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        },
    ),
}
BY_NAME = BY_MODEL | {name: space for name, (_, space) in BY_FLAG_FILE.items()}


def search_space(model: str, fixed: Sequence[str], name: str | None = None) -> Space:
    """Return what to search for a model.

    Args:
        model: The model.
        fixed: Flags that are not searched.
        name: Which space, one of BY_NAME; by default the model's own.

    Raises:
        InputError: The model has no such space, a fixed flag is not in it, or nothing is left.
    """
    if model not in BY_MODEL:
        raise errors.InputError(
            f"`model`={model} has nothing to tune: take one of {', '.join(BY_NAME)}"
        )
    name = name or model
    owner = BY_FLAG_FILE[name][0] if name in BY_FLAG_FILE else name
    if owner != model:
        raise errors.InputError(f"`space`={name} is searched for `model`={owner}, not {model}")
    whole = BY_NAME[name]
    if unknown := sorted(set(fixed) - whole.keys()):
        raise errors.InputError(
            f"`fix`={','.join(fixed)}: {unknown[0]} is not searched for "
            f"{'`model`' if name == model else '`space`'}={name}; what is: {', '.join(whole)}"
        )
    space = {flag: values for flag, values in whole.items() if flag not in fixed}
    if not space:
        raise errors.InputError(f"`fix`={','.join(fixed)} leaves nothing to tune: fix less")
    return space


def bounds(values: Values) -> tuple[Any, ...]:
    """Return the smallest and the largest value, or all values of a choice."""
    if isinstance(values, Choice):
        return values.values
    return values.low, values.high


def describe(values: Values) -> str:
    """Describe in a few words how values are drawn."""
    if isinstance(values, Choice):
        return f"one of {', '.join(map(str, values.values))}"
    kind = "whole numbers " if values.is_whole else ""
    return f"{kind}{values.low} to {values.high}{', log-uniform' if values.log else ''}"


def table() -> str:
    """Describe all search spaces; models with the same space stand together."""
    by_rows: dict[str, list[str]] = {}
    for name, space in BY_NAME.items():
        rows = "\n".join(f"  {flag:<17} {describe(values)}" for flag, values in space.items())
        by_rows.setdefault(rows, []).append(name)
    return "\n".join(f"{', '.join(names)}\n{rows}" for rows, names in by_rows.items())
