"""Print finished runs side by side; a row has the flags that differ from the model's usual ones.

python -m experiments.compare               # the newest run, and others on its log
python -m experiments.compare RUN_FOLDER RUN_FOLDER
python -m experiments.compare FOLDER_OF_RUNS
"""

from __future__ import annotations

import pathlib

from hrnn_jax.errors import InputError
from hrnn_jax.estimators.run_files import CODE

from .common import cli, run_folder
from .common.cli import PACKAGE, command
from .folders import best_runs
from .folders.newest import newest_run, runs_beside
from .folders.row_names import row_names


def main(folders: list[str]) -> None:
    """Print the metrics of the runs in some folders."""
    if not folders:
        newest = newest_run("finished run", "the run folders to compare")
        folders = [str(folder) for folder in runs_beside(newest)]
        print(f"the runs in {newest.parent}, newest first")
    folders = [str(run) for folder in folders for run in _runs_in(pathlib.Path(folder))]
    runs = [run_folder.read_metrics(pathlib.Path(folder)) or {} for folder in folders]
    tested = {(run["title"], int(run["mean"]["cases"]), run["split"]) for run in runs}
    if len(tested) > 1 and len({*map(_prepared, folders)}) > 1:
        logs = "; ".join(
            f"{n:,} of the {split} split of {title}" for title, n, split in sorted(tested)
        )
        raise InputError(f"these runs have different test cases: {logs}")
    title, cases, _ = min(tested)
    print(f"\n{title}: {cases:,} test cases, the next item in each user's last session\n")
    names = row_names([*map(pathlib.Path, folders)], runs)
    marks = best_runs.marks([*map(pathlib.Path, folders)], runs)
    run_folder.print_metrics(
        [{**run, "name": name} for run, name in zip(runs, names, strict=True)], marks
    )
    print()
    for number, folder in enumerate(folders, start=1):
        has_code = (pathlib.Path(folder) / CODE).exists()
        print(f"{number}: {folder}" + (f", its code in {CODE}" if has_code else ""))
    print(f"\n{best_runs.NOTE}" if marks else "")
    print(
        "Recall@N: the share of test cases whose item is among the N recommended.\n"
        "MRR@N: the mean of 1 / rank, 0 for ranks beyond N.\n"
        "Precision@N: Recall@N / N, as one item is right."
    )
    if runs[0]["data"] == "simulated":
        in_checkout = PACKAGE == "experiments"
        real = "make run FLAGFILE=" if in_checkout else f"{command('run')} --flagfile="
        print(
            f"These events are simulated. For real data: {real}journey.flags, or with\n"
            f"your own log:\n{command('run')} --flagfile=video.flags --events=my_log.csv"
        )


def _runs_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return a run folder, or the finished runs in a folder of run folders."""
    if (folder / run_folder.METRICS).exists():
        return [folder]
    if found := sorted(path.parent for path in folder.glob(f"*/{run_folder.METRICS}")):
        return found
    raise InputError(f"{folder} holds no metrics.json: no run has ended there")


def _prepared(folder: str) -> str:
    """Return the name of the prepared log of a run, which ends in its fingerprint."""
    return run_folder.read_recipe(pathlib.Path(folder))["data"]


if __name__ == "__main__":
    cli.run(main, folders=True)
