"""One of two processes that train an epoch together: python -m ... PORT PROCESS.

Each has the events of its own groups' users alone. The first prints as JSON how far the run differs
from one device that has all.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from hrnn_jax import lane_groups, network
from hrnn_jax.config import EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.sharding import tables, training
from tests.helpers import logs

N_ITEMS, SEED = 41, 3


def main():
    """Train over both processes, and in the first also alone."""
    port, process = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
    log = logs.random(1, users=150, sessions=5, events=7, n_items=N_ITEMS)
    config = TrainConfig(batch_size=16, lane_groups=4, chunk_steps=16)
    model_config = ModelConfig(n_items=N_ITEMS, hidden_units=8)
    net = network.make_network(log, model_config, config, EvaluationConfig())
    mesh = tables.make_mesh()
    groups = training.own_groups(config, mesh)
    mine = np.isin(lane_groups.group_of(net.train_log.user, 4), list(groups))
    part = dataclasses.replace(net, train_log=net.train_log.where(mine))
    state = tables.put_state(net.init_state(SEED), mesh, config)
    result = training.train_epoch(part, state, mesh, seed=SEED, epoch=0)
    found = tables.take_state(result.state, mesh, config, N_ITEMS)
    if jax.process_index():
        return
    alone = network.train_epoch(net, net.init_state(SEED), [SEED], 0)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(alone.state), strict=True)
    figures = {
        "own": [len(part.train_log), len(net.train_log)],
        "events": [result.events, alone.events],
        "losses": [float(result.losses[0]), float(alone.losses[0])],
        "weights": max(float(np.abs(a - np.asarray(b)).max(initial=0)) for a, b in pairs),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
