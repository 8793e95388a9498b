"""The exhibits of the tuned comparison: its tables, its figures, and what they say in words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.text import short
from ..paper import numbers, results
from ..paper.results import Column, Findings
from ..rendering import plots
from ..rendering.markdown import (
    DASH,
    Cell,
    Figure,
    Group,
    Section,
    Table,
)
from . import grid
from .grid import NAMES, PLUS

Chosen = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]  # (column, row) -> lines
Curves = Mapping[tuple[str, str, str], Sequence[tuple[int, float]]]  # (column, metric, row)

ALPHA = 0.05
METRICS = {metric: numbers.METRICS[metric] for metric in ("recall", "mrr")}
WORSE, BETTER = "▾", "▴"
INTRODUCTION = (
    "Every model that has something to tune was searched with one budget a log, on each user's "
    "last session but one; what was best there was trained with several seeds and ranked on the "
    "last sessions, which no choice has seen. All numbers are read from the CSV files beside this."
)
MARKS = (
    f"{WORSE}: significantly worse than {PLUS}, {BETTER}: significantly better; no mark: not told "
    f"apart (p < {ALPHA} in a two-sided Wilcoxon signed-rank test, paired over the test cases on "
    "each case's mean over seeds; all p-values: significance.csv)."
)


def rows(found: Findings) -> list[str]:
    """Return the rows of which a run has ended, in the order of the tables."""
    seen = dict.fromkeys(row for _, row, _, _ in found.scores)
    known = [row for row in grid.ROWS if row in seen]
    return [*known, *(row for row in seen if row not in known)]


def ablated(found: Findings) -> list[str]:
    """Return the rows that are hrnn_plus with something changed."""
    return [row for row in rows(found) if row not in NAMES]


def quality(found: Findings) -> Table:
    """Lay out Recall@5 and MRR@5 of all rows on all logs."""
    columns = [*found.columns.values()]
    shown = [row for row in rows(found) if row in NAMES]
    best = results.best(found, columns, shown, METRICS)

    def cell(column: Column, row: str, metric: str) -> Cell:
        spread = results.score(found, column.key, row, metric)
        if spread is None:
            return Cell()
        return Cell(
            text=f"{spread.mean:.4f}",
            mark=_mark(found, column, row, metric),
            note="" if spread.std is None else f"± {spread.std:.4f}",
            bold=round(spread.mean, 4) == best[column.key, metric],
        )

    lines = [
        (NAMES[row], [cell(column, row, metric) for column in columns for metric in METRICS])
        for row in shown
    ]
    return Table(
        caption="Recall@5 and MRR@5 on the test split, tuned",
        corner="Model",
        groups=[Group(column.label, [*METRICS.values()]) for column in columns],
        sections=[Section("", lines)],
        notes=(
            "Mean ± sample standard deviation over the seeds; models that count have one. Bold: "
            "the best mean, as printed.",
            MARKS,
        ),
    )


def verdict(found: Findings, column: Column) -> str:
    """Say in a sentence whether hrnn_plus is best, or which row is and by how much."""
    won, parts = [], []
    for metric, name in METRICS.items():
        means = {
            row: spread.mean
            for row in NAMES
            if (spread := results.score(found, column.key, row, metric))
        }
        ours = means.pop(PLUS, None)
        if ours is None or not means:
            return f"nothing to say: no run of {PLUS if ours is None else 'another model'}"
        rival = max(means, key=means.__getitem__)
        theirs = means[rival]
        p = results.p_value(found, column.key, PLUS, rival, metric)
        doubt = ", not significantly" if p is not None and p >= ALPHA else ""
        text = f"{name} {ours:.4f} against {theirs:.4f} of {NAMES[rival]}"
        gain = f"{ours / theirs - 1:+.1%}" if theirs else "which is 0"
        parts.append(f"{text} ({gain}{doubt}{'' if p is None else f', {_p(p)}'})")
        if ours > theirs:
            won.append(name)
    wins = {0: "wins neither", 1: f"wins {' and '.join(won)} alone", 2: "wins both"}[len(won)]
    return f"{PLUS} {wins}: {'; '.join(parts)}."


def settings(found: Findings, chosen: Chosen) -> Table:
    """Lay out what was found best by the searches, and what they spent."""
    sections, notes = [], []
    for column in found.columns.values():
        lines = []
        for row in NAMES:
            if of := chosen.get((column.key, row)):
                text = ", ".join(f"{line['key']} {short(line['setting'])}" for line in of)
                value = Cell() if of[0]["value"] is None else Cell(f"{of[0]['value']:.4f}")
                lines.append((NAMES[row], [Cell(text), Cell(str(of[0]["trials"])), value]))
        if lines:
            sections.append(Section(column.label, lines))
            trials, epochs = (column.cells.get(key, DASH) for key in ("trials", "epochs"))
            notes.append(f"{column.label}: {trials} trials of at most {epochs} epochs each.")
    patience = f"ends after {grid.PATIENCE} epochs that were no better"
    return Table(
        caption="The best trial of each search",
        corner="Model",
        groups=[Group("", ["Chosen", "Trials", "Recall@5, validation"], words=True)],
        sections=sections,
        notes=(*notes, f"A trial {patience}, and is worth what its best epoch is."),
    )


def ablation(found: Findings) -> Table:
    """Lay out what each change to hrnn_plus does."""
    columns = [*found.columns.values()]

    def cell(column: Column, row: str, metric: str) -> Cell:
        if row == PLUS:
            spread = results.score(found, column.key, PLUS, metric)
            return Cell() if spread is None else Cell(f"{spread.mean:.4f}")
        means = _means(found, column, row, metric)
        if means is None:
            return Cell()
        ours, theirs = means
        return Cell(f"{theirs - ours:+.4f}", mark=_mark(found, column, row, metric))

    lines = [
        (row, [cell(column, row, metric) for column in columns for metric in METRICS])
        for row in (PLUS, *ablated(found))
    ]
    return Table(
        caption=f"{PLUS}, and how far one change moves it",
        corner="Change",
        groups=[Group(column.label, [*METRICS.values()]) for column in columns],
        sections=[Section("", lines)],
        notes=(
            "Differences of means over the seeds that both ran: the first so many. Settings and "
            f"epochs are those tuned for {PLUS}.",
            MARKS,
        ),
    )


def cost(found: Findings) -> Table:
    """Lay out what training on an event takes, also in terms of HRNN Init."""
    micros: dict[tuple[str, str], float] = {}
    for column in found.columns:
        for row in rows(found):
            rates = [
                run["train_events_per_second"]
                for run in found.runs
                if (run["column"], run["row"]) == (column, row) and run["train_events_per_second"]
            ]
            if rates:
                micros[column, row] = statistics.fmean(1e6 / rate for rate in rates)
    lines = []
    for row in dict.fromkeys(row for _, row in micros):
        cells = []
        for column in found.columns:
            own, base = micros.get((column, row)), micros.get((column, "hrnn_init"))
            cells.append(Cell() if own is None else Cell(f"{own:,.1f}"))
            cells.append(Cell(f"{own / base:.2f}") if own and base else Cell())
        lines.append((NAMES.get(row, row), cells))
    heads = ["µs / event", "/ HRNN Init's"]
    return Table(
        caption="Training time by event",
        corner="Model",
        groups=[Group(column.label, heads) for column in found.columns.values()],
        sections=[Section("", lines)],
        notes=("Means over seeds, with the batch size that was chosen, runs going side by side.",),
    )


def learning(column: Column, curves: Curves) -> Figure | None:
    """Draw the networks' learning curves on a log; None where there are none."""
    panels = {
        name: {
            row: curves[column.key, f"{metric}@5", row]
            for row in grid.NETWORKS
            if (column.key, f"{metric}@5", row) in curves
        }
        for metric, name in METRICS.items()
    }
    networks = {row: NAMES[row] for row in grid.NETWORKS if row in panels["Recall@5"]}
    if not networks:
        return None
    caption = f"Recall@5 and MRR@5 on the validation split of {column.label}, by epoch"
    return Figure(
        caption=caption,
        name=f"learning_{column.key}",
        svg=plots.epochs(f"learning_{column.key}", panels, networks),
        alt=f"{caption}. curves.csv holds its numbers.",
        notes=("One seed, with the settings that were chosen.",),
    )


def _mark(found: Findings, column: Column, row: str, metric: str) -> str:
    """Mark a row that differs significantly from hrnn_plus."""
    p = results.p_value(found, column.key, PLUS, row, metric)
    if row == PLUS or p is None or p >= ALPHA:
        return ""
    means = _means(found, column, row, metric)
    if means is None or means[0] == means[1]:
        return ""
    return WORSE if means[1] < means[0] else BETTER


def _means(found: Findings, column: Column, row: str, metric: str) -> tuple[float, float] | None:
    """Return hrnn_plus' mean and a row's, of the seeds that both ran; None where one has none.

    Seeds are 0, 1, ... A model that counts is the same for each.
    """
    ours, theirs = (results.score(found, column.key, r, metric) for r in (PLUS, row))
    if ours is None or theirs is None:
        return None
    n = ours.n if row in grid.COUNTING else min(ours.n, theirs.n)
    return statistics.fmean(ours.values[:n]), statistics.fmean(theirs.values[:n])


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
