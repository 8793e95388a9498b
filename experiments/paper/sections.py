"""The report's sections, in the paper's order: each table and figure with where it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from hrnn_jax.preprocess import statistics

from ..common.model_names import BEYOND
from ..common.text import duration
from ..jobs import grid
from ..rendering.markdown import (
    DASH,
    Block,
    Bullets,
    Code,
    Figure,
    Heading,
    Table,
    Text,
)
from . import figures, results, tables
from . import numbers as paper_numbers
from .results import Column, Findings

INTRODUCTION = (
    "The tables and figures of Quadrana, Karatzoglou, Hidasi and Cremonesi (RecSys 2017), made by "
    "hrnn_jax. A model sees a session's events one after the other and ranks the items for the "
    "next one; what is ranked is the last session of each user. Every number is read from the CSV "
    "files of the runs."
)
HEADLINES = {"recall": "Recall@5", "mrr": "MRR@5"}
MARKS = (
    "Mean ± sample standard deviation over n seeds; –: no run has ended. Bold: the best mean of "
    "its column, as printed.",
    "Italic: a network that differs significantly from RNN of its size. Underlined: an HRNN that "
    "differs significantly from RNN Concat of its size. †: HRNN All and HRNN Init of this size "
    "do not differ significantly.",
    f"Significant: p < {paper_numbers.ALPHA} in a two-sided Wilcoxon signed-rank test, paired over "
    "the test cases on each case's mean over seeds; Precision@5 is Recall@5 / 5 in each case and "
    "has its p. All p-values: significance.csv. The paper gives the test and p < 0.01, not what it "
    "pairs.",
)


def compose(found: Findings) -> list[Block]:
    """Put the report together, in the paper's order."""
    columns = [c for c in found.columns.values() if c.key != grid.XXL]
    large = [c for c in found.columns.values() if c.key == grid.XXL]
    return [
        *_head(found),
        Heading("Data"),
        *_statistics(
            found, columns, "Table 1: the data", [*statistics.ROWS][: -len(tables.SHARES)]
        ),
        Heading("Settings"),
        _annotated(tables.settings(found), found, [*found.columns.values()]),
        Heading("Recommendation quality"),
        *_quality(found, columns),
        Heading("User history length"),
        *_statistics(
            found,
            columns,
            "Table 4: test sessions in each history length group",
            tables.SHARES,
        ),
        *_figures(found, columns, "history"),
        Heading("Position within the session"),
        *_figures(found, columns, "position"),
        Heading("Large-scale data"),
        *_large_scale(found, large),
        Heading("What the runs took"),
        *_costs(found),
        Heading("How to reproduce"),
        *_reproduce(found),
    ]


def _head(found: Findings) -> list[Block]:
    simulated = [c.name for c in found.columns.values() if c.simulated]
    blocks: list[Block] = []
    if simulated:
        blocks.append(
            Text(
                f"SIMULATED events stand in for data that are not public: {', '.join(simulated)}. "
                "Their numbers say that the program works and nothing about the world; in "
                "absolute terms they do not compare with the paper's.",
                warning=True,
            )
        )
    blocks.append(Text(INTRODUCTION))
    failed = f"{len(found.failed)} failed" if found.failed else "none failed"
    last = max((run["finished"] or "" for run in found.runs), default="")
    ended = f", the last of them at {last}" if last else ""
    blocks.append(Text(f"{len(found.runs)} runs ended{ended}; {failed}."))
    readings = {column.label: _reading(found, column) for column in found.columns.values()}
    return [*blocks, Bullets({label: text for label, text in readings.items() if text})]


def _reading(found: Findings, column: Column) -> str:
    """Say which rows are best, and what HRNN Init gains over RNN."""
    sentences = []
    for metric, name in HEADLINES.items():
        means = {
            row: spread.mean
            for row in results.NAMES
            if (spread := results.score(found, column.key, row, metric))
        }
        if not means:
            continue
        best = max(means, key=means.__getitem__)
        text = f"Best {name}: {results.NAMES[best]}, {means[best]:.4f}"
        networks = [row for row in means if row in results.NETWORKS]
        if networks and best not in networks:
            top = max(networks, key=means.__getitem__)
            text += f"; of the networks {results.NAMES[top]}, {means[top]:.4f}"
        sentences.append(text)
    for size in paper_numbers.SIZES:
        pair = (f"hrnn_init_{size}", f"rnn_{size}")
        gains = []
        for metric, name in HEADLINES.items():
            ours = results.gain(found, column.key, *pair, metric)
            theirs = paper_numbers.gain(column.shape, *pair, metric)
            if ours is not None:
                beside = "" if theirs is None else f" (paper {theirs:+.1%})"
                gains.append(f"{name} {ours:+.1%}{beside}")
        if gains:
            sentences.append(f"HRNN Init over RNN, {size}: {', '.join(gains)}")
    return f"{'. '.join(sentences)}." if sentences else ""


def _statistics(
    found: Findings, columns: Sequence[Column], caption: str, keys: Sequence[str]
) -> list[Block]:
    if not columns:
        return [_nothing("data set but Table 5's")]
    return [_annotated(tables.statistics(columns, keys, caption), found, columns)]


