"""One of the processes that train over a mesh, told from outside when to train.

python -m experiments.bench.mesh.one_process ITEMS STEPS COORDINATOR PROCESSES PROCESS

Each line of standard input asks for an epoch, whose events a second are a line beginning with
`RATE`; the first such line, of an epoch in which programs are compiled, is printed unasked.
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np

from hrnn_jax import network
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.sharding import processes, tables, training
from hrnn_jax.training import lane_groups

from ..benchmark_model import INIT_SMALL, random_log, users_of

RATE = "events/s "
LANES, GROUPS = 400, 2
MODEL = INIT_SMALL.replace(batch_size=LANES)


def main() -> None:
    """Train until standard input ends."""
    jax.config.update("jax_platforms", "cpu")
    n_items, steps = map(int, sys.argv[1:3])
    coordinator, n_processes, process = sys.argv[3], *map(int, sys.argv[4:])
    if n_processes > 1:
        processes.join(processes.Place(coordinator, n_processes, process))
    model = MODEL.replace(n_items=n_items)
    config = dataclasses.replace(model.train_config, lane_groups=GROUPS)
    log = random_log(np.random.default_rng(0), users_of(LANES, steps), n_items)
    made = network.make_network(log, model.model_config, config, EvaluationConfig())
    mesh = tables.make_mesh()
    own = np.isin(lane_groups.group_of(log.user, GROUPS), training.own_groups(config, mesh))
    made = dataclasses.replace(made, train_log=log.where(own))
    state = tables.put_state(made.init_state(0), mesh, config)
    with processes.together():
        epoch = 0
        while True:
            done = training.train_epoch(made, state, mesh, seed=0, epoch=epoch)
            state = jax.block_until_ready(done.state)
            # Without the time of compiling, where this epoch needs another program.
            print(f"{RATE}{done.rate or done.events / done.seconds}", flush=True)
            epoch += 1
            if not sys.stdin.readline():
                return


if __name__ == "__main__":
    main()
