"""Rank with places, and learn their mixture, on forced devices; print how far these differ as JSON.

A process of its own, as the number of devices is fixed when jax starts.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from hrnn_jax import network
from hrnn_jax.config import EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.sharding import tables
from hrnn_jax.sharding.over_mesh import OverMesh
from hrnn_jax.training.held_out import HeldOut
from tests.helpers import logs, mixtures

N_ITEMS, SEED = 41, 3  # not a multiple of the devices: the last rows of some are padding
LOG = logs.random(1, users=60, sessions=5, events=6, n_items=N_ITEMS)
MODEL = ModelConfig(
    n_items=N_ITEMS, hidden_units=8, places=7, neighbours=6, idle_gap=True, dropout_session=0.3
)
TRAINING = TrainConfig(
    batch_size=16,
    lane_groups=4,
    chunk_steps=16,
    loss="softmax",
    optimizer="adam",
    learning_rate=0.01,
    negative_hours=200.0,
    held_out_patience=1,
)


def made(devices=network.ONE_DEVICE, **of_evaluation):
    # Few lanes and scores at a time, so that there are several chunks and blocks.
    config = EvaluationConfig(lanes=24, chunk_steps=12, score_values=400, **of_evaluation)
    return network.make_network(LOG, MODEL, TRAINING, config, devices=devices)


def over_mesh(n_devices):
    return OverMesh(tables.make_mesh(jax.devices()[:n_devices]))


def ranked():
    """Return in how many cases and lists four devices differ from one, and how many there are."""
    how = {"candidates": 12, "cutoffs": (4,), "ties": "for", "exclude_session_items": True}
    one, mesh = (made(devices, **how) for devices in (network.ONE_DEVICE, over_mesh(4)))
    mixture = mixtures.drawn(drops_repeats=True)
    state = jax.tree.map(np.array, one.init_state(SEED))
    state.params.items.item_bias[:] = np.random.default_rng(0).normal(0, 0.1, N_ITEMS)
    found = [
        net.devices.rank(net, net.devices.put(state, TRAINING).params, mixture)
        for net in (one, mesh)
    ]
    differ = [
        int((getattr(found[0], what) != getattr(found[1], what)).sum())
        for what in ("rank", "shown")
    ]
    ranks = found[0].rank.tolist()
    return {"differ": differ, "cases": len(ranks), "ranks": len(set(ranks))}


def furthest(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.float64(x) - np.float64(y)).max(initial=0)) for x, y in pairs)


def learnt():
    """Return how far the mixtures learnt on one device and on four differ, and what they learnt."""
    one, mesh = (
        HeldOut(made(devices), None, SEED).mixture(0)
        for devices in (network.ONE_DEVICE, over_mesh(4))
    )
    moved = min(float(np.abs(a).max()) for a in (one.gate, one.explore[1:], one.place.output))
    return {"differ": furthest(one, mesh), "moved": moved}


def drawn():
    """Return how far the weights that four devices draw are from those that one draws."""
    mesh = over_mesh(4)
    net = made(mesh)
    found = mesh.init_state(net, SEED)
    whole = tables.take_state(found, mesh.mesh, TRAINING, N_ITEMS)
    return furthest(net.init_state(SEED), whole)


def main():
    json.dump({"ranked": ranked(), "learnt": learnt(), "drawn": drawn()}, sys.stdout)


if __name__ == "__main__":
    main()
