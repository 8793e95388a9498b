"""Tune all models on some logs with one budget, run them with several seeds, and compare them.

make comparison LOGS="news=clicks.parquet:video journey" TRIALS="20 journey=8"

Each row that has something to tune is searched on the validation split (experiments.tune); what
is found best is run with each seed and ranked on the test split; and hrnn_plus is run with one
thing changed at a time. The networks' learning curves are of the validation split. Every study
and run is a process with a folder of its own: an interrupted comparison goes on where it stopped,
and a finished one has nothing left to do.

All numbers go to CSV files, and comparison.md with its figures is made of these alone:

python -m experiments.comparison --from=out/comparison/results
"""

from __future__ import annotations

import pathlib
import re
import sys

from absl import flags

from hrnn_jax import atomic

from .common import cli, machine
from .jobs import grid as jobs_grid
from .jobs import pool, stages
from .leaderboard import collect, grid, report

FLAGS = flags.FLAGS
TRIALS, EPOCHS = 20, 10
flags.DEFINE_spaceseplist(
    "logs",
    ["journey"],
    "The logs, separated by spaces: name=path:recipe, where the recipe is 'video' or 'xing' (the "
    "paper's) or a flag file, or the word journey.",
)
flags.DEFINE_list("rows", list(grid.ROWS), "The rows, separated by commas.")
for _flag, _default, _what in (
    ("trials", TRIALS, "Trials of each search"),
    ("epochs", EPOCHS, "The most epochs that a trial trains, and the length of learning curves"),
):
    flags.DEFINE_spaceseplist(
        _flag, [str(_default)], f"{_what}: a number, and others for some logs, '20 journey=8'."
    )
flags.DEFINE_integer(
    "n_seeds", 5, "How many seeds, 0, 1, ..., each network is trained with.", lower_bound=1
)
flags.DEFINE_integer(
    "jobs",
    None,
    "Studies or runs side by side, each with its share of the cores; by default one per core.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "run", True, "Whether to run what is missing; --norun reports on what is done so far."
)
flags.DEFINE_string(
    "from", None, "A folder of CSV files to write comparison.md of, and no more is done."
)
flags.DEFINE_string("root", "out/comparison", "The folder of studies, runs and results.")
flags.DEFINE_string("prepared_root", "out/prepared", "The folder that keeps prepared logs.")


def main() -> None:
    if FLAGS["from"].value:
        print(report.write(pathlib.Path(FLAGS["from"].value)))
        return
    columns = grid.logs(FLAGS.logs)
    rows = grid.check_rows(FLAGS.rows)
    budgets = {
        "trials": grid.budgets("trials", FLAGS.trials, columns, TRIALS),
        "epochs": grid.budgets("epochs", FLAGS.epochs, columns, EPOCHS),
    }
    root = pathlib.Path(FLAGS.root)
    where = {"prepared_root": FLAGS.prepared_root, "side_by_side": FLAGS.jobs or machine.cores()}
    with stages.alone(root, "comparison"):
        data, failed = stages.prepare(root, columns, **where)
        columns = [column for column in columns if column.key in data]
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        studies = grid.studies(root, columns, rows, prepared, **budgets)
        if FLAGS.run:
            failed |= {f"tuning {name}": why for name, why in _tune(studies).items()}
            studies = [study for study in studies if study.is_done()]
        cells = grid.cells(columns, rows, studies)
        runs = jobs_grid.in_order(root, cells, FLAGS.n_seeds, prepared)
        curves = grid.curves(root, cells, prepared, budgets["epochs"])
        for what, wanted in (("runs", runs), ("learning curves", curves)):
            if FLAGS.run:
                found = stages.make(wanted, data, what=what, **where)
                failed |= {f"{what} {run.name}": why for run, why in found.items()}
        done = [run for run in runs if stages.is_done(run)]
        if done:
            collect.write(
                root / "results",
                studies=studies,
                runs=done,
                curves=[run for run in curves if stages.is_done(run)],
                data=data,
                budgets=budgets,
                command=command(),
            )
            written = report.write(root / "results")
    print(f"\n{len(done)} of {len(runs)} runs are done", end="")
    print(f"; the comparison is {written}" if done else "")
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    if failed:
        sys.exit(1)


def _tune(studies: list[grid.Study]) -> dict[str, str]:
    """Make the studies that are not yet done; return why some failed, by name."""
    todo = {study.name: study for study in studies if not study.is_done()}

    def ended(job: pool.Job) -> str:
        study = todo[job.name]
        atomic.write(study.mark, study.fingerprint())
        return grid.best(study)

    return stages.work(
        [
            pool.Job(study.name, study.argv(FLAGS.prepared_root), study.folder)
            for study in todo.values()
        ],
        what="studies",
        before=len(studies) - len(todo),
        side_by_side=FLAGS.jobs or machine.cores(),
        told=lambda job: grid.progress(todo[job.job.name]),
        ended=ended,
    )


def command() -> str:
    """Return the make command that this is, logs and flag files without their folders."""
    words = {
        "LOGS": " ".join(re.sub(r"(?<=[=:])[^:]*/", "", text) for text in FLAGS.logs),
        "TRIALS": " ".join(FLAGS.trials),
        "EPOCHS": " ".join(FLAGS.epochs),
        "ROWS": "" if FLAGS["rows"].using_default_value else ",".join(FLAGS.rows),
    }
    given = [f'{name}="{text}"' for name, text in words.items() if text]
    return " ".join(["make comparison", *given, f"SEEDS={FLAGS.n_seeds}"])


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
