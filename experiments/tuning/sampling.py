"""What Optuna draws and prunes the trials of a search with."""

from __future__ import annotations

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from .search_spaces import Choice, Search, Space, Values

FIRST_PRUNED = 2  # epoch; values after the first are near chance, see docs/concepts/tuning.md
TPE_STARTUP = 5  # trials, at least


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each flag that is searched."""
    return {name: _distribution(values) for name, values in space.items()}


def _distribution(values: Values) -> BaseDistribution:
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.is_whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def sampler(search: Search, seed: int) -> BaseSampler:
    """Return the sampler that draws a trial."""
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    # constant_liar: keep away from what other processes are trying.
    return TPESampler(
        seed=seed,
        n_startup_trials=max(TPE_STARTUP, search.startup_trials),
        constant_liar=True,
    )


def pruner(search: Search) -> BasePruner:
    """Return the pruner of a study."""
    if search.pruner == "none":
        return NopPruner()
    return MedianPruner(search.startup_trials, n_warmup_steps=FIRST_PRUNED)
