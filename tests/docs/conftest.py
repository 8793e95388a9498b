"""Examples register names; other tests must not see them."""

import pytest

from hrnn_jax import config, losses, presets
from hrnn_jax.baselines import by_name
from hrnn_jax.files import registered_code
from hrnn_jax.preprocess import datasets

LISTS = (
    config.SAMPLED_LOSSES,
    config._WITH_EXTRA_NEGATIVES,
    config.LOSSES,
    config.MODELS,
    datasets.NAMES,
)
DICTS = (
    losses.SAMPLED,
    datasets.RECIPES,
    datasets.COLUMNS,
    datasets._registered,
    by_name._registered,
    presets.NAMES,
    registered_code.SOURCES,
)


@pytest.fixture(autouse=True)
def _registries():
    """Take back what a test registers."""
    lists, dicts = [list(names) for names in LISTS], [dict(entries) for entries in DICTS]
    yield
    for names, before in zip(LISTS, lists, strict=True):
        names[:] = before
    for entries, before in zip(DICTS, dicts, strict=True):
        entries.clear()
        entries.update(before)
