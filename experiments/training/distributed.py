"""The processes of one run: how they are named, which of them writes, and where they wait.

Without --coordinator there is one process, and nothing here loads jax.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import NETWORKS, setting, settings

from ..common import config_flags, interrupt

AUTO = "auto"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DistributedFlags:
    """The processes that train one network together.

    Attributes:
        coordinator: HOST:PORT of process 0, the same for all processes of a run; the port is free
            there. Or 'auto' on a cluster that jax knows (SLURM, Kubernetes, Open MPI, TPU pods),
            which says the rest too.
        processes: How many processes train together.
        process: Which of them this is, from 0.
    """

    coordinator: str | None = setting(None, models=NETWORKS)
    processes: int | None = setting(None, least=1, models=NETWORKS)
    process: int | None = setting(None, least=0, models=NETWORKS)


FLAGS = flags.FLAGS
config_flags.define_command(DistributedFlags, "training")
# They belong to one call, and to one process.
OWN = tuple(settings(DistributedFlags))


def check() -> None:
    """Raise InputError where the flags name no process, or processes cannot train the network."""
    others = [name for name in ("processes", "process") if FLAGS[name].value is not None]
    if FLAGS.coordinator is None:
        if others:
            raise errors.InputError(
                f"--{others[0]} needs --coordinator: give HOST:PORT of process 0 to all processes"
            )
        return
    if FLAGS.coordinator == AUTO:
        if others:
            raise errors.InputError(
                f"--coordinator={AUTO} asks the cluster for --{others[0]}: drop it, or give "
                "--coordinator=HOST:PORT"
            )
    elif FLAGS.processes and (groups := FLAGS.lane_groups) % FLAGS.processes:
        raise errors.InputError(
            f"--lane_groups={groups} cannot be shared by {FLAGS.processes} processes: give a "
            "multiple of --processes"
        )
    refuse_for_mesh(f"--coordinator={FLAGS.coordinator}")


def refuse_for_mesh(given: str) -> None:
    """Raise InputError for what is not trained over several devices.

    given: what asks for several, in words.
    """
    if FLAGS.seeds_at_once > 1:
        raise errors.InputError(
            f"--seeds_at_once={FLAGS.seeds_at_once} is for one device, not with {given}: drop it, "
            "and the seeds are trained one after the other"
        )


@contextlib.contextmanager
def joined(hint: str) -> Generator[None]:
    """Connect with the other processes of the run, if there are any, for the block.

    All but process 0 print errors alone. Where one process alone fails, the others end too.

    Args:
        hint: how to go on after ctrl-C.
    """
    if FLAGS.coordinator is None:
        yield
        return
    with interrupt.importing():
        from hrnn_jax.sharding import processes

    coordinator = None if FLAGS.coordinator == AUTO else FLAGS.coordinator
    processes.join(processes.Place(coordinator, FLAGS.processes, FLAGS.process))
    with contextlib.ExitStack() as opened:
        if not processes.is_first():
            _print_nothing()
            opened.enter_context(interrupt.answered_at_once(hint))
        opened.enter_context(processes.together())
        yield


def is_first() -> bool:
    """Say whether this process writes the run folder."""
    if FLAGS.coordinator is None:
        return True
    from hrnn_jax.sharding import processes

    return processes.is_first()


def check_same(parts: Mapping[str, Any]) -> None:
    """Check that all processes were given the same work, see `processes.check_same`."""
    if FLAGS.coordinator is not None:
        from hrnn_jax.sharding import processes

        processes.check_same(parts)


def wait() -> None:
    """Wait until all processes are here."""
    if FLAGS.coordinator is not None:
        from hrnn_jax.sharding import processes

        processes.wait()


def first_alone(work: Callable[[], T]) -> T:
    """Let process 0 work, then the others, which find what it has made."""
    if not is_first():
        wait()
    made = work()
    if is_first():
        wait()
    return made


def of_first(value: T) -> T:
    """Return a number of process 0, in all processes: what they do next must be the same."""
    if FLAGS.coordinator is None:
        return value
    from hrnn_jax.sharding import processes

    return processes.of_first(value)


def _print_nothing() -> None:
    sys.stdout.flush()
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
