"""The flags that name a trained network: those of the commands that use one."""

from __future__ import annotations

import pathlib

from absl import flags

from hrnn_jax import errors

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "The folder of the run whose network is used: its --output_dir.")
flags.DEFINE_integer(
    "seed", None, "Which of the run's seeds; the lowest by default.", lower_bound=0
)


def folder() -> pathlib.Path:
    """Return --run. Raises InputError where it is not given."""
    if not FLAGS.run:
        raise errors.InputError("--run is missing: give the --output_dir of an experiments.run")
    return pathlib.Path(FLAGS.run)
