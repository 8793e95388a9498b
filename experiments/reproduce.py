"""Run the paper's whole evaluation, and write its tables and figures.

make reproduce-table3 SEEDS=2 SIZES=small
make reproduce

Each run (a model, a seed, a data set) is a process with a folder of its own. An interrupted
evaluation therefore goes on where it stopped, a finished one has nothing left to do, and a changed
flag repeats only the runs that it affects.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import setting

from .common import cli, config_flags
from .common.model_names import SIZES
from .jobs import grid, runner
from .jobs.paper_rows import chosen_rows
from .paper import searches
from .tuning import study_job


@dataclasses.dataclass(frozen=True)
class ReproduceFlags:
    """The flags of this command alone, but for --extra.

    Attributes:
        target: What to make: 'table3' (Tables 1 to 4, Figures 3 to 6) or 'all' (Table 5 as well).
        sizes: Sizes of the networks: small, large or both.
        large_seeds: How many seeds RNN large, and HRNN Init large by the code of 2017, are trained
            with on the paper's two data sets, and tuned rows on the others, at most --n_seeds;
            other large networks have one.
        xing_events: The RecSys Challenge 2016's interactions.csv; without it a simulated log stands
            in.
        video_events: A log like the paper's VIDEO; without it a simulated log stands in.
        scale: The users of Table 5's simulated log as a share, above 0, of VIDEOXXL's 810k.
        data_sets: Which data sets of Table 3 (xing, video, journey and the names of --extra),
            separated by commas; all by default.
    """

    target: str = setting("all", choices=("table3", "all"))
    sizes: tuple[str, ...] = setting(SIZES)
    large_seeds: int = setting(3, least=1)
    xing_events: str | None = setting(None)
    video_events: str | None = setting(None)
    scale: float = setting(0.15, above=0)
    data_sets: tuple[str, ...] | None = setting(None)


FLAGS = flags.FLAGS
config_flags.define_command(ReproduceFlags)
flags.DEFINE_spaceseplist(
    "extra",
    [],
    "Further logs, each a column of its own: name=path:recipe, separated by spaces. The recipe is "
    "'video' or 'xing' (the paper's) or a flag file.",
)
FLAGS.set_default("root", "out/reproduce")
FLAGS.set_default("n_seeds", 10)


def main() -> None:
    """Run what is missing, and write the report."""
    if not FLAGS.sizes or set(FLAGS.sizes) - set(SIZES):
        raise errors.InputError(f"--sizes={','.join(FLAGS.sizes)}: give small, large or both")
    columns = grid.columns(
        xing_events=FLAGS.xing_events, video_events=FLAGS.video_events, extra=FLAGS.extra
    )
    columns = grid.chosen_columns(FLAGS.data_sets, columns)
    rows = grid.rows(FLAGS.sizes)
    chosen = chosen_rows(FLAGS.rows, [row.key for row in rows])
    cells = grid.cells(columns, rows)
    if FLAGS.target == "all":
        xxl = grid.xxl_column(FLAGS.scale)
        columns.append(xxl)
        cells += [(xxl, row) for row in grid.xxl_rows()]
    cells = [(column, row) for column, row in cells if row.key in chosen]
    if not cells:
        raise errors.InputError(
            f"no row of --rows={','.join(chosen)} has a run on "
            f"{', '.join(column.key for column in columns)}: give other --rows or --data_sets"
        )
    columns = [column for column in columns if any(column is of_cell for of_cell, _ in cells)]
    with cli.extra("report"):  # here: flags are checked before matplotlib is loaded
        from .paper import collect, report
    jobs = runner.make_runner()
    results = jobs.root / "results"
    with jobs.lock("reproduction"):
        data, unprepared = jobs.prepare(columns)
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        ready = [(column, row) for column, row in cells if column.key in data]
        studies = searches.make_studies(jobs.root, ready, prepared)
        if FLAGS.run and studies:
            cli.needs("tune", "optuna")
            unprepared |= study_job.run_missing(studies, jobs)
            studies = [study for study in studies if study.is_done()]
        ready = searches.with_best_settings(ready, studies)
        runs = grid.ordered_runs(jobs.root, ready, FLAGS.n_seeds, prepared, FLAGS.large_seeds)
        failed = jobs.run_missing(runs, data, "runs") if FLAGS.run else {}
        done = [run for run in runs if runner.is_complete(run)]
        if done:
            collect.write(results, done, data, studies=studies, failed=failed, command=command())
            report.write(results, jobs.root)
    reasons = unprepared | {run.name: reason for run, reason in failed.items()}
    runner.print_summary(done, runs, f"the report is {jobs.root / 'report.html'}", reasons)


def command() -> str:
    """Return the make command that does the same."""
    goal = "reproduce-table3" if FLAGS.target == "table3" else "reproduce"
    words = [f"make {goal} SEEDS={FLAGS.n_seeds} SIZES={','.join(FLAGS.sizes)}"]
    words += [f"LARGE_SEEDS={FLAGS.large_seeds}"] if "large" in FLAGS.sizes else []
    words += [f"ROWS={','.join(FLAGS.rows)}"] if FLAGS.rows else []
    words += [f"COLUMNS={','.join(FLAGS.data_sets)}"] if FLAGS.data_sets else []
    for name, path in (("XING", FLAGS.xing_events), ("VIDEO", FLAGS.video_events)):
        words += [f"{name}_EVENTS={shlex.quote(path)}"] if path else []
    words += [f'EXTRA="{" ".join(FLAGS.extra)}"'] if FLAGS.extra else []
    words += [f"SCALE={FLAGS.scale:g}"] if FLAGS.target == "all" else []
    return " ".join(words)


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
