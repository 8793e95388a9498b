"""comparison.md and its figures, from the CSV files of a tuned comparison alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from hrnn_jax.preprocess import datasets

from ..paper.report import annotated, commands, log_name
from ..paper.results import (
    COMPARISON_FILES,
    Column,
    Results,
    headline,
    read_results,
    without_session_items,
)
from ..rendering.markdown import (
    Block,
    bullets,
    code,
    heading,
    paragraph,
    warning,
    write_report,
)
from . import tables
from .grid import NAMES

TITLE = "Leaderboard: hrnn_plus, and every other model tuned"
INTRODUCTION = (
    "Every other model with hyper-parameters was tuned with one budget a log, on the session "
    "before each user's last (the validation split); the best trial's settings were then trained "
    "with several seeds and tested on the last sessions, which were used for no choice. hrnn_plus "
    "was not tuned: it has the same settings on all logs. They were found on these logs, in part "
    "by their last sessions, so its figures may be a little high. All numbers are read from the "
    "CSV files in this folder."
)


# From the folder of this project's results, and from that of make leaderboard.
PUBLIC_LOGS_PAGE = "../../../docs/how-to/public_logs.md"


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
    write_report(path, TITLE, compose(read_results(folder, COMPARISON_FILES, rows=None)))
    return path


def compose(results: Results) -> list[Block]:
    """Return the report's content."""
    columns = [*results.columns.values()]
    blocks: list[Block] = [paragraph(INTRODUCTION), *_public_logs(columns)]
    if simulated := [column.name for column in columns if column.simulated]:
        text = f"SIMULATED events: {', '.join(simulated)}. They do not show how good a model is."
        blocks.append(warning(text))
    rows = tables.rows_with_runs(results)
    best, without = headline(results), without_session_items(results)
    table = tables.score_table(best, without.columns)
    blocks += [
        heading("Recommendation quality"),
        annotated(table, results, columns, _notes(columns), rows),
        bullets({column.label: tables.verdict(best, column) for column in columns}),
    ]
    if without.columns:
        of_all = dataclasses.replace(results, columns=without.columns)
        blocks += [heading("All items ranked"), tables.score_table(of_all)]
    blocks += [
        heading("Chosen settings"),
        tables.settings_table(results),
    ]
    if any(row not in NAMES for row in rows):
        blocks += [heading("Ablation"), tables.ablation_table(results)]
    costs = [tables.accuracy_and_cost_table(best, column) for column in columns]
    blocks += [heading("Cost"), tables.cost_figure(best), *costs, tables.cost_table(results)]
    drawn = [tables.learning_figure(results, column) for column in columns]
    if any(drawn):
        blocks += [heading("Learning curves"), *(figure for figure in drawn if figure)]
    return [
        *blocks,
        heading("How to reproduce"),
        paragraph("All of it; then its report again, from the CSV files alone:"),
        code([*commands(columns), "make leaderboard-page FROM=out/comparison/results"]),
    ]


def _public_logs(columns: Sequence[Column]) -> list[Block]:
    """Name the public logs, with a link to where they are published."""
    names = {column.name: log_name(column) for column in columns}
    known = [
        f"{name} is {log}" for name, log in names.items() if log in datasets.PUBLIC_LOGS.values()
    ]
    if not known:
        return []
    text = paragraph(f"The logs: {', '.join(known)}.")
    return [f"{text} [Where they are published, and how to prepare them]({PUBLIC_LOGS_PAGE})."]


def _notes(columns: Sequence[Column]) -> list[str]:
    """Return what data.csv says, under the key `note`, of all runs on a log."""
    return [*dict.fromkeys(note for column in columns if (note := column.cells.get("note")))]
