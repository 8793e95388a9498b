"""The tables of the tuned comparison, its marks of significance, verdicts and learning curves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax.config import BASELINES

from ..common.text import short
from ..paper.numbers import METRICS as PAPER_METRICS
from ..paper.results import Column, Results
from ..paper.tables import plus_minus
from ..rendering import plots
from ..rendering.markdown import DASH, Cell, Figure, Group, Section, Table
from .grid import NAMES, NETWORKS, PLUS, ROWS
from .studies import PATIENCE

ALPHA = 0.05
METRICS = {metric: PAPER_METRICS[metric] for metric in ("recall", "mrr")}
WORSE, BETTER = "▾", "▴"
MARKS = (
    f"{WORSE}: significantly worse than {PLUS}, {BETTER}: significantly better; no mark: no "
    f"significant difference (p < {ALPHA} in a two-sided Wilcoxon signed-rank test, paired over "
    "the test cases on each case's mean over seeds; all p-values: significance.csv)."
)


def rows_with_runs(results: Results) -> list[str]:
    """Return the rows with a finished run, in the order of the tables."""
    rows = dict.fromkeys(row for _, row, _, _ in results.scores)
    known = [row for row in ROWS if row in rows]
    return [*known, *(row for row in rows if row not in known)]


def ablation_rows(results: Results) -> list[str]:
    """Return the rows that are hrnn_plus with something changed."""
    return [row for row in rows_with_runs(results) if row not in NAMES]


def score_table(results: Results) -> Table:
    """Lay out Recall@5 and MRR@5 of all models on all logs."""
    rows = [row for row in rows_with_runs(results) if row in NAMES]

    def cell(column: Column, row: str, metric: str) -> Cell:
        spread = results.score(column.key, row, metric)
        if spread is None:
            return Cell()
        return Cell(
            text=f"{spread.mean:.4f}",
            mark=_mark(results, column, row, metric),
            note=plus_minus(spread),
            bold=round(spread.mean, 4) == results.best(column.key, rows, metric),
        )

    columns = results.columns.values()
    lines = [
        (NAMES[row], [cell(column, row, metric) for column in columns for metric in METRICS])
        for row in rows
    ]
    return Table(
        caption="Recall@5 and MRR@5 on the test split, tuned",
        corner="Model",
        groups=[Group(column.label, [*METRICS.values()]) for column in columns],
        sections=[Section("", lines)],
        notes=(
            "Mean ± sample standard deviation over the seeds; the baselines do not depend on one. "
            "Bold: the best mean, as printed.",
            MARKS,
        ),
    )


def verdict(results: Results, column: Column) -> str:
    """Say in a sentence whether hrnn_plus is the best model of a log, and by how much."""
    won, parts = [], []
    for metric, name in METRICS.items():
        means = results.means(column.key, NAMES, metric)
        ours = means.pop(PLUS, None)
        if ours is None or not means:
            return f"no comparison: no run of {PLUS if ours is None else 'another model'}"
        rival = max(means, key=means.__getitem__)
        theirs = means[rival]
        details = [f"{ours / theirs - 1:+.1%}" if theirs else "which is 0"]
        p = results.p_value(column.key, PLUS, rival, metric)
        if p is not None:
            details += ["not significantly"] if p >= ALPHA else []
            details.append("p < 0.0001" if p < 0.0001 else f"p = {p:.2g}")
        parts.append(
            f"{name} {ours:.4f} against {theirs:.4f} of {NAMES[rival]} ({', '.join(details)})"
        )
        if ours > theirs:
            won.append(name)
    wins = {0: "wins neither", 1: f"wins {' and '.join(won)} alone", 2: "wins both"}[len(won)]
    return f"{PLUS} {wins}: {'; '.join(parts)}."


def settings_table(
    results: Results, chosen: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
) -> Table:
    """Lay out the best trial of each search, and the budgets.

    Args:
        results: the results.
        chosen: the lines of chosen.csv by column and row.
    """
    sections, notes = [], []
    for column in results.columns.values():
        lines = []
        for row in NAMES:
            if of_row := chosen.get((column.key, row)):
                text = ", ".join(f"{line['key']} {short(line['setting'])}" for line in of_row)
                value = of_row[0]["value"]
                cells = [Cell(text), Cell(str(of_row[0]["trials"]))]
                lines.append(
                    (NAMES[row], [*cells, Cell(DASH if value is None else f"{value:.4f}")])
                )
        if lines:
            sections.append(Section(column.label, lines))
            trials, epochs = (column.cells.get(key, DASH) for key in ("trials", "epochs"))
            notes.append(f"{column.label}: {trials} trials of at most {epochs} epochs each.")
    return Table(
        caption="The best trial of each search",
        corner="Model",
        groups=[Group("", ["Chosen", "Trials", "Recall@5, validation"], words=True)],
        sections=sections,
        notes=(
            *notes,
            f"A trial ends after {PATIENCE} epochs without improvement; its value is that of its "
            "best epoch.",
        ),
    )


def ablation_table(results: Results) -> Table:
    """Lay out the differences that each change to hrnn_plus makes."""

    def cell(column: Column, row: str, metric: str) -> Cell:
        means = _paired_means(results, column, row, metric)
        if means is None:
            return Cell()
        ours, theirs = means
        if row == PLUS:
            return Cell(f"{ours:.4f}")
        return Cell(f"{theirs - ours:+.4f}", mark=_mark(results, column, row, metric))

    columns = results.columns.values()
    lines = [
        (row, [cell(column, row, metric) for column in columns for metric in METRICS])
        for row in (PLUS, *ablation_rows(results))
    ]
    return Table(
        caption=f"{PLUS}, and the difference that one change makes",
        corner="Change",
        groups=[Group(column.label, [*METRICS.values()]) for column in columns],
        sections=[Section("", lines)],
        notes=(
            "Differences of means over the seeds that both rows have. Settings and epochs are "
            f"those tuned for {PLUS}.",
            MARKS,
        ),
    )


def cost_table(results: Results) -> Table:
    """Lay out the training time of an event, also in relation to HRNN Init's."""
    micros: dict[tuple[str, str], float] = {}
    for row in rows_with_runs(results):
        for column in results.columns:
            rates = [
                run["train_events_per_second"]
                for run in results.runs
                if (run["column"], run["row"]) == (column, row) and run["train_events_per_second"]
            ]
            if rates:
                micros[column, row] = statistics.fmean(1e6 / rate for rate in rates)
    lines = []
    for row in dict.fromkeys(row for _, row in micros):
        cells = []
        for column in results.columns:
            own, base = micros.get((column, row)), micros.get((column, "hrnn_init"))
            cells.append(Cell() if own is None else Cell(f"{own:,.1f}"))
            cells.append(Cell(f"{own / base:.2f}") if own and base else Cell())
        lines.append((NAMES.get(row, row), cells))
    heads = ["µs / event", "/ HRNN Init's"]
    return Table(
        caption="Training time by event",
        corner="Model",
        groups=[Group(column.label, heads) for column in results.columns.values()],
        sections=[Section("", lines)],
        notes=("Means over seeds, with the chosen batch size, several runs at a time.",),
    )


