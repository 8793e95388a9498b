"""Print finished runs side by side; a row has the flags that differ from the model's usual ones.

python -m experiments.compare               # the newest run, and others on its log
python -m experiments.compare RUN_FOLDER RUN_FOLDER
python -m experiments.compare FOLDER_OF_RUNS
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax.config import DataConfig
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.run_files import CODE, prepared_folder
from hrnn_jax.preprocess import prepared

from .common import cli, run_folder
from .common.cli import PACKAGE, command
from .common.text import as_flag
from .folders import best_runs
from .folders.newest import newest_run, runs_beside
from .folders.row_names import row_names

_HELD_OUT = ("split", "protocol", "test_days", "task")  # settings that say what a test case is
_WHERE = {
    "last_session": "each user's last session",
    "global_time": "the last {test_days:g} days",
    "given": "the test part of the log",
}


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
    data = [recipe for folder in folders if (recipe := _data_recipe(pathlib.Path(folder)))]
    different = [name for name in DataConfig.__dataclass_fields__ if len(_values(data, name)) > 1]
    if held_out := [name for name in _HELD_OUT if name in different]:
        raise InputError(f"these runs have different test cases: {_listed(data, held_out)}")
    title, cases, split = min(tested)
    what = f", {_test_case(data[0])}" if data else ""
    print(f"\n{title}: {cases:,} {split} cases{what}\n")
    if different:
        print(f"their logs were prepared with different settings: {_listed(data, different)}\n")
    names = row_names([*map(pathlib.Path, folders)], runs)
    marks = best_runs.marks([*map(pathlib.Path, folders)], runs)
    run_folder.print_metrics(
        [{**run, "name": name} for run, name in zip(runs, names, strict=True)], marks
    )
    print()
    shown = run_folder.metrics_in_table(runs[0])
    for number, (folder, run) in enumerate(zip(folders, runs, strict=True), start=1):
        has_code = (pathlib.Path(folder) / CODE).exists()
        line = f"{number}: {folder}" + (f", its code in {CODE}" if has_code else "")
        if not set(shown) <= set(run["mean"]):
            first = _cutoffs(runs[0])
            line += f", ranked with --cutoffs={_cutoffs(run)} where the first has {first}"
        print(line)
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


def _cutoffs(run: Mapping[str, Any]) -> str:
    """Return the cutoffs of a run as --cutoffs takes them."""
    names = run_folder.metrics_in_table(run)
    return ",".join(dict.fromkeys(name.partition("@")[2] for name in names))


def _runs_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return a run folder, or the finished runs in a folder of run folders."""
    if (folder / run_folder.METRICS).exists():
        return [folder]
    if found := sorted(path.parent for path in folder.glob(f"*/{run_folder.METRICS}")):
        return found
    raise InputError(f"{folder} holds no metrics.json: no run has ended there")


def _data_recipe(folder: pathlib.Path) -> Mapping[str, Any]:
    """Return the settings that a run's log was prepared with; none where they are lost."""
    path = folder / run_folder.DATA  # of a network's run
    if not path.exists() and (log := prepared_folder(folder)):
        path = log / prepared.META
    try:
        # Logs of earlier versions lack the settings that were added since.
        return dataclasses.asdict(DataConfig()) | json.loads(path.read_text())["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _values(data: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return the different values of a setting, as flags."""
    return sorted({as_flag(name, recipe[name]) for recipe in data})


def _listed(data: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    return "; ".join(" or ".join(_values(data, name)) for name in names)


def _test_case(recipe: Mapping[str, Any]) -> str:
    """Say which item of which events is predicted."""
    set_aside = ", the test events set aside" if recipe["split"] == "validation" else ""
    if recipe["protocol"] == "leave_one_out":
        return f"each user's last event{set_aside}"
    item = "the next item" if recipe["task"] == "next_item" else "each user's last item"
    return f"{item} in {_WHERE[recipe['protocol']].format(**recipe)}{set_aside}"


def _prepared(folder: str) -> str:
    """Return the name of the prepared log of a run, which ends in its fingerprint."""
    return run_folder.read_recipe(pathlib.Path(folder))["data"]


if __name__ == "__main__":
    cli.run(main, folders=True)
