"""How many processes run side by side: the flag of every command that starts several."""

from __future__ import annotations

import dataclasses

from absl import flags

from hrnn_jax.config import setting
from hrnn_jax.files import provenance

from ..common import config_flags


@dataclasses.dataclass(frozen=True)
class SideBySideFlags:
    """The flag of commands that start several processes.

    Attributes:
        jobs: Processes side by side, each with its share of the cores; by default one per core,
            with one thread each: at 100 units a second thread does not make a run faster.
    """

    jobs: int | None = setting(None, least=1)


FLAGS = flags.FLAGS
config_flags.define_command(SideBySideFlags, "runs")


def number() -> int:
    """Return how many processes are asked for."""
    return FLAGS.jobs or provenance.cores()
