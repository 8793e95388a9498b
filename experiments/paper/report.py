"""The report in the paper's order: each table and figure with its commands, data and commits."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Sequence

import polars as pl

from hrnn_jax.preprocess import statistics
from hrnn_jax.preprocess.datasets import PUBLIC_LOGS

from ..common.model_names import BEYOND, PAPER_BASELINES
from ..common.text import duration
from ..jobs.grid import XXL
from ..jobs.paper_rows import CODE_2017, EQUATIONS, NETWORKS, ROWS, reference
from ..rendering.markdown import (
    DASH,
    Block,
    Exhibit,
    bullets,
    code,
    heading,
    paragraph,
    warning,
    write_report,
)
from . import explanations, searches, tables
from .figures import figure, figure_table
from .numbers import ALPHA, HEADLINES, SCORES, paper_gain
from .results import NETWORK_ROWS, NOT_TRAINED, ROW_NAMES, Column, Results, read_results
from .size_table import size_table

TITLE = "Personalizing session-based recommendations with hierarchical RNNs: the paper and hrnn_jax"


def write(results_folder: pathlib.Path, out: pathlib.Path) -> None:
    """Write report.md, report.html and figures/.

    Args:
        results_folder: the CSV files, see `collect`.
        out: the folder of the report.

    Raises:
        InputError: a CSV file is missing or wrong, or the report cannot be written.
    """
    blocks = compose(read_results(results_folder))
    write_report(out / "report.md", TITLE, blocks, page=True)


def compose(results: Results) -> list[Block]:
    """Return the report's content."""
    everything = [*results.columns.values()]
    columns = [column for column in everything if column.key != XXL]
    table_1 = [key for key in statistics.ROWS if key not in tables.TABLE_4]
    costs = [block for device in results.devices() for block in _costs(results.on(device), device)]
    failures = [tables.failure_table(results)] if len(results.frames["failed"]) else []
    history = "Table 4: test sessions in each history length group"
    no_data, no_network = "data set but Table 5's", "network run with these groups"
    return [
        *_head(results),
        *_section("Data", _data(results, columns, "Table 1: the data", table_1), no_data),
        heading("Settings"),
        annotated(tables.settings_table(results), results, everything),
        *_section("Recommendation quality", _quality(results, columns), "run of this part"),
        *_section("User history length", _data(results, columns, history, tables.TABLE_4), no_data),
        *(_figures(results, columns, "history") or [_nothing(no_network)]),
        *_section(
            "Position within the session", _figures(results, columns, "position"), no_network
        ),
        *_section("Large-scale data", _large_scale(results), "run at the scale of VIDEOXXL"),
        heading("Cost of the runs"),
        *costs,
        *failures,
        heading("How to reproduce"),
        paragraph("Table 3, and all of this report:"),
        code(["make reproduce-table3", "make reproduce"]),
        paragraph("The runs of one data set:"),
        code(commands(everything)),
        paragraph("This report again, from the CSV files alone:"),
        code([".venv/bin/python -m experiments.report RESULTS_FOLDER OUT_FOLDER"]),
    ]


def _section(title: str, blocks: Sequence[Block], absent: str) -> list[Block]:
    """Return a section, which says what is absent where it has no content."""
    return [heading(title), *(blocks or [_nothing(absent)])]


def _nothing(what: str) -> str:
    return paragraph(f"No {what} in these results.")


def _head(results: Results) -> list[Block]:
    simulated = ", ".join(column.name for column in results.columns.values() if column.simulated)
    warnings = [warning(explanations.SIMULATED.format(simulated))] if simulated else []
    runs, n_failed = results.frames["runs"], len(results.frames["failed"])
    last = runs["finished"].max()
    ended = f", the last of them at {last}" if last else ""
    counts = f"{len(runs)} runs ended{ended}; {n_failed or 'none'} failed."
    summaries = {column.label: _summary(results, column) for column in results.columns.values()}
    summary = bullets({label: text for label, text in summaries.items() if text})
    return [*warnings, paragraph(explanations.INTRODUCTION), paragraph(counts), summary]


