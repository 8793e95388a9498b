"""One of the processes of test_processes.py: python worker.py PORT PROCESSES PROCESS FOLDER WORK.

It trains a toy whose table is spread over all devices: four epochs of integer-valued updates, with
a checkpoint after each.
"""

import os
import pathlib
import signal
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from hrnn_jax import errors
from hrnn_jax.files import checkpoint
from hrnn_jax.sharding import checkpoints, processes

ROWS, EPOCHS = 16, 4


def initial():
    """Return a table over all devices and a replicated weight."""
    mesh = jax.make_mesh((jax.device_count(),), ("shard",))
    by_row, same = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("shard",), ()))
    table = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    return {
        "dense": jax.make_array_from_callback((2,), same, lambda at: np.ones(2, np.float32)[at]),
        "table": jax.make_array_from_callback(table.shape, by_row, lambda at: table[at]),
    }


@jax.jit
def epoch(state):
    """Sum over all rows, so that every process needs the others."""
    dense = state["dense"] + state["table"].sum(axis=0)[:2] % 7
    return {"dense": dense, "table": state["table"] * 2 % 31 + dense[0]}


def train(folder, me, work):
    """Go on from the newest checkpoint; in "kill" process 0 dies inside the third epoch."""
    state = initial()
    if begin := checkpoint.latest(folder) or 0:
        state = checkpoints.restore(folder, state, epochs=begin)
    for number in range(begin, EPOCHS):
        if work == "kill" and number == 2 and me == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        state = epoch(state)
        checkpoints.save(folder, state, epochs=number + 1)
    print("begin", begin)
    whole = multihost_utils.process_allgather(state, tiled=True)
    if processes.is_first():
        np.savez(folder / f"result_{work}_{jax.process_count()}.npz", **whole)


def main():
    """Run one process."""
    port, count, me, folder, work = sys.argv[1:]
    me, folder = int(me), pathlib.Path(folder)
    try:
        place = processes.Place(f"127.0.0.1:{port}", int(count), me)
        processes.join(place, within=float(os.environ.get("WITHIN", "60")))
        with processes.together():
            if work == "differ":
                processes.check_same({"recipe": 1, "log": f"log {me}"})
            processes.check_same({"recipe": {"epochs": EPOCHS}})
            train(folder, me, work)
    except errors.InputError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
