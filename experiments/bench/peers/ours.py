"""Train and rank with a network of this project, and print what it cost, as the peers' scripts do.

python -m experiments.bench.peers.ours --flagfile=rnn_small.flags --npz=log.npz --seconds=10

The first epoch, in which programs are compiled, and a first ranking are not timed. The last line is
a JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from importlib import metadata

import jax
from absl import flags

from hrnn_jax.config import setting
from hrnn_jax.training.held_out import HeldOut

from ...common import cli, compile_cache, config_flags, model_flags
from ...training import epochs
from .shared_log import read


@dataclasses.dataclass(frozen=True)
class OursFlags:
    """The flags of this command alone.

    Attributes:
        npz: The log.
        seconds: How long to train at least, in whole epochs.
    """

    npz: str = setting("log.npz")
    seconds: float = setting(10.0, least=0)


FLAGS = flags.FLAGS


def main() -> None:
    """Measure the network that the flags describe."""
    compile_cache.keep()
    model_flags.check()
    network = model_flags.make_network(read(pathlib.Path(FLAGS.npz)))
    state = epochs.train_epoch(network, network.init_state(0), [0], 0, title="warm-up").state
    events, seconds, timed = 0, 0.0, 0
    while timed == 0 or seconds < FLAGS.seconds:
        timed += 1
        done = epochs.train_epoch(network, state, [0], timed, title="training")
        state, of_epoch, took = done.state, done.events, done.seconds
        events, seconds = events + of_epoch, seconds + took
    params = jax.block_until_ready(state.params)
    del state
    mixture = None
    if network.table is not None:  # of an untrained network: its weights do not change the time
        mixture = HeldOut(network, None, 0).mixture(0)
    epochs.rank(network, params, mixture, title="warm-up")
    started = time.perf_counter()
    epochs.rank(network, params, mixture, title="ranking")
    result = {
        "events": events,
        "seconds": seconds,
        "cases": len(network.log.cases),
        "rank_seconds": time.perf_counter() - started,
        "settings": f"{FLAGS.hidden_units} units, batch {FLAGS.batch_size}, {FLAGS.optimizer}, "
        f"loss {FLAGS.loss}; an event is one with a target; whole epochs timed: {timed}",
        "versions": {name: metadata.version(name) for name in ("jax", "numpy")},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    config_flags.define_command(OursFlags)
    cli.run(main)
