"""The CSV files of the tuned comparison: queries over its studies, runs and curves.

data.csv          column, key, value: as tables.py has it, and the budgets
chosen.csv        column, row, trials, value, key, setting: the best trial, by hyper-parameter
scores.csv        column, row, seed, metric, cutoff, value
runs.csv          as tables.py has it
significance.csv  column, metric, a, b, cases, statistic, p: a is hrnn_plus
curves.csv        column, row, seed, epoch, metric, value: on the validation split
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hrnn_jax import atomic

from ..common import cli, run_folder
from ..jobs import grid as jobs_grid
from ..paper import collect
from . import grid

BUDGET = ("trials", "epochs")  # keys of data.csv
IN_CURVES = (f"recall@{collect.CUTOFF}", f"mrr@{collect.CUTOFF}")
PAIRED = ("metric", "a", "b", "cases", "statistic", "p")


def write(
    folder: pathlib.Path,
    *,
    studies: Sequence[grid.Study],
    runs: Sequence[jobs_grid.Run],
    curves: Sequence[jobs_grid.Run],
    data: Mapping[str, Mapping[str, Any]],
    budgets: Mapping[str, Mapping[str, int]],
    command: str,
) -> None:
    """Write all files.

    runs, curves: the finished ones. data: by column, what experiments.describe wrote. budgets: of
    BUDGET, by column. command: the one that makes it all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = collect.ordered(runs, grid.ROWS)
    scored, tested = [], []
    for column, of_column in itertools.groupby(collect.cells(runs, data), key=lambda cell: cell[0]):
        ranks = {}
        for _, row, ranks_of_row, scores in of_column:
            scored.append(collect.named(scores, column=column, row=row))
            ranks[row] = ranks_of_row
        tested += [(column, *line) for line in paired(ranks)]
    # Not where a log lay: that is no part of what was compared.
    data = {key: {**of, "title": pathlib.PurePath(of["title"]).name} for key, of in data.items()}
    spent = [(key, name, str(budgets[name][key])) for key in data for name in BUDGET]
    about = collect.data_table(data, command)
    frames = {
        "data": pl.concat([about, collect.frame(about.columns, spent)]),
        "chosen": chosen(studies),
        "scores": pl.concat(scored),
        "runs": collect.run_table(runs),
        "significance": collect.frame(("column", *PAIRED), tested),
        "curves": curve_table(collect.ordered(curves, grid.ROWS)),
    }
    for name, found in frames.items():
        atomic.write(folder / f"{name}.csv", found.write_csv)


def paired(ranks: Mapping[str, pl.DataFrame]) -> Iterator[tuple]:
    """Yield a line of PAIRED for hrnn_plus and each other row; ranks: of all seeds, by row.

    Networks on the seeds that both have: a mean over five seeds differs from one over two of the
    very same recipe. A model that counts is the same for every seed.
    """
    for row in ranks if grid.PLUS in ranks else ():
        if row == grid.PLUS:
            continue
        both = {grid.PLUS: ranks[grid.PLUS], row: ranks[row]}
        if row not in grid.COUNTING:
            own, others = both.values()
            both = {
                grid.PLUS: own.join(others, on="seed", how="semi"),
                row: others.join(own, on="seed", how="semi"),
            }
        cases = {key: collect.by_case(found) for key, found in both.items()}
        yield from collect.compared(cases, grid.PLUS, row)


def chosen(studies: Sequence[grid.Study]) -> pl.DataFrame:
    """Return column, row, trials, value, key, setting: what each search has found best.

    trials: those that ended. value: of the best, on the validation split.
    """
    lines = []
    for study in studies:
        trials = study.trials_table()
        if trials is None or not study.best.exists():
            continue
        value = trials.filter(state="complete")["value"].max()
        given = cli.expand([f"--flagfile={study.best}"])
        settings = dict(flag.lstrip("-").partition("=")[::2] for flag in given)
        searched = trials.columns[
            trials.columns.index("value") + 1 : trials.columns.index("epochs")
        ]
        trained = ["epochs"] if study.row not in grid.COUNTING else []
        lines += [
            (study.column.key, study.row, len(trials), value, key, settings[key])
            for key in (*searched, *trained)
        ]
    return collect.frame(("column", "row", "trials", "value", "key", "setting"), lines)


def curve_table(runs: Sequence[jobs_grid.Run]) -> pl.DataFrame:
    """Return column, row, seed, epoch, metric, value, as the runs noted them."""
    lines = [
        (run.column.key, run.row.key, entry["seed"], entry["epoch"], metric, entry[metric])
        for run in runs
        for entry in run_folder.read_history(run.folder)
        for metric in IN_CURVES
    ]
    return collect.frame(("column", "row", "seed", "epoch", "metric", "value"), lines)
