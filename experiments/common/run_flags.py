"""The flags that name a trained network: those of the commands that use one."""

from __future__ import annotations

import pathlib

from absl import flags

from ..folders.newest import newest_network
from ..folders.row_names import title
from .run_folder import read_metrics

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "run", None, "The folder of the run whose network is used; by default the newest in out/runs."
)
flags.DEFINE_integer(
    "seed", None, "Which of the run's seeds; the lowest by default.", lower_bound=0
)


def folder() -> pathlib.Path:
    """Return --run, or else the newest run with weights in out/runs.

    Raises InputError where there is none.
    """
    if FLAGS.run:
        return pathlib.Path(FLAGS.run)
    run = newest_network()
    name = title(run, read_metrics(run) or {})
    print(f"{run}, {name}: the newest run of a network (--run names another)", flush=True)
    return run
