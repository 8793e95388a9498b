"""What tune searches: a row per model or recipe, a flag and where its values are drawn from.

The paper tuned "the hyper-parameters of each model (baselines included) on the validation set
using random search" (Section 4.2) and names no ranges: these hold all of Table 2, with room.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna import distributions

from hrnn_jax import errors

Space = dict[str, distributions.BaseDistribution]  # by flag

TENTHS = distributions.CategoricalDistribution((0.0, 0.1, 0.2, 0.3, 0.4, 0.5))
TRAINING: Space = {
    "learning_rate": distributions.FloatDistribution(0.01, 0.3, log=True),
    "momentum": TENTHS,
    "batch_size": distributions.CategoricalDistribution((25, 50, 100, 200)),
    "dropout_session": TENTHS,
}
NEIGHBOURS: Space = {"neighbours": distributions.IntDistribution(10, 1000, log=True)}
SESSION_KNN: Space = {
    **NEIGHBOURS,
    "sample_size": distributions.IntDistribution(500, 5000, log=True),
}
PERSONAL: Space = {"dropout_user": TENTHS, "dropout_init": TENTHS}
BY_MODEL: dict[str, Space] = {
    "rnn": TRAINING,
    "rnn_concat": TRAINING,
    "hrnn_init": TRAINING | PERSONAL,
    "hrnn_all": TRAINING | PERSONAL,
    # Cuts the end of the list only: a metric at an N below it does not move.
    "item_knn": NEIGHBOURS,
    "vsknn": SESSION_KNN,
    "vsknn_br": {
        **SESSION_KNN,
        "boost": distributions.FloatDistribution(0.0, 4.0),
        "remind_weight": distributions.FloatDistribution(0.0, 4.0),
    },
}
# Flag files whose values lie elsewhere than their model's: a space, and the model that it is of.
RECIPES: dict[str, tuple[str, Space]] = {
    "hrnn_plus": (
        "hrnn_init",
        {
            "learning_rate": distributions.FloatDistribution(0.0005, 0.005, log=True),
            "batch_size": distributions.CategoricalDistribution((50, 100)),
            "negative_hours": distributions.CategoricalDistribution((0.0, 24.0)),
            "embedding": distributions.CategoricalDistribution(("none", "tied")),
            "neighbours_weight": distributions.FloatDistribution(0.1, 1.0, log=True),
            "dropout_session": distributions.CategoricalDistribution(
                (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
            ),
        },
    ),
}
BY_NAME = BY_MODEL | {name: space for name, (_, space) in RECIPES.items()}


def of(model: str, fixed: Sequence[str], name: str | None = None) -> Space:
    """Return what to search for a model, less the flags that are `fixed`.

    name: of BY_NAME, which space; the model's own by default. Raises InputError if that is another
    model's or nothing, or if a fixed flag is not one of those searched.
    """
    if model not in BY_MODEL:
        raise errors.InputError(
            f"--model={model} has nothing to tune: take one of {', '.join(BY_MODEL)}"
        )
    name = name or model
    owner = RECIPES[name][0] if name in RECIPES else name
    if owner != model:
        raise errors.InputError(f"--space={name} is searched for --model={owner}, not {model}")
    whole = BY_NAME[name]
    if strange := sorted(set(fixed) - whole.keys()):
        raise errors.InputError(
            f"--fix={','.join(fixed)}: {strange[0]} is not searched for "
            f"--{'model' if name == model else 'space'}={name}; what is: {', '.join(whole)}"
        )
    space = {name: values for name, values in whole.items() if name not in fixed}
    if not space:
        raise errors.InputError(f"--fix={','.join(fixed)} leaves nothing to tune: fix less")
    return space


def ends(values: distributions.BaseDistribution) -> tuple[float, ...]:
    """Return the values that bound the others, or all where they are few."""
    if isinstance(values, distributions.CategoricalDistribution):
        return values.choices
    return values.low, values.high


def describe(values: distributions.BaseDistribution) -> str:
    """Say in a few words where values are drawn from."""
    if isinstance(values, distributions.CategoricalDistribution):
        return f"one of {', '.join(map(str, values.choices))}"
    kind = "whole numbers " if isinstance(values, distributions.IntDistribution) else ""
    return f"{kind}{values.low} to {values.high}{', log-uniform' if values.log else ''}"


def table() -> str:
    """Describe all of it, models that are searched alike together."""
    alike: dict[str, list[str]] = {}
    for name, space in BY_NAME.items():
        rows = "\n".join(f"  {flag:<16} {describe(values)}" for flag, values in space.items())
        alike.setdefault(rows, []).append(name)
    return "\n".join(f"{', '.join(names)}\n{rows}" for rows, names in alike.items())
