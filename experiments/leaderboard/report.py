"""comparison.md and its figures, from the CSV files of a tuned comparison alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ..paper.csv_files import check_values, read_frames, spreads
from ..paper.report import annotated
from ..paper.results import FILES as PAPER_FILES
from ..paper.results import Results, read_columns, read_p_values
from ..rendering.files import write_report
from ..rendering.markdown import Block, Bullets, Code, Heading, Text
from . import tables

TITLE = "A tuned comparison of hrnn_plus with every other model"
INTRODUCTION = (
    "Every model with hyper-parameters was tuned with one budget a log, on the session before each "
    "user's last (the validation split); the best trial's settings were then trained with several "
    "seeds and tested on the last sessions, which were used for no choice. All numbers are read "
    "from the CSV files in this folder."
)
# By file: the columns that identify a line, and the others that are read.
FILES = {name: PAPER_FILES[name] for name in ("data", "runs", "scores", "significance")} | {
    "chosen": (
        {"column": pl.String, "row": pl.String, "key": pl.String},
        {"trials": pl.Int64, "value": pl.Float64, "setting": pl.String},
    ),
    "curves": (
        {
            "column": pl.String,
            "row": pl.String,
            "seed": pl.Int64,
            "epoch": pl.Int64,
            "metric": pl.String,
        },
        {"value": pl.Float64},
    ),
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The content of a comparison's results folder."""

    results: Results
    chosen: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]  # lines by (column, row)
    # (epoch, value) by (column, metric, row)
    curves: Mapping[tuple[str, str, str], Sequence[tuple[int, float]]]


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write comparison.md and figures/ next to the CSV files.

    Args:
        folder: of the CSV files, see `collect`.

    Returns:
        The path of comparison.md.

    Raises:
        InputError: a CSV file is missing or wrong, or the report cannot be written.
    """
    path = folder / "comparison.md"
    write_report(path, TITLE, compose(read_comparison(folder)))
    return path


def read_comparison(folder: pathlib.Path) -> Comparison:
    """Read a results folder. Raises InputError that names the file and what is wrong in it."""
    frames = read_frames(folder, FILES)
    columns = read_columns(folder / "data.csv", frames["data"])
    for name, frame in frames.items():
        check_values(folder / f"{name}.csv", frame, {"column": columns})
    chosen: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in frames["chosen"].iter_rows(named=True):
        chosen.setdefault((line["column"], line["row"]), []).append(line)
    curves: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    values = spreads(frames["curves"], ("column", "metric", "row", "epoch"), "value")
    for (column, metric, row, epoch), spread in values.items():
        curves.setdefault((column, metric, row), []).append((epoch, spread.mean))
    results = Results(
        columns=columns,
        runs=tuple(frames["runs"].iter_rows(named=True)),
        scores=spreads(frames["scores"], ("column", "row", "metric", "cutoff"), "value"),
        p_values=read_p_values(frames["significance"]),
    )
    return Comparison(results, chosen, curves)


def compose(comparison: Comparison) -> list[Block]:
    """Return the report's content."""
    results = comparison.results
    columns = [*results.columns.values()]
    blocks: list[Block] = [Text(INTRODUCTION)]
    if simulated := [column.name for column in columns if column.simulated]:
        text = f"SIMULATED events: {', '.join(simulated)}. They do not show how good a model is."
        blocks.append(Text(text, warning=True))
    rows = tables.rows_with_runs(results)
    blocks += [
        Heading("Recommendation quality"),
        annotated(tables.score_table(results), results, columns, rows=rows),
        Bullets({column.label: tables.verdict(results, column) for column in columns}),
        Heading("Chosen settings"),
        tables.settings_table(results, comparison.chosen),
    ]
    if tables.ablation_rows(results):
        blocks += [Heading("Ablation"), tables.ablation_table(results)]
    blocks += [Heading("Cost"), tables.cost_table(results)]
    drawn = [tables.learning_figure(column, comparison.curves) for column in columns]
    if any(drawn):
        blocks += [Heading("Learning curves"), *(figure for figure in drawn if figure)]
    commands = [*dict.fromkeys(column.command for column in columns)]
    return [
        *blocks,
        Heading("How to reproduce"),
        Text("All of it; then its report again, from the CSV files alone:"),
        Code([*commands, "make comparison-table FROM=out/comparison/results"]),
    ]
