"""Train on 1, 2 and 4 forced devices, and print as JSON how far the runs differ from one device.

A process of its own, as the number of devices is fixed when jax starts.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from experiments.bench.mesh import compiled
from hrnn_jax import errors, network
from hrnn_jax.config import EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.sharding import checkpoints, evaluation, tables, training
from hrnn_jax.training.epoch import epoch_schedule
from tests.helpers import logs

N_ITEMS, SEED = 41, 3  # not a multiple of the devices: the last rows of some are padding
DROPPING = {"dropout_session": 0.3, "dropout_user": 0.2, "dropout_init": 0.1}
# Of the network, of training, groups, epochs, devices.
RUNS = {
    "top1": ({}, {}, 4, 13, (1, 2, 4)),
    "one group": ({"variant": "rnn"}, {}, 1, 1, (1,)),
    "bpr_max": (
        {"variant": "hrnn_all", **DROPPING},
        {"loss": "bpr_max", "extra_negatives": 5, "momentum": 0.2, "mask_false_negatives": True},
        *(4, 1, (4,)),
    ),
    "log_q": (
        {"embedding": "tied"},
        {"loss": "cross_entropy", "log_q": True, "extra_negatives": 5, "bptt_steps": 2},
        *(4, 1, (2,)),
    ),
    "full_softmax": (
        {"embedding": "tied", "dropout_embedding": 0.1, "residual": True},
        {
            **{"loss": "full_softmax", "optimizer": "adam", "learning_rate": 0.01},
            "negative_hours": 200.0,
        },
        *(4, 1, (4,)),
    ),
}
LOG = logs.random(1, users=150, sessions=5, events=7, n_items=N_ITEMS)
LOG_TO_RANK = logs.random(2, users=60, sessions=4, events=6, n_items=N_ITEMS)


def made(name):
    of_model, of_training, groups, epochs, devices = RUNS[name]
    model_config = ModelConfig(n_items=N_ITEMS, **{"hidden_units": 8, **of_model})
    config = TrainConfig(batch_size=16, lane_groups=groups, chunk_steps=16, **of_training)
    return network.make_network(LOG, model_config, config, EvaluationConfig()), epochs, devices


def on_one(net, epochs):
    state, losses = net.init_state(SEED), []
    for epoch in range(epochs):
        result = network.ONE_DEVICE.train_epoch(net, state, [SEED], epoch)
        state = result.state
        losses.append(float(result.losses[0]))
    return jax.tree.map(np.asarray, state), losses, result.events


def over_mesh(net, epochs, n_devices):
    mesh, config = tables.make_mesh(jax.devices()[:n_devices]), net.setup.config
    start = jax.tree.map(np.asarray, net.init_state(SEED))
    state = tables.put_state(start, mesh, config)
    back = tables.take_state(state, mesh, config, N_ITEMS)
    jax.tree.map(np.testing.assert_array_equal, start, back)
    rows = state.params.items.item_out.sharding.shard_shape(state.params.items.item_out.shape)[0]
    assert rows == -(-N_ITEMS // n_devices)
    losses, seen = [], []
    for epoch in range(epochs):
        result = training.train_epoch(
            net, state, mesh, seed=SEED, epoch=epoch, watch=lambda n: _Watch(seen)
        )
        state = result.state
        losses.append(float(result.losses[0]))
    return tables.take_state(state, mesh, config, N_ITEMS), losses, sum(seen) / epochs


class _Watch:
    def __init__(self, seen):
        self.seen = seen

    def __enter__(self):
        return lambda events, loss: self.seen.append(events)

    def __exit__(self, *_):
        return None


def furthest(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max(initial=0)) for x, y in pairs)


def restored():
    """Save on two devices; return how far what 2, 4 and 1 devices read is from what was saved."""
    net, *_ = made("full_softmax")  # tied: some tables are None
    config, start = net.setup.config, jax.tree.map(np.asarray, net.init_state(SEED))
    like = jax.eval_shape(net.init_state, 0)
    four, two = (tables.make_mesh(jax.devices()[:n]) for n in (4, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        checkpoints.save_state(path, tables.put_state(start, two, config), two, epochs=1)
        found = []
        for mesh in (two, four):
            state = checkpoints.restore_state(path, like, mesh, config, epochs=1)
            found.append(tables.take_state(state, mesh, config, N_ITEMS))
        found.append(checkpoints.restore_whole(path, like, config, epochs=1))
    return [furthest(start, state) for state in found]


# Of the network, of the evaluation, devices.
RANKED = {
    "all": ({"variant": "hrnn_all"}, {"cutoffs": (3, 5)}, (2, 4)),
    "some candidates": (
        {"embedding": "tied"},
        {"candidates": 6, "cutoffs": (4,), "ties": "for"},
        (4,),
    ),
    "scores that tie or are none": (
        {"variant": "rnn_concat"},
        {"exclude_session_items": True, "cutoffs": (40,)},
        (4,),
    ),
}


def ranked(name):
    """Return in how many cases and lists a mesh differs from one device, and how many there are."""
    of_model, of_evaluation, devices = RANKED[name]
    model_config = ModelConfig(n_items=N_ITEMS, **{"hidden_units": 8, **of_model})
    config = TrainConfig(batch_size=16, lane_groups=4)
    # Few lanes and scores at a time, so that there are several chunks and blocks.
    of_evaluation = {"lanes": 24, "chunk_steps": 12, "score_values": 200, **of_evaluation}
    net = network.make_network(LOG_TO_RANK, model_config, config, EvaluationConfig(**of_evaluation))
    state = jax.tree.map(np.array, net.init_state(SEED))
    items = state.params.items
    items.item_bias[:] = np.random.default_rng(0).normal(0, 0.1, N_ITEMS)
    if name.startswith("scores"):
        items.item_bias[[3, 8]], items.item_bias[12] = np.nan, -np.inf
        for a in (items.item_out, items.item_bias):
            a[20:30] = a[20]
    one = network.ONE_DEVICE.rank(net, jax.tree.map(jax.device_put, state.params))
    found = []
    for n in devices:
        mesh = tables.make_mesh(jax.devices()[:n])
        params = tables.put_state(state, mesh, config).params
        other = evaluation.rank(net, params, mesh)
        differ = [
            int((a != b).sum()) for a, b in ((one.rank, other.rank), (one.shown, other.shown))
        ]
        found.append(differ)
    return {"differ": found, "cases": len(one.rank), "ranks": len({*one.rank.tolist()})}


def places_of_first():
    """Return the most places so far of the run that was trained first."""
    return next(iter(training._most_places.values()))


def refusal():
    net, *_ = made("one group")
    try:
        training.check(net.setup.config, tables.make_mesh())
    except errors.InputError as error:
        return str(error)
    return None


def large():
    """Compile an update of ten million items on all four devices, which nothing is trained of."""
    return compiled.compile_update(4, 10_000_000, 400)._asdict()


def main():
    top1, *_ = made("top1")
    before, fewest = over_mesh(top1, 1, 4), places_of_first()
    found = {}
    for name in RUNS:
        net, epochs, devices = made(name)
        state, losses, events = on_one(net, epochs)
        moved = furthest(state.params.items, net.init_state(SEED).params.items)
        runs = {}
        for n in devices:
            other, other_losses, other_events = over_mesh(net, epochs, n)
            ratio = np.abs(np.array(other_losses) / losses - 1).max()
            runs[n] = {
                "loss": float(ratio),
                "weights": furthest(state, other),
                "events": other_events / events,
            }
        found[name] = {"runs": runs, "moved": moved, "steps": net_steps(net, epochs)}
    # With the places of the 13 epochs of that run.
    again = furthest(before, over_mesh(top1, 1, 4)), fewest, places_of_first()
    found_ranks = {name: ranked(name) for name in RANKED}
    figures = {
        "again": again,
        "ranked": found_ranks,
        "refusal": refusal(),
        "large": large(),
        "restored": restored(),
    }
    json.dump({"runs": found, **figures}, sys.stdout)


def net_steps(net, epochs):
    setup = net.setup
    return sum(
        len(
            epoch_schedule(
                net.train_log, setup.model_config, setup.config, seed=SEED, epoch=e
            ).event
        )
        for e in range(epochs)
    )


if __name__ == "__main__":
    main()
