"""Measure what training, evaluation, preprocessing and the service cost.

    python -m experiments.benchmark                        # everything, an hour or two
    python -m experiments.benchmark --only=step,dropout    # some of it
    python -m experiments.benchmark --only=peers           # other libraries, which it installs
    python -m experiments.benchmark --record               # the report of what was measured

Results go to --record_file, each with its commit, machine and date. It collects the results of
several calls; a repeated measurement replaces the earlier one.
"""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import setting

from .bench import record
from .common import cli, config_flags, data_flags  # noqa: F401  --prepared_dir

with cli.extra("bench"):  # flags are made of it
    from .bench.peers import compare

if TYPE_CHECKING:  # the flags are checked before jax is loaded
    from .bench.tasks import Task

LONG_REPEATS = 3  # of a command that takes minutes


@dataclasses.dataclass(frozen=True)
class BenchmarkFlags:
    """The flags of this command alone, but for --only and --logs.

    Attributes:
        repeats: The number of times to measure, after one to warm up; at most 3 for what takes
            minutes: memory_run, peers, preprocessing, seeds, users.
        users_share: Share of the users, above 0, of all logs but those of single steps; less is for
            trying out.
        steps: Steps, in chunks of 256, of an epoch of HRNN Init small where steps are measured;
            larger models have fewer, of equal work.
        peers_dir: The folder that other libraries are installed in.
        record_file: The file that collects the results.
        record: Measure nothing, but write the report of --record_file to --record_dir.
        record_dir: The folder for benchmark.md, benchmark.json and figures/ of --record.
    """

    repeats: int = setting(5, least=1)
    users_share: float = setting(1.0, least=1e-5)
    steps: int = setting(4096, least=1)
    peers_dir: str = setting("out/peers", is_path=True)
    record_file: str = setting("out/benchmark/benchmark.json", is_path=True)
    record: bool = setting(False)
    record_dir: str = setting(str(pathlib.Path(__file__).with_name("results")), is_path=True)


FLAGS = flags.FLAGS
config_flags.define_command(BenchmarkFlags)
flags.DEFINE_list(
    "only",
    None,
    f"What to measure: all by default, but for {compare.NAME}, other libraries. An unknown name is "
    "answered by the list.",
)
flags.DEFINE_spaceseplist(
    "logs",
    [*compare.LOGS],
    "The logs of --only=peers, separated by spaces: journey, video (simulated), or "
    "name=path:recipe, where the recipe is 'video' or 'xing' (the paper's) or a flag file.",
)


def main() -> None:
    """Measure what --only names, or write the report."""
    from .bench import timing
    from .bench.tasks import TASKS

    path = pathlib.Path(FLAGS.record_file)
    if FLAGS.record:
        with cli.extra("bench"):  # it draws
            from .bench import report

        print(report.write(path, pathlib.Path(FLAGS.record_dir), order=[*TASKS]))
        return
    tasks = chosen_tasks()
    if path.exists():
        record.read(path)  # a damaged record is reported before anything is measured
    settings = timing.Settings(
        repeats=FLAGS.repeats,
        long_repeats=min(FLAGS.repeats, LONG_REPEATS),
        scale=FLAGS.users_share,
        steps=FLAGS.steps,
        prepared=pathlib.Path(FLAGS.prepared_dir),
        scratch=path.parent,
    )
    rows: list[record.Row] = []
    for number, (name, task) in enumerate(tasks.items(), start=1):
        print(f"{number} of {len(tasks)}: {name}", flush=True)
        started = time.perf_counter()
        made = timing.made()
        parts = task(settings)
        results = {f"{name}/{part}".rstrip("/"): result for part, result in parts.items()}
        record.add(path, results, made)
        measured = [result for result in results.values() if isinstance(result, record.Row)]
        for row in measured:
            settings.print("  ".join(filter(None, row.cells())))
        settings.print(f"{time.perf_counter() - started:.0f} s")
        rows += measured
    if rows:
        print()
        record.print_table(rows)
    print(f"\n{path}")


def chosen_tasks() -> dict[str, Task]:
    """Return the tasks of --only by name; each log of --logs is one for other libraries.

    Raises:
        InputError: One is unknown, a log is wrong, or there is none.
    """
    from .bench.tasks import TASKS

    only: list[str] = [*TASKS] if FLAGS.only is None else FLAGS.only
    known: dict[str, Mapping[str, Task]] = {name: {name: task} for name, task in TASKS.items()}
    if compare.NAME in only:
        if not FLAGS.logs:
            raise errors.InputError(f"`logs`= is empty: give some of {', '.join(compare.LOGS)}")
        known[compare.NAME] = compare.tasks(FLAGS.logs, pathlib.Path(FLAGS.peers_dir))
    if unknown := [name for name in only or [""] if name not in known]:
        names = ", ".join([*TASKS, compare.NAME])
        raise errors.InputError(f"`only`={unknown[0]}: give some of {names}")
    return {name: task for chosen in only for name, task in known[chosen].items()}


if __name__ == "__main__":
    cli.run(main, whole=False, hint=": what was measured is kept; --only=... goes on with the rest")
