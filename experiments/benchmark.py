"""Measure what training, evaluation and preprocessing cost, each beside the least it can cost.

    python -m experiments.benchmark                        # everything, an hour or two
    python -m experiments.benchmark --only=step,dropout    # some of it
    python -m experiments.benchmark --record               # what was measured, as a report

Figures go to --record_file, each with its commit, machine and date: those of several calls come
together there, and a repeated one takes the place of the earlier.
"""

from __future__ import annotations

import functools
import pathlib
import shutil
import time
from collections.abc import Callable

from absl import flags

from hrnn_jax import errors

from .bench import anatomy, commands, measures, scaling, service, stages, steps
from .bench.measures import Found, Row, Settings
from .common import cli

_step = steps.products
TASKS: dict[str, Callable[[Settings], Found]] = {
    "step": functools.partial(
        _step, network=steps.INIT_SMALL, title="training step, HRNN Init small", limit=1.5
    ),
    "step_large": functools.partial(
        _step, network=steps.INIT_LARGE, title="HRNN Init large", limit=1.25
    ),
    "step_all": functools.partial(
        _step, network=steps.ALL_SMALL, title="HRNN All small", limit=1.6
    ),
    "step_rnn": functools.partial(_step, network=steps.RNN_SMALL, title="RNN small", limit=1.6),
    "step_rnn_concat": functools.partial(
        _step, network=steps.CONCAT_SMALL, title="RNN Concat small", limit=1.6
    ),
    "anatomy": functools.partial(anatomy.parts, network=steps.INIT_SMALL, title="HRNN Init small"),
    "anatomy_large": functools.partial(
        anatomy.parts, network=steps.INIT_LARGE, title="HRNN Init large"
    ),
    "anatomy_all": functools.partial(
        anatomy.parts, network=steps.ALL_SMALL, title="HRNN All small"
    ),
    "anatomy_rnn": functools.partial(anatomy.parts, network=steps.RNN_SMALL, title="RNN small"),
    "anatomy_rnn_concat": functools.partial(
        anatomy.parts, network=steps.CONCAT_SMALL, title="RNN Concat small"
    ),
    "dropout": steps.dropout,
    "catalogue": steps.catalogue,
    "memory": steps.memory,
    "memory_run": commands.whole_run,
    "evaluation": stages.evaluate,
    "preprocessing": commands.preprocessing,
    "schedule": stages.schedule,
    "start": commands.start,
    "seeds": commands.seeds,
    "seeds_at_once": steps.seeds_at_once,
    "users": commands.users,
    "serving": service.serving,
    "gpu": steps.gpu,
    "scaling_items": scaling.items,
    "scaling_batch": scaling.batch,
    "scaling_units": scaling.units,
    "scaling_events": scaling.events,
}
LONG_REPEATS = 3  # of what takes minutes

FLAGS = flags.FLAGS
flags.DEFINE_list("only", [*TASKS], f"What to measure, of {', '.join(TASKS)}; all by default.")
flags.DEFINE_integer(
    "repeats",
    5,
    "Turns that are measured, after one to warm up; at most "
    f"{LONG_REPEATS} of what takes minutes: memory_run, preprocessing, seeds, users.",
    lower_bound=1,
)
flags.DEFINE_float(
    "users_share",
    1.0,
    "Share of the users, above 0, of all that is not measured in steps; less is for trying out.",
    lower_bound=1e-5,
)
flags.DEFINE_integer(
    "steps",
    4096,
    "Steps, in chunks of 256, of an epoch of HRNN Init small where steps are measured; of larger "
    "networks fewer, of equal work.",
    lower_bound=1,
)
flags.DEFINE_string(
    "record_file", "out/benchmark/benchmark.json", "The file that the figures are merged into."
)
flags.DEFINE_bool(
    "record", False, "Measure nothing, but write the report of --record_file to --record_dir."
)
flags.DEFINE_string(
    "record_dir",
    str(pathlib.Path(__file__).with_name("results")),
    "The folder for benchmark.md, benchmark.json and figures/ of --record.",
)


def main() -> None:
    path = pathlib.Path(FLAGS.record_file)
    if FLAGS.record:
        from .bench import report  # draws with matplotlib, an extra

        print(report.write(path, pathlib.Path(FLAGS.record_dir), order=[*TASKS]))
        return
    if unknown := [name for name in FLAGS.only if name not in TASKS]:
        raise errors.InputError(f"--only={unknown[0]}: give some of {', '.join(TASKS)}")
    if path.exists():
        measures.read(path)  # what is wrong with it is said at once
    settings = Settings(
        repeats=FLAGS.repeats,
        long_repeats=min(FLAGS.repeats, LONG_REPEATS),
        scale=FLAGS.users_share,
        steps=FLAGS.steps,
        prepared=pathlib.Path(FLAGS.prepared_dir),
        scratch=path.parent / "scratch",
        say=lambda line: print(f"    {line}", flush=True),
    )
    rows = []
    try:
        for number, name in enumerate(FLAGS.only, start=1):
            print(f"{number} of {len(FLAGS.only)}: {name}", flush=True)
            started = time.perf_counter()
            by = measures.made()
            found = {
                "/".join(filter(None, (name, part))): each
                for part, each in TASKS[name](settings).items()
            }
            measures.merge(path, found, by)
            told = [each for each in found.values() if isinstance(each, Row)]
            rows += told
            for row in told:
                settings.say("  ".join(filter(None, measures.cells(row))))
            settings.say(f"{time.perf_counter() - started:.0f} s")
    finally:
        shutil.rmtree(settings.scratch, ignore_errors=True)
    if rows:
        print(f"\n{measures.table(rows)}")
    print(f"\n{path}")


if __name__ == "__main__":
    cli.run(main, whole=False, hint=": what was measured is kept; --only=... goes on with the rest")