def _summary(results: Results, column: Column) -> str:
    """State the best rows of a data set, and the gains of HRNN Init over RNN."""
    sentences = []
    for metric, name in HEADLINES.items():
        means = results.means(column.key, ROW_NAMES, metric)
        networks = [row for row in means if row in NETWORK_ROWS]
        best = [max(rows, key=means.__getitem__) for rows in (means, networks) if rows]
        texts = [f"{ROW_NAMES[row]}, {means[row]:.4f}" for row in dict.fromkeys(best)]
        if texts:
            sentences.append(f"Best {name}: {'; of the networks '.join(texts)}")
    for row in NETWORKS.values():
        base = reference(row, "rnn")
        if row.model != "hrnn_init" or base is None:
            continue
        if (column.key, row.key) in results.stopped:
            sentences.append(f"{row.full_name} {NOT_TRAINED}")
            continue
        pair = (row.key, base)
        gains = []
        for metric, name in HEADLINES.items():
            if (ours := results.gain(column.key, *pair, metric)) is not None:
                theirs = paper_gain(column.shape, *pair, metric)
                paper = "" if theirs is None else f" (paper {theirs:+.1%})"
                gains.append(f"{name} {ours:+.1%}{paper}")
        if gains:
            sentences.append(f"HRNN Init over RNN, {row.section}: {', '.join(gains)}")
    return f"{'. '.join(sentences)}." if sentences else ""


def _data(
    results: Results, columns: Sequence[Column], caption: str, keys: Sequence[str]
) -> list[Block]:
    if not columns:
        return []
    return [annotated(tables.data_table(columns, keys, caption), results, columns)]


def _quality(results: Results, columns: Sequence[Column]) -> list[Block]:
    columns = [column for column in columns if _rows(results, column)]
    if not columns:
        return []
    # The paper's rows, also without a run.
    rows = {key for key, row in ROWS.items() if key == row.printed and key not in BEYOND}
    rows |= {row for column in columns for row in _rows(results, column)}
    caption = "Table 3: Recall, MRR and Precision for N = 5"
    if any(column.paper_data for column in columns):
        caption += ", the paper's beside ours where the data are the paper's"
    table = tables.score_table(results, columns, rows, caption)
    similar = [note for column in columns for note in _similar_baselines(results, column)]
    stopped, found = _not_trained(results, columns), _searches(results, columns)
    notes = [explanations.FORMS, *stopped, *explanations.MARKS, *similar, *found]
    blocks = [*_leak(results, columns), annotated(table, results, columns, notes)]
    for column in columns:
        table = size_table(results, column)
        if [*table.rows()]:
            blocks.append(annotated(table, results, [column], rows=NETWORK_ROWS))
    blocks += _gains(results, columns, "Relative gains of the HRNNs in Table 3")
    for column in columns:
        table = tables.further_table(results, column, _rows(results, column))
        blocks.append(annotated(table, results, [column], [explanations.FURTHER_NOTE]))
    return blocks


def _leak(results: Results, columns: Sequence[Column]) -> list[Block]:
    """Say what is behind the two forms of the HRNNs, where one of them was run."""
    if not any(ROWS[row].is_hrnn for column in columns for row in _rows(results, column)):
        return []
    found = []
    for form in (EQUATIONS, CODE_2017):
        section = f"{form}, large"
        large = [row for row in NETWORKS.values() if (row.form, row.section) == (form, section)]
        cells = [(c.key, row.key) for c in columns for row in large if row.key in _rows(results, c)]
        stopped = [cell for cell in cells if cell in results.stopped]
        found += [f"{len(stopped)} of {len(cells)} by the {form}"] if cells else []
    text = f" {explanations.LEAK_FOUND.format(', '.join(found))}" if found else ""
    return [
        paragraph(explanations.LEAK + text),
        paragraph("To see both, on all data sets:"),
        code([explanations.LEAK_COMMAND]),
    ]


def _not_trained(results: Results, columns: Sequence[Column]) -> list[str]:
    """Name the rows that did not train, and the loss and epoch at which they were stopped."""
    found = []
    for column in columns:
        of_column = (
            (row, text) for (key, row), text in results.stopped.items() if key == column.key
        )
        if texts := "; ".join(f"{ROW_NAMES[row]}, {text}" for row, text in of_column):
            found.append(f"{column.label}: {texts}.")
    return [" ".join([explanations.STOPPED, *found])] if found else []


def _gains(
    results: Results,
    columns: Sequence[Column],
    caption: str,
    rows: Collection[str] = NETWORK_ROWS,
) -> list[Block]:
    table = tables.gain_table(results, columns, caption, rows)
    return [annotated(table, results, columns, [explanations.GAIN_NOTE])] if [*table.rows()] else []


def _similar_baselines(results: Results, column: Column) -> list[str]:
    """Name the networks that do not differ significantly from a baseline; the paper has none."""
    tests = {
        f"{ROW_NAMES[row]} from {PAPER_BASELINES[base]} in {name} (p = {p:.4f})": p
        for row in NETWORK_ROWS
        for base in PAPER_BASELINES
        for metric, name in HEADLINES.items()
        if (p := results.p_value(column.key, row, base, metric)) is not None
    }
    similar = "; ".join(text for text, p in tests.items() if p >= ALPHA)
    text = "every network tested differs significantly from the baselines"
    text = f"no significant difference of {similar}" if similar else text
    return [f"{column.label}: {text}."] if tests else []


