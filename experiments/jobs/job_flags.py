"""The flags of the commands that make many runs: reproduce and comparison."""

from __future__ import annotations

import pathlib

from absl import flags

from ..common import provenance
from .runner import Runner

FLAGS = flags.FLAGS


def define(*, root: str, n_seeds: int) -> None:
    """Define the flags; the arguments are defaults."""
    flags.DEFINE_integer(
        "n_seeds",
        n_seeds,
        "How many seeds, 0, 1, ..., each network is trained with.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "Processes side by side, each with its share of the cores; by default one per core, with "
        "one thread each: at 100 units a second thread does not make a run faster.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "run", True, "Whether to run what is missing; --norun reports on what is done so far."
    )
    flags.DEFINE_string("root", root, "The folder of all that the command writes.")
    flags.DEFINE_string("prepared_root", "out/prepared", "The folder that keeps prepared logs.")


def runner() -> Runner:
    """Return what runs the jobs as the flags say."""
    return Runner(pathlib.Path(FLAGS.root), FLAGS.prepared_root, FLAGS.jobs or provenance.cores())
