"""Tune all models on some logs with one budget, run them with several seeds, and compare them.

make leaderboard LOGS="news=clicks.parquet:video journey" TRIALS="20 journey=8"

Each row with hyper-parameters but hrnn_plus, whose settings are the same on all logs, is tuned on
the validation split (experiments.tune); the best trial's settings are run with each seed and tested
on the test split; and hrnn_plus is run with the settings of a search too, and with one thing
changed at a time. On logs without repeats all are ranked a second time, without the items that the
session has so far, and tuned so. The networks' learning curves are of the validation split, among
all items. Every study and run is a process with a folder of its own: an interrupted comparison
resumes where it stopped, and a finished one has nothing left to do.

All numbers go to CSV files, and comparison.md with its figures is made from these alone:

python -m experiments.comparison --from=out/comparison/results
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from .common import cli
from .jobs import grid as jobs_grid
from .jobs.grid import Run
from .jobs.paper_rows import chosen_rows
from .jobs.runner import Runner, is_complete, make_runner, print_summary
from .leaderboard import grid, peer_scores, without_session_items
from .leaderboard.studies import make_studies
from .tuning import study_job

FLAGS = flags.FLAGS
TRIALS, EPOCHS = 20, 10
flags.DEFINE_spaceseplist(
    "logs",
    ["journey"],
    "The logs, separated by spaces: name=path:recipe, where the recipe is 'video' or 'xing' (the "
    "paper's) or a flag file, or the word journey.",
)
flags.DEFINE_spaceseplist(
    "trials",
    [str(TRIALS)],
    "Trials of each search: a number, and others for some logs, '20 journey=8'.",
)
flags.DEFINE_spaceseplist(
    "epochs",
    [str(EPOCHS)],
    "The most epochs that a trial trains, and the length of learning curves: as --trials.",
)
flags.DEFINE_string("from", None, "A folder of CSV files: only write their comparison.md.")
FLAGS.set_default("root", "out/comparison")
FLAGS.set_default("n_seeds", 5)


def main() -> None:
    """Run the comparison that the flags describe, or write its report again."""
    with cli.extra("report"):  # here: flags are checked before matplotlib is loaded
        from .leaderboard import collect, report
    if FLAGS["from"].value:
        print(report.write(pathlib.Path(FLAGS["from"].value)))
        return
    columns = grid.logs(FLAGS.logs)
    if FLAGS.run:
        cli.needs("tune", "optuna")
    rows = chosen_rows(grid.USUAL_ROWS if FLAGS.rows is None else FLAGS.rows, grid.ROWS)
    budgets = {
        "trials": grid.budgets("trials", FLAGS.trials, columns, TRIALS),
        "epochs": grid.budgets("epochs", FLAGS.epochs, columns, EPOCHS),
    }
    runner = make_runner()
    root = runner.root
    with runner.lock("comparison"):
        data, failed = runner.prepare(columns)
        columns = [column for column in columns if column.key in data]
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        alike = without_session_items.logs_without_repeats(data)
        studies = make_studies(root, columns, rows, prepared, **budgets, without_repeats=alike)
        if FLAGS.run:
            failed |= study_job.run_missing(studies, runner)
            studies = [study for study in studies if study.is_done()]
        elif waiting := [study.name for study in studies if not study.is_done()]:
            print(f"{len(waiting)} of {len(studies)} searches are not done: {', '.join(waiting)}")
        cells = grid.tuned_rows(columns, rows, studies)
        runs = jobs_grid.ordered_runs(root, cells, FLAGS.n_seeds, prepared)
        curves = grid.learning_curves(root, cells, prepared, budgets["epochs"])
        failed |= _run_missing(runner, data, {"runs": runs, "learning curves": curves})
        done = [run for run in runs if is_complete(run)]
        again = without_session_items.ranked_anew(root, done, alike)
        if FLAGS.run:
            without_session_items.copy_weights(root, again)
        failed |= _run_missing(runner, data, {"runs without the session's items": again})
        if done:
            folders = {key: pathlib.Path(meta["prepared"]) for key, meta in data.items()}
            peers = peer_scores.searches(done, folders)
            finished = collect.Finished(
                studies,
                done,
                curves=[run for run in curves if is_complete(run)],
                without_session_items=[run for run in again if is_complete(run)],
                peers=peers,
            )
            collect.write(root / "results", finished, data, budgets, command())
            report.write(root / "results")
    print_summary(done, runs, f"the comparison is {root / 'results' / 'comparison.md'}", failed)


def _run_missing(
    runner: Runner, data: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Sequence[Run]]
) -> dict[str, str]:
    """Run what is missing of each kind, unless --norun; return the errors by name."""
    failed: dict[str, str] = {}
    for what, runs in wanted.items():
        if FLAGS.run and runs:
            found = runner.run_missing(runs, data, what)
            failed |= {f"{what} {run.name}": why for run, why in found.items()}
    return failed


def command() -> str:
    """Return the make command that repeats this one, without the folders of logs and flag files."""
    words = {
        "LOGS": " ".join(re.sub(r"(?<=[=:])[^:]*/", "", text) for text in FLAGS.logs),
        "TRIALS": " ".join(FLAGS.trials),
        "EPOCHS": " ".join(FLAGS.epochs),
        "ROWS": ",".join(FLAGS.rows or ()),
    }
    given = [f'{name}="{text}"' for name, text in words.items() if text]
    return " ".join(["make leaderboard", *given, f"SEEDS={FLAGS.n_seeds}"])


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