def _costs(results: Results, device: str) -> list[Block]:
    """Lay out what the runs took that a kind of device computed."""
    columns = [c for c in results.columns.values() if c.key in results.frames["runs"]["column"]]
    where, note = explanations.COSTS[device]
    caption = f"Training times and rates on {where} (Section 4.2)"
    table = tables.cost_table(results, columns, caption)
    return [annotated(table, results, columns, [note, explanations.COST_OF_PAPER])]


def _searches(results: Results, columns: Sequence[Column]) -> list[str]:
    """Say how the tuned rows were tuned, and what their best trials measured."""
    labels = {column.key: column.label for column in columns}
    chosen = results.frames["chosen"].filter(pl.col("column").is_in(labels))
    best = chosen.select("column", "row", "trials", "value").unique(maintain_order=True)
    found = [
        f"{ROW_NAMES[row]} on {labels[column]}: Recall@5 {value:.4f} on the validation split, the "
        f"best of {trials} trials."
        for column, row, trials, value in best.iter_rows()
    ]
    return [searches.NOTE, *found] if found else []


def _figures(results: Results, columns: Sequence[Column], kind: str) -> list[Block]:
    blocks: list[Block] = []
    for column in columns:
        if drawn := figure(results, column, kind):
            blocks.append(annotated(drawn, results, [column], rows=NETWORK_ROWS))
            blocks.append(figure_table(results, column, kind))
    return blocks


def _large_scale(results: Results) -> list[Block]:
    column = results.columns.get(XXL)
    if not column or not _rows(results, column):
        return []
    printed = statistics.PAPER["videoxxl"]
    size = ", ".join(
        f"{column.cells.get(key) or DASH} {key} (paper {printed[key]})"
        for key in ("users", "items", "sessions", "events")
    )
    tested = any(key == column.key for key, _, _ in results.p_values)
    rows = {*SCORES["videoxxl"], *_rows(results, column)}
    caption = f"Table 5: {column.label}, small networks"
    table = tables.score_table(results, [column], rows, caption)
    notes = [
        f"Scale: {size}.",
        *_not_trained(results, [column]),
        *(explanations.MARKS if tested else explanations.MARKS[:1]),
    ]
    return [
        annotated(table, results, [column], notes),
        *_gains(results, [column], "Relative gains of the HRNNs in Table 5", rows),
    ]


def annotated(
    block: Exhibit,
    results: Results,
    columns: Sequence[Column],
    notes: Sequence[str] = (),
    rows: Collection[str] = tuple(ROW_NAMES),
) -> Exhibit:
    """Add the commands to a table or figure, and notes on its data, machines, times and commits.

    Args:
        block: the table or figure.
        results: the results.
        columns: the data sets that it shows.
        notes: further notes.
        rows: the models that it shows.
    """
    sources = [_source(results, column, rows) for column in columns]
    return dataclasses.replace(
        block, commands=commands(columns), notes=(*block.notes, *notes, *sources)
    )


def _source(results: Results, column: Column, rows: Collection[str]) -> str:
    """Describe the data, and the machines, the total time and the commits of the runs."""
    runs = results.frames["runs"].filter(pl.col("row").is_in(rows), column=column.key)
    tested = pl.col("cases") / pl.col("eval_cases_per_second").replace(0.0, None)
    seconds = runs.select(pl.col("train_seconds").sum() + tested.sum()).item()
    machines, commits = (
        ", ".join(runs[name].drop_nulls().unique(maintain_order=True)) or DASH
        for name in ("machine", "commit")
    )
    return (
        f"{column.label}: {log_name(column)}. {machines}; {len(runs)} runs, "
        f"{duration(seconds)} of training and evaluation in all; commit {commits}."
    )


def log_name(column: Column) -> str:
    """Return the name of a column's log, if it is a public one, and its title otherwise."""
    return PUBLIC_LOGS.get(column.cells.get("events_sha256", ""), column.title)


def commands(columns: Iterable[Column]) -> list[str]:
    """Return the commands that reproduce the runs on some data sets."""
    return [*dict.fromkeys(column.command for column in columns)]


def _rows(results: Results, column: Column) -> list[str]:
    """Return the rows with a finished run on this data set, trained or not."""
    means = results.means(column.key, ROW_NAMES, "recall")
    return [row for row in ROW_NAMES if row in means or (column.key, row) in results.stopped]
