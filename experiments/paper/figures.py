"""Figures 3 to 6: the networks by length of the user's history and by place in the session."""

from __future__ import annotations

from ..common.spread import Spread
from ..rendering import plots
from ..rendering.markdown import (
    Cell,
    Figure,
    Group,
    Section,
    Table,
)
from . import numbers as paper_numbers
from . import results
from .results import Column, Findings

# kind: what the groups are, and the paper's figure by shape.
FIGURES = {
    "history": ("user history length", {"xing": "Figure 3", "video": "Figure 4"}),
    "position": ("position within the session", {"xing": "Figure 5", "video": "Figure 6"}),
}
MEANS = {
    "history": "Means over the test sessions of a group, of each session's mean ({counts}).",
    "position": "Means over the test cases of sessions of 5 events or more, by which event of its "
    "session the target is ({counts}); the first is never one.",
}
METRICS = ("recall", "mrr")


def figure(found: Findings, column: Column, kind: str) -> Figure | None:
    """Draw a figure of one data set, small networks above large; None where none has ended."""
    rows = [_panels(found, column, kind, size) for size in paper_numbers.SIZES]
    rows = [row for row in rows if any(panel.points for panel in row)]
    if not rows:
        return None
    by, numbered = FIGURES[kind]
    number = numbered.get(column.shape, f"As {' and '.join(numbered.values())}")
    caption = f"{number}: Recall@5 and MRR@5 on {column.label} by {by}"
    labels = results.GROUPS[kind]
    counts = ", ".join(
        f"{label}: {found.sizes.get((kind, column.key, group), 0):,}"
        for group, label in labels.items()
    )
    name = f"{kind}_{column.key}"
    return Figure(
        caption=caption,
        name=name,
        svg=plots.draw(name, rows, [*labels.values()], paper_numbers.NETWORKS),
        alt=f"{caption}. The table below holds its numbers.",
        notes=(
            f"{MEANS[kind].format(counts=counts)} Points: median over the seeds. Bars: from the "
            "least seed to the greatest. The vertical axes do not start at 0.",
        ),
    )


def numbers(found: Findings, column: Column, kind: str) -> Table:
    """Lay out the numbers of a figure: medians over the seeds, and their range."""
    caption = f"The numbers of this figure, {column.label}"
    sections = []
    for size in paper_numbers.SIZES:
        lines = []
        for row, name in results.SECTIONS[size].items():
            spreads = [
                found.groups.get((kind, column.key, row, group, metric))
                for metric in METRICS
                for group in results.GROUPS[kind]
            ]
            if any(spreads):
                lines.append((name, [_median(spread) for spread in spreads]))
        if lines:
            sections.append(Section(size, lines))
    heads = [
        f"{paper_numbers.METRICS[metric]}, {name}"
        for metric in METRICS
        for name in results.GROUPS[kind].values()
    ]
    return Table(caption, "Model", [Group(column.label, heads)], sections)


def _panels(found: Findings, column: Column, kind: str, size: str) -> list[plots.Panel]:
    panels = []
    for metric in METRICS:
        points = {}
        for model in paper_numbers.NETWORKS:
            row = [
                found.groups.get((kind, column.key, f"{model}_{size}", group, metric))
                for group in results.GROUPS[kind]
            ]
            if any(row):
                points[model] = row
        panels.append(plots.Panel(size, paper_numbers.METRICS[metric], points))
    return panels


def _median(spread: Spread | None) -> Cell:
    if spread is None:
        return Cell()
    ends = f"({spread.low:.4f} to {spread.high:.4f})" if spread.n > 1 else ""
    return Cell(f"{spread.median:.4f}", note=ends)
