"""Run the paper's whole evaluation, and write its tables and figures.

make reproduce-table3 SEEDS=2 SIZES=small
make reproduce

Each run (a model, a seed, a data set) is a process with a folder of its own, so that an interrupted
evaluation goes on where it stopped, a finished one has nothing left to do, and a changed flag
repeats only the runs that it touches.
"""

from __future__ import annotations

import pathlib
import sys

from absl import flags

from hrnn_jax import errors

from . import report
from .common import cli, machine
from .jobs import grid, stages
from .paper import collect

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "target",
    "all",
    ("table3", "all"),
    "What to make: 'table3' (Tables 1 to 4, Figures 3 to 6) or 'all' (Table 5 as well).",
)
flags.DEFINE_integer(
    "n_seeds", 10, "How many seeds, 0, 1, ..., each network is trained with.", lower_bound=1
)
flags.DEFINE_list("sizes", list(grid.SIZES), "Sizes of the networks: small, large or both.")
flags.DEFINE_string(
    "xing_events",
    None,
    "The RecSys Challenge 2016's interactions.csv; without it a simulated log stands in.",
)
flags.DEFINE_string(
    "video_events", None, "A log like the paper's VIDEO; without it a simulated log stands in."
)
flags.DEFINE_spaceseplist(
    "extra",
    [],
    "Further logs, each a column of its own: name=path:recipe, separated by spaces. The recipe is "
    "'video' or 'xing' (the paper's) or a flag file.",
)
flags.DEFINE_float(
    "scale", 0.15, "The users of Table 5's simulated log as a share, above 0, of VIDEOXXL's 810k."
)
flags.DEFINE_integer(
    "jobs",
    None,
    "Runs side by side, each with its share of the cores; by default one per core, with one thread "
    "each: at 100 units a second thread gives a run nothing.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "run", True, "Whether to run what is missing; --norun reports on what is done so far."
)
flags.DEFINE_string("root", "out/reproduce", "The folder of the runs and of the report.")
flags.DEFINE_string("prepared_root", "out/prepared", "The folder that keeps prepared logs.")


def main() -> None:
    if not FLAGS.sizes or set(FLAGS.sizes) - set(grid.SIZES):
        raise errors.InputError(f"--sizes={','.join(FLAGS.sizes)}: give small, large or both")
    columns = grid.columns(
        xing_events=FLAGS.xing_events, video_events=FLAGS.video_events, extra=FLAGS.extra
    )
    cells = [(column, row) for column in columns for row in grid.rows(FLAGS.sizes)]
    if FLAGS.target == "all":
        xxl = grid.xxl(FLAGS.scale)
        columns.append(xxl)
        cells += [(xxl, row) for row in grid.networks("small")]
    root = pathlib.Path(FLAGS.root)
    where = {"prepared_root": FLAGS.prepared_root, "side_by_side": FLAGS.jobs or machine.cores()}
    with stages.alone(root, "reproduction"):
        data, unprepared = stages.prepare(root, columns, **where)
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        ready = [(column, row) for column, row in cells if column.key in data]
        runs = grid.in_order(root, ready, FLAGS.n_seeds, prepared)
        failed = stages.make(runs, data, what="runs", **where) if FLAGS.run else {}
        done = [run for run in runs if stages.is_done(run)]
        if done:
            collect.write(root / "results", done, data, failed=failed, command=command())
            report.write(root / "results", root)
    print(f"\n{len(done)} of {len(runs)} runs are done", end="")
    print(f"; the report is {root / 'report.html'}" if done else "")
    if unprepared or failed:
        for name, reason in {**unprepared, **{r.name: why for r, why in failed.items()}}.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        sys.exit(1)


def command() -> str:
    """Return the make command that this is."""
    goal = "reproduce-table3" if FLAGS.target == "table3" else "reproduce"
    words = [f"make {goal} SEEDS={FLAGS.n_seeds} SIZES={','.join(FLAGS.sizes)}"]
    words += [f"XING_EVENTS={FLAGS.xing_events}"] if FLAGS.xing_events else []
    words += [f"VIDEO_EVENTS={FLAGS.video_events}"] if FLAGS.video_events else []
    words += [f'EXTRA="{" ".join(FLAGS.extra)}"'] if FLAGS.extra else []
    words += [f"SCALE={FLAGS.scale:g}"] if FLAGS.target == "all" else []
    return " ".join(words)


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
