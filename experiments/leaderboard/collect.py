"""The studies, runs and learning curves of the tuned comparison -> its CSV files.

data.csv          column, key, value: as in paper/collect.py, and the budgets
chosen.csv        column, row, trials, value, key, setting: the best trial, by hyper-parameter
scores.csv        column, row, seed, metric, cutoff, value
runs.csv          as in paper/collect.py
significance.csv  column, metric, a, b, cases, statistic, p: a is hrnn_plus, or the best row
without_session_items.csv               as scores.csv, recall and mrr of the logs without repeats,
                                        ranked without the items that the session has so far
significance_without_session_items.csv  as significance.csv, of those ranks
curves.csv        column, row, seed, epoch, metric, value: on the validation split

A row of another library has a search of its own: in chosen.csv with its seconds, device and
versions, in runs.csv with the seconds of search and training. Its ranking is not timed.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from ..common import run_folder
from ..jobs.grid import CUTOFF, Run
from ..paper import queries
from ..paper.collect import (
    Descriptions,
    data_frame,
    frame,
    in_table_order,
    measured_cells,
    run_frame,
    with_names,
    write_frames,
)
from ..tuning.study_job import CHOSEN, StudyJob, chosen_frame
from .grid import NAMES, PLUS, ROWS, WITHOUT_SEEDS
from .peer_scores import ONE_THREAD

BUDGETS = ("trials", "epochs")  # keys of data.csv
CURVES = (f"recall@{CUTOFF}", f"mrr@{CUTOFF}")
_SCORES = pl.Schema(
    {
        **{"column": pl.String, "row": pl.String, "seed": pl.Int32},
        **{"metric": pl.String, "cutoff": pl.Int64, "value": pl.Float64},
    }
)
TESTS = ("metric", "a", "b", "cases", "statistic", "p")


@dataclasses.dataclass(frozen=True)
class Finished:
    """What is finished of a comparison."""

    studies: Sequence[StudyJob]
    runs: Sequence[Run]
    curves: Sequence[Run]
    without_session_items: Sequence[Run]  # the runs once more, see `without_session_items`
    # Of other libraries' rows by column and row, see `peer_scores.search`.
    peers: Mapping[tuple[str, str], Mapping[str, Any]]


def write(
    folder: pathlib.Path,
    finished: Finished,
    data: Descriptions,
    budgets: Mapping[str, Mapping[str, int]],
    command: str,
) -> None:
    """Write all CSV files.

    Args:
        folder: where they go.
        finished: the studies, runs and curves that they are about.
        data: what each column's data are.
        budgets: of each name of `BUDGETS`, by column.
        command: the command that reproduces all of it.
    """
    runs = in_table_order(finished.runs, ROWS)
    scores, tests = _measured(runs, data)
    without, tests_without = _measured(in_table_order(finished.without_session_items, ROWS), data)
    # The place of a log on this machine is no part of the comparison.
    data = {key: {**of, "title": pathlib.PurePath(of["title"]).name} for key, of in data.items()}
    about = data_frame(data, command)
    spent = [(key, name, str(budgets[name][key])) for key in data for name in BUDGETS]
    write_frames(
        folder,
        {
            "data": pl.concat([about, frame(about.columns, spent)]),
            "chosen": pl.concat([chosen_frame(finished.studies), peers_chosen(finished.peers)]),
            "scores": scores,
            "runs": with_peers(run_frame(runs), finished.peers),
            "significance": tests,
            "without_session_items": without.filter(pl.col("metric").is_in(queries.MEANS)),
            "significance_without_session_items": tests_without,
            "curves": curve_frame(in_table_order(finished.curves, ROWS)),
        },
    )


def peers_chosen(peers: Mapping[tuple[str, str], Mapping[str, Any]]) -> pl.DataFrame:
    """Return the lines of chosen.csv of other libraries' rows, see `Finished.peers`."""
    lines = [
        (column, row, found["trials"], found["value"], key, str(setting))
        for (column, row), found in peers.items()
        for key, setting in (
            found["settings"]
            | {name: found[name] for name in ("seconds", "device")}
            | found["versions"]
        ).items()
    ]
    return pl.DataFrame(lines, schema=CHOSEN, orient="row")


def with_peers(
    runs: pl.DataFrame, peers: Mapping[tuple[str, str], Mapping[str, Any]]
) -> pl.DataFrame:
    """Put what other libraries' rows have spent, and on what, in place of this project's part."""
    lines = runs.to_dicts()
    for line in lines:
        if found := peers.get((line["column"], line["row"])):
            line["train_seconds"], line["eval_cases_per_second"] = found["seconds"], None
            if found["device"] != ONE_THREAD:
                line["machine"], line["device"] = found["device"], "gpu"
    return pl.DataFrame(lines, schema=runs.schema)


def _measured(runs: Sequence[Run], data: Descriptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the scores and the tests of significance of runs, which are in the order of tables."""
    scores, tests = [pl.DataFrame(schema=_SCORES)], []
    for column, cells in itertools.groupby(measured_cells(runs, data), lambda cell: cell[0]):
        ranks = {}
        for _, row, of_row, of_scores in cells:
            scores.append(with_names(of_scores, column=column, row=row).cast(_SCORES))
            ranks[row] = of_row
        tests += [(column, *line) for line in tests_against_plus(ranks)]
        tests += [(column, *line) for line in tests_against_best(ranks)]
    return pl.concat(scores), frame(("column", *TESTS), tests)


def tests_against_plus(
    ranks: Mapping[str, pl.DataFrame],
) -> Iterator[tuple[str, str, str, int, float, float]]:
    """Test hrnn_plus against each other row.

    Two networks are compared on the seeds that both have: a mean over five seeds differs from one
    over two of the very same settings. A baseline is the same for every seed.

    Args:
        ranks: of all seeds, by row.

    Yields:
        Lines of `TESTS`.
    """
    for row in ranks if PLUS in ranks else ():
        if row == PLUS:
            continue
        ours, theirs = ranks[PLUS], ranks[row]
        if row not in WITHOUT_SEEDS:
            ours, theirs = (
                ours.join(theirs, on="seed", how="semi"),
                theirs.join(ours, on="seed", how="semi"),
            )
        cases = {PLUS: queries.by_case(ours), row: queries.by_case(theirs)}
        yield from queries.signed_rank_tests(cases, PLUS, row)


def tests_against_best(
    ranks: Mapping[str, pl.DataFrame],
) -> Iterator[tuple[str, str, str, int, float, float]]:
    """Test the model with the best mean of a metric against the others, unless it is hrnn_plus.

    Args:
        ranks: of all seeds, by row.

    Yields:
        Lines of `TESTS`.
    """
    cases = {row: queries.by_case(of) for row, of in ranks.items() if row in NAMES}
    for metric in queries.MEANS if len(cases) > 1 else ():
        means = {row: statistics.fmean(of[metric]) for row, of in cases.items()}
        best = max(means, key=means.__getitem__)
        for row in means if best != PLUS else ():
            if row in (best, PLUS):
                continue
            for line in queries.signed_rank_tests(cases, best, row):
                if line[0].startswith(metric):
                    yield line


def curve_frame(runs: Sequence[Run]) -> pl.DataFrame:
    """Return column, row, seed, epoch, metric, value from the runs' history.jsonl."""
    lines = [
        (run.column.key, run.row.key, entry["seed"], entry["epoch"], metric, entry[metric])
        for run in runs
        for entry in run_folder.read_history(run.folder)
        for metric in CURVES
    ]
    return frame(("column", "row", "seed", "epoch", "metric", "value"), lines)