def learning_figure(
    column: Column, curves: Mapping[tuple[str, str, str], Sequence[tuple[int, float]]]
) -> Figure | None:
    """Draw the networks' learning curves on a log.

    Args:
        column: the log.
        curves: (epoch, value) by (column, metric, row).

    Returns:
        The figure; None where the log has no curves.
    """
    panels = {
        name: {
            row: curves[column.key, f"{metric}@5", row]
            for row in NETWORKS
            if (column.key, f"{metric}@5", row) in curves
        }
        for metric, name in METRICS.items()
    }
    networks = {row: NAMES[row] for row in NETWORKS if row in panels["Recall@5"]}
    if not networks:
        return None
    caption = f"Recall@5 and MRR@5 on the validation split of {column.label}, by epoch"
    name = f"learning_{column.key}"
    return Figure(
        caption=caption,
        name=name,
        svg=plots.epochs(name, panels, networks),
        alt=f"{caption}. curves.csv holds its numbers.",
        notes=("One seed, with the chosen settings.",),
    )


def _mark(results: Results, column: Column, row: str, metric: str) -> str:
    """Return the mark of a row that differs significantly from hrnn_plus."""
    p = results.p_value(column.key, PLUS, row, metric)
    means = _paired_means(results, column, row, metric)
    if row == PLUS or p is None or p >= ALPHA or means is None or means[0] == means[1]:
        return ""
    return WORSE if means[1] < means[0] else BETTER


def _paired_means(
    results: Results, column: Column, row: str, metric: str
) -> tuple[float, float] | None:
    """Return hrnn_plus' mean and a row's over the seeds that both have; None where one has none.

    Seeds are 0, 1, ... A baseline is the same for every seed.
    """
    ours, theirs = (results.score(column.key, r, metric) for r in (PLUS, row))
    if ours is None or theirs is None:
        return None
    n = ours.n if row in BASELINES else min(ours.n, theirs.n)
    return statistics.fmean(ours.values[:n]), statistics.fmean(theirs.values[:n])
