"""Figures 3 to 6: the networks by length of the user's history and by position in the session."""

from __future__ import annotations

from ..common.model_names import PAPER_NETWORKS, SIZES
from ..common.text import Spread
from ..rendering import plots
from ..rendering.markdown import Cell, Figure, Group, Section, Table
from .numbers import METRICS
from .results import GROUPS, ROW_SECTIONS, Column, Results

# By kind of figure: what the groups are, and the paper's figure by data set.
FIGURES = {
    "history": ("user history length", {"xing": "Figure 3", "video": "Figure 4"}),
    "position": ("position within the session", {"xing": "Figure 5", "video": "Figure 6"}),
}
MEANS = {
    "history": "Means over the test sessions of a group, of each session's mean ({counts}).",
    "position": "Means over the test cases of sessions of 5 events or more, by the place of the "
    "target in its session ({counts}); the first event is never a target.",
}
SHOWN = ("recall", "mrr")  # of METRICS


def figure(results: Results, column: Column, kind: str) -> Figure | None:
    """Draw a figure of one data set, small networks above large ones.

    Args:
        results: the results.
        column: the data set.
        kind: a key of `FIGURES`.

    Returns:
        The figure; None where no run of a network has ended.
    """
    rows = [_panels(results, column, kind, size) for size in SIZES]
    rows = [row for row in rows if any(panel.points for panel in row)]
    if not rows:
        return None
    grouping, numbers = FIGURES[kind]
    number = numbers.get(column.shape, f"As {' and '.join(numbers.values())}")
    caption = f"{number}: Recall@5 and MRR@5 on {column.label} by {grouping}"
    labels = GROUPS[kind]
    counts = ", ".join(
        f"{label}: {results.group_sizes.get((kind, column.key, group), 0):,}"
        for group, label in labels.items()
    )
    name = f"{kind}_{column.key}"
    return Figure(
        caption=caption,
        name=name,
        svg=plots.draw(name, rows, [*labels.values()], PAPER_NETWORKS),
        alt=f"{caption}. The table below holds its numbers.",
        notes=(
            f"{MEANS[kind].format(counts=counts)} Points: median over the seeds. Bars: from the "
            "smallest seed to the largest. The vertical axes need not start at 0.",
        ),
    )


def figure_table(results: Results, column: Column, kind: str) -> Table:
    """Lay out the numbers of a figure: medians over the seeds, and their range."""
    sections = []
    for size in SIZES:
        lines = []
        for row, name in ROW_SECTIONS[size].items():
            of_row = [
                spread for metric in SHOWN for spread in _groups(results, column, kind, row, metric)
            ]
            if any(of_row):
                lines.append((name, [_median(spread) for spread in of_row]))
        if lines:
            sections.append(Section(size, lines))
    heads = [f"{METRICS[metric]}, {label}" for metric in SHOWN for label in GROUPS[kind].values()]
    caption = f"The numbers of this figure, {column.label}"
    return Table(caption, "Model", [Group(column.label, heads)], sections)


def _panels(results: Results, column: Column, kind: str, size: str) -> list[plots.Panel]:
    panels = []
    for metric in SHOWN:
        points = {m: _groups(results, column, kind, f"{m}_{size}", metric) for m in PAPER_NETWORKS}
        points = {model: of_model for model, of_model in points.items() if any(of_model)}
        panels.append(plots.Panel(size, METRICS[metric], points))
    return panels


def _groups(
    results: Results, column: Column, kind: str, row: str, metric: str
) -> list[Spread | None]:
    return [results.groups.get((kind, column.key, row, group, metric)) for group in GROUPS[kind]]


def _median(spread: Spread | None) -> Cell:
    if spread is None:
        return Cell()
    ends = f"({spread.low:.4f} to {spread.high:.4f})" if spread.n > 1 else ""
    return Cell(f"{spread.median:.4f}", note=ends)
