"""Measure what a training step costs, and that the size of the catalogue does not matter.

    python -m experiments.benchmark --flagfile=hrnn_init_small.flags

Events are drawn at random, with the VIDEO set's mean lengths: what is measured depends on shapes
only. Machines are noisy, so the sizes take turns and the medians' ratio is what to read.
"""

from __future__ import annotations

import json
import pathlib
import time

import jax
import numpy as np
from absl import flags

from experiments import cli, models, results
from hrnn_jax import errors, lanes, model, training
from hrnn_jax import log as log_lib

FLAGS = flags.FLAGS
flags.DEFINE_list("items", ["1000", "60000"], "Sizes of the catalogue to measure, in items.")
flags.DEFINE_integer("repeats", 5, "Epochs measured at each size, after one to warm up.", 1)
flags.DEFINE_integer("users", 2000, "Users drawn; about 60 events each.", 2)
flags.DEFINE_string("json", None, "Also write the figures to this file.")


def random_log(rng: np.random.Generator, users: int, n_items: int) -> log_lib.EventLog:
    """Draw users with 9.8 sessions of 6.2 events in the mean (Table 1, VIDEO); no test events."""
    sessions = 5 + rng.poisson(4.8, users)
    events = 2 + rng.geometric(1 / 4.2, sessions.sum())
    session = np.repeat(np.arange(len(events)), events)
    return log_lib.EventLog(
        user=np.repeat(np.arange(users), sessions)[session].astype(np.int32),
        session=session.astype(np.int32),
        item=(n_items * rng.random(len(session)) ** 3).astype(np.int32),  # some are popular
        time=60 * np.arange(len(session)),
        test=np.zeros(len(session), bool),
        n_items=n_items,
    )


def sizes(model_config: model.Config, config: training.Config) -> dict[str, int]:
    """Return bytes of the tables with their optimizer state, and of a chunk's temporaries."""
    state = jax.eval_shape(lambda: training.init(0, model_config, config))
    lane = jax.ShapeDtypeStruct((config.chunk_steps, config.batch_size), np.int32)
    mask = jax.ShapeDtypeStruct(lane.shape, bool)
    opening = jax.ShapeDtypeStruct((config.chunk_steps, 24), np.int32)
    steps = lanes.Steps(lane, lane, mask, mask, mask, opening)
    place = jax.ShapeDtypeStruct((3,), np.uint32)
    carry = model.start((config.batch_size,), model_config)
    train = training.compiled(model_config, config, stacked=False)
    memory = train.lower(state, carry, steps, place).compile().memory_analysis()
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return {"state_bytes": held, "temporary_bytes": memory.temp_size_in_bytes}


class Subject:
    """A model in training on a catalogue of one size."""

    def __init__(self, n_items: int) -> None:
        self.model_config = models.model_config(n_items)
        self.config = models.training_config()
        self.log = random_log(np.random.default_rng(0), FLAGS.users, n_items)
        self.state = training.init(0, self.model_config, self.config)
        self.epoch = 0
        self.step_us: list[float] = []
        self.events_per_second: list[float] = []

    def train(self) -> None:
        """Train one more epoch and note what a step took."""
        schedule = training.schedule(self.log, FLAGS.model, self.config, seed=0, epoch=self.epoch)
        started = time.perf_counter()
        self.state, _ = training.run_epoch(
            self.state,
            [schedule],
            seeds=[0],
            epoch=self.epoch,
            model_config=self.model_config,
            config=self.config,
        )
        seconds = time.perf_counter() - started
        self.epoch += 1
        self.step_us.append(1e6 * seconds / len(schedule.event))
        self.events_per_second.append(schedule.steps.valid.sum() / seconds)


def main() -> None:
    if FLAGS.model not in model.VARIANTS:
        raise errors.InputError(f"--model={FLAGS.model} has no training step to measure")
    counts = models.whole_numbers("items", at_least=1)
    subjects = {n_items: Subject(n_items) for n_items in counts}
    for repeat in range(1 + FLAGS.repeats):
        for subject in subjects.values():
            subject.train()
            if repeat == 0:  # compiling
                subject.step_us.clear()
                subject.events_per_second.clear()
    rows = []
    for n_items, subject in subjects.items():
        step_us = subject.step_us
        rows.append(
            {
                "items": n_items,
                "step_us": float(np.median(step_us)),
                "step_us_min": min(step_us),
                "step_us_max": max(step_us),
                "events_per_second": float(np.median(subject.events_per_second)),
                **sizes(subject.model_config, subject.config),
            }
        )
    print(f"{models.NAMES[FLAGS.model]}, batch {FLAGS.batch_size}, {FLAGS.hidden_units} units\n")
    print(f"{'items':>9}{'us a step (min .. max)':>28}{'ratio':>7}{'events/s':>10}", end="")
    print(f"{'state':>10}{'temporary':>12}")
    for row in rows:
        spread = f"{row['step_us']:.0f} ({row['step_us_min']:.0f} .. {row['step_us_max']:.0f})"
        print(
            f"{row['items']:>9,}{spread:>28}{row['step_us'] / rows[0]['step_us']:>7.2f}"
            f"{row['events_per_second']:>10,.0f}{row['state_bytes'] / 1e6:>7.1f} MB"
            f"{row['temporary_bytes'] / 1e6:>9.2f} MB"
        )
    if FLAGS.json:
        results.write(pathlib.Path(FLAGS.json), json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main, whole=False)
