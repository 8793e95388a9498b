"""Run the paper's whole evaluation, and write its tables and figures.

make reproduce-table3 SEEDS=2 SIZES=small
make reproduce

Each run (a model, a seed, a data set) is a process with a folder of its own. An interrupted
evaluation therefore goes on where it stopped, a finished one has nothing left to do, and a changed
flag repeats only the runs that it affects.
"""

from __future__ import annotations

import pathlib
import sys

from absl import flags

from hrnn_jax import errors

from .common import cli
from .common.model_names import PAPER_NETWORKS, SIZES
from .jobs import grid, job_flags
from .jobs.runner import is_complete
from .paper import collect, report

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "target",
    "all",
    ("table3", "all"),
    "What to make: 'table3' (Tables 1 to 4, Figures 3 to 6) or 'all' (Table 5 as well).",
)
flags.DEFINE_list("sizes", list(SIZES), "Sizes of the networks: small, large or both.")
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
job_flags.define(root="out/reproduce", n_seeds=10)


def main() -> None:
    """Run what is missing, and write the report."""
    if not FLAGS.sizes or set(FLAGS.sizes) - set(SIZES):
        raise errors.InputError(f"--sizes={','.join(FLAGS.sizes)}: give small, large or both")
    columns = grid.columns(
        xing_events=FLAGS.xing_events, video_events=FLAGS.video_events, extra=FLAGS.extra
    )
    cells = [(column, row) for column in columns for row in grid.rows(FLAGS.sizes)]
    if FLAGS.target == "all":
        xxl = grid.xxl_column(FLAGS.scale)
        columns.append(xxl)
        cells += [(xxl, grid.network_row(model, "small")) for model in PAPER_NETWORKS]
    runner = job_flags.runner()
    with runner.lock("reproduction"):
        data, unprepared = runner.prepare(columns)
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        ready = [(column, row) for column, row in cells if column.key in data]
        runs = grid.ordered_runs(runner.root, ready, FLAGS.n_seeds, prepared)
        failed = runner.run_missing(runs, data, "runs") if FLAGS.run else {}
        done = [run for run in runs if is_complete(run)]
        if done:
            results = runner.root / "results"
            collect.write(results, done, data, failed=failed, command=command())
            report.write(results, runner.root)
    print(f"\n{len(done)} of {len(runs)} runs are done", end="")
    print(f"; the report is {runner.root / 'report.html'}" if done else "")
    reasons = unprepared | {run.name: reason for run, reason in failed.items()}
    for name, reason in reasons.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if reasons:
        sys.exit(1)


def command() -> str:
    """Return the make command that does the same."""
    goal = "reproduce-table3" if FLAGS.target == "table3" else "reproduce"
    words = [f"make {goal} SEEDS={FLAGS.n_seeds} SIZES={','.join(FLAGS.sizes)}"]
    words += [f"XING_EVENTS={FLAGS.xing_events}"] if FLAGS.xing_events else []
    words += [f"VIDEO_EVENTS={FLAGS.video_events}"] if FLAGS.video_events else []
    words += [f'EXTRA="{" ".join(FLAGS.extra)}"'] if FLAGS.extra else []
    words += [f"SCALE={FLAGS.scale:g}"] if FLAGS.target == "all" else []
    return " ".join(words)


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
