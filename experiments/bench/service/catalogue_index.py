"""Rows of the benchmark about lists from an approximate index of a million items.

Catalogue and users are made: items near topics, with the biases of a popularity like that of real
logs, and users whose representations are near topics too. The network is not trained.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import model
from hrnn_jax.config import ModelConfig
from hrnn_jax.live.batched_model import SCORED_WIDTHS, BatchedModel
from hrnn_jax.live.item_index import MEASURED_USERS, OF_BEST, ItemIndex

from ..record import Row
from ..timing import Settings, seconds

ITEMS, UNITS, TOPICS = 1_000_000, 100, 2_000
NOISE, SCALE, POPULARITY = 0.7, 0.3, 0.3  # of an item in its topic, of all vectors, of log rank
USERS, AT_ONCE = 512, SCORED_WIDTHS[2]
BATCHES = 20  # of a turn
LEAST_RECALL = 0.98
LENGTH = 16  # the compiled list that holds ten items


def index(settings: Settings) -> Mapping[str, Row]:
    """Measure lists a second with an index beside all scores, and the share of the best found."""
    count = max(2_000, round(ITEMS * settings.scale))
    config = ModelConfig(n_items=count, variant="hrnn_init", hidden_units=UNITS)
    params = made_network(config)
    exact = BatchedModel(params, config)
    begin = time.perf_counter()
    # Where a network is trained, the users for whom that is measured are its own.
    indexed = BatchedModel(
        params,
        config,
        make_index=lambda items, mixture, _: ItemIndex(items, mixture, made_users(MEASURED_USERS)),
    )
    made = time.perf_counter() - begin
    # A user without an event is scored by the state itself.
    states = [
        exact.start._replace(carry=np.stack([hidden, 0 * hidden]))
        for hidden in made_users(USERS, seed=1)
    ]
    assert indexed.index is not None
    settings.print(f"{indexed.index.scored} items are scored, made in {made:.0f} s")

    def per_second(recommender: BatchedModel) -> float:
        parts = [states[n : n + AT_ONCE] for n in range(0, AT_ONCE * BATCHES, AT_ONCE)]
        took = seconds(lambda: [recommender.best(part, LENGTH) for part in parts])
        return len(parts) * AT_ONCE / took

    rates, of_exact = settings.turns(lambda: per_second(indexed), lambda: per_second(exact))
    found, best = (each.best(states, LENGTH)[0][:, :OF_BEST] for each in (indexed, exact))
    recall = [np.isin(row, some).mean() for row, some in zip(best, found, strict=True)]
    title = f"lists from an index of {count:,} made items, {UNITS} units (simulated)"
    note = (
        f"{indexed.index.scored:,} items are scored exactly for a list; items near "
        f"{TOPICS:,} topics, and {USERS} users near topics"
    )
    return {
        "recall": Row(
            f"{title}: share of the best {OF_BEST} items that are found",
            [float(np.mean(recall))],
            limit=LEAST_RECALL,
            unit="%",
            at_least=True,
            notes=[note],
        ),
        "rate": Row(
            f"{title}: {AT_ONCE} users at a time", rates, of_exact, "all scores", unit="lists/s"
        ),
        "made": Row(f"{title}: making it", [made]),
    }


def made_network(config: ModelConfig) -> model.Params:
    """Return an untrained network whose items are near topics."""
    rng = np.random.default_rng(0)
    count = config.n_items
    out = _topics()[rng.integers(TOPICS, size=count)]
    out += NOISE * rng.standard_normal(out.shape, dtype=np.float32)
    rank = 1 + rng.permutation(count)
    params = model.init_params(jax.random.key(0), config)
    items = dataclasses.replace(
        params.items,
        item_out=jnp.asarray(SCALE * out),
        item_bias=jnp.asarray(-POPULARITY * np.log(rank), jnp.float32),
    )
    return dataclasses.replace(params, items=items)


def made_users(count: int, *, seed: int = 0) -> np.ndarray:
    """Return representations near topics, between -1 and 1 as those of a GRU, [n, UNITS]."""
    rng = np.random.default_rng(seed)
    hidden = _topics()[rng.integers(TOPICS, size=count)]
    hidden += NOISE * rng.standard_normal(hidden.shape, dtype=np.float32)
    return np.tanh(hidden / 2)


def _topics() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((TOPICS, UNITS), dtype=np.float32)
