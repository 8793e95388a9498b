"""A small network and its live users, without a run folder."""

import pathlib

import numpy as np

from hrnn_jax.config import ModelConfig
from hrnn_jax.files.checkpoint import TrainedRun
from hrnn_jax.live.events import Event, Request
from hrnn_jax.live.recommender import Recommender, RecommenderConfig
from hrnn_jax.live.store import state_store
from tests.helpers import weights

N_ITEMS = 40
NOW = 1_700_000_000
GAP = 1800


def config(variant="hrnn_init", **settings):
    return ModelConfig(n_items=N_ITEMS, variant=variant, hidden_units=6, **settings)


def about(model_config, **settings):
    defaults = {
        "folder": pathlib.Path("run"),
        "seed": 0,
        "epochs": 1,
        "config": model_config,
        "items": [f"i{item}" for item in range(model_config.n_items)],
        "gap_seconds": GAP,
        "drop_repeats": False,
        "lineage": ("ours",),
    }
    return TrainedRun(**{**defaults, **settings})


def default_states():
    """Return where states are if a test does not say; the fixture `anywhere` replaces this."""
    return state_store.IN_MEMORY


def recommender(
    path=None,
    *,
    variant="hrnn_init",
    seed=0,
    rebuild=False,
    network=None,
    keep=None,
    mixture=None,
    **settings,
):
    """Return a recommender; keep: settings of RecommenderConfig, network: of ModelConfig."""
    model_config = config(variant, **network or {})
    return Recommender(
        about(model_config, mixture=mixture, **settings),
        weights.drawn(model_config, seed=seed),
        default_states() if path is None else path,
        rebuild=rebuild,
        config=RecommenderConfig(**keep or {}),
    )


def events(*items, user="u", time=NOW, session=None):
    """Return events of one user, a minute apart."""
    return [Event(f"i{item}", user, time + 60 * n, session) for n, item in enumerate(items)]


def random_events(seed, *, users=10, count=150):
    """Draw events of users u0, u1, ... in order of time; some open a session."""
    rng = np.random.default_rng(seed)
    times = NOW + np.cumsum(rng.choice([60, 2 * GAP], count, p=[0.7, 0.3]))
    return [
        Event(f"i{rng.integers(N_ITEMS)}", f"u{rng.integers(users)}", float(time)) for time in times
    ]


def all_lists(recommender, users=10):
    """Return the recommendations of all items for users u0, u1, ..."""
    requests = [Request(user=f"u{n}", k=N_ITEMS) for n in range(users)]
    return recommender.recommend_many(requests)


def assert_same_lists(result, expected, atol=1e-5):
    """Check that lists have the same items in the same order, and equal scores up to rounding."""
    assert [[item for item, _ in row] for row in result] == [
        [item for item, _ in row] for row in expected
    ]
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose([s for _, s in a], [s for _, s in b], rtol=0, atol=atol)