def _quality(found: Findings, columns: Sequence[Column]) -> list[Block]:
    columns = [c for c in columns if _rows(found, c)]
    if not columns:
        return [_nothing("run of this part")]
    rows = {row for row in results.NAMES if row not in BEYOND}  # the paper's, always
    rows |= {row for column in columns for row in _rows(found, column)}
    absolute = any(column.papers_own for column in columns)
    blocks: list[Block] = [
        _annotated(
            tables.scores(
                found,
                columns,
                rows,
                "Table 3: Recall, MRR and Precision for N = 5"
                + (", the paper's beside ours where the data are the paper's" if absolute else ""),
            ),
            found,
            columns,
            [*MARKS, *(note for c in columns for note in _like_baselines(found, c))],
        )
    ]
    blocks += _gains(found, columns, "Relative gains of the HRNNs in Table 3")
    for column in columns:
        table = tables.further(found, column, _rows(found, column))
        notes = (
            "MRR@1 is Recall@1 and Precision@N is Recall@N / N. Coverage: the share of the "
            "catalogue that is recommended at all. Popularity: of the recommended items, in the "
            "training events, on average.",
        )
        blocks.append(_annotated(table, found, [column], notes))
    return blocks


def _gains(found: Findings, columns: Sequence[Column], caption: str) -> list[Block]:
    table = tables.gains(found, columns, caption)
    notes = (
        "Of the means: one model's over the other's, less 1. The paper's from its printed "
        "numbers. Precision@5 gains what Recall@5 gains.",
    )
    return [_annotated(table, found, columns, notes)] if table else []


def _like_baselines(found: Findings, column: Column) -> list[str]:
    """Name the networks that a baseline is not told apart from; the paper has none."""
    tested, alike = False, []
    for row in results.NETWORKS:
        for base in paper_numbers.BASELINES:
            for metric in HEADLINES:
                p = results.p_value(found, column.key, row, base, metric)
                tested |= p is not None
                if p is not None and p >= paper_numbers.ALPHA:
                    names = f"{results.NAMES[row]} from {paper_numbers.BASELINES[base]}"
                    alike.append(f"{names} in {paper_numbers.METRICS[metric]} (p = {p:.4f})")
    if not tested:
        return []
    if not alike:
        return [f"{column.label}: every network tested differs significantly from the baselines."]
    return [f"{column.label}: not significantly different are {'; '.join(alike)}."]


def _figures(found: Findings, columns: Sequence[Column], kind: str) -> list[Block]:
    blocks: list[Block] = []
    for column in columns:
        if drawn := figures.figure(found, column, kind):
            numbers = figures.numbers(found, column, kind)
            blocks += [_annotated(drawn, found, [column], rows=results.NETWORKS), numbers]
    return blocks or [_nothing("network run with these groups")]


def _large_scale(found: Findings, columns: Sequence[Column]) -> list[Block]:
    columns = [c for c in columns if _rows(found, c)]
    if not columns:
        return [_nothing("run at the scale of VIDEOXXL")]
    [column] = columns
    printed = statistics.PAPER["videoxxl"]
    size = ", ".join(
        f"{column.cells.get(key) or DASH} {key} (paper {printed[key]})"
        for key in ("users", "items", "sessions", "events")
    )
    tested = any(key == column.key for key, _, _ in found.p_values)
    rows = {*paper_numbers.SCORES["videoxxl"], *_rows(found, column)}
    caption = f"Table 5: {column.label}, small networks"
    return [
        _annotated(
            tables.scores(found, columns, rows, caption),
            found,
            columns,
            [f"Scale: {size}.", *(MARKS if tested else MARKS[:1])],
        ),
        *_gains(found, columns, "Relative gains of the HRNNs in Table 5"),
    ]


def _costs(found: Findings) -> list[Block]:
    columns = [*found.columns.values()]
    blocks: list[Block] = [
        _annotated(
            tables.costs(found, columns, "Training times and rates (Section 4.2)"),
            found,
            columns,
            (
                "Means over the runs. The paper, on one K80 GPU: from about 5 minutes (RNN small, "
                "XING) to about 30 minutes (HRNN All large, VIDEO).",
            ),
        )
    ]
    return [*blocks, tables.failures(found)] if found.failed else blocks


def _reproduce(found: Findings) -> list[Block]:
    return [
        Text("Table 3, and all of this report:"),
        Code(["make reproduce-table3", "make reproduce"]),
        Text("The runs of one data set:"),
        Code(_commands([*found.columns.values()])),
        Text("This report again, from the CSV files alone:"),
        Code(["python -m experiments.report RESULTS_FOLDER OUT_FOLDER"]),
    ]


def _annotated(
    exhibit: Table | Figure,
    found: Findings,
    columns: Sequence[Column],
    notes: Sequence[str] = (),
    rows: Collection[str] = tuple(results.NAMES),
) -> Table | Figure:
    """Set the commands above a table or figure; the data, machines, time and commits below."""
    sources = [source(found, column, rows) for column in columns]
    return dataclasses.replace(
        exhibit,
        commands=_commands(columns),
        notes=(*exhibit.notes, *notes, *sources),
    )


def source(found: Findings, column: Column, rows: Collection[str]) -> str:
    """Say what the data are, and with what, in which time and with what code the runs were made."""
    runs = [r for r in found.runs if r["column"] == column.key and r["row"] in rows]
    seconds = sum(
        (run["train_seconds"] or 0.0)
        + ((run["cases"] or 0) / rate if (rate := run["eval_cases_per_second"]) else 0.0)
        for run in runs
    )
    machines = _distinct(run["machine"] for run in runs)
    commits = _distinct(run["commit"] for run in runs)
    return (
        f"{column.label}: {column.title}. {machines}; {len(runs)} runs, "
        f"{duration(seconds)} of training and evaluation in all; commit {commits}."
    )


def _distinct(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value)) or DASH


def _commands(columns: Sequence[Column]) -> list[str]:
    return [*dict.fromkeys(column.command for column in columns)]


def _rows(found: Findings, column: Column) -> list[str]:
    """Return the rows of which a run has ended on this data."""
    return [row for row in results.NAMES if results.score(found, column.key, row, "recall")]


def _nothing(what: str) -> Text:
    return Text(f"No {what} in these results.")
