"""Figures 3 to 6: the networks by length of the user's history and by position in the session."""

from __future__ import annotations

from ..common.model_names import PAPER_NETWORKS, SIZES
from ..common.text import Spread
from ..jobs.paper_rows import NETWORKS, figure_rows
from ..rendering.markdown import Cell, Figure, Table
from ..rendering.plots import Panel, draw
from .numbers import HEADLINES, METRICS
from .results import GROUPS, Column, Results

# By kind of figure: what the groups are, and the paper's figure by data set.
FIGURES = {
    "history": ("user history length", {"xing": "Figure 3", "video": "Figure 4"}),
    "position": ("position within the session", {"xing": "Figure 5", "video": "Figure 6"}),
}
# What the means are over, and the column of the CSV file that counts it.
MEANS = {
    "history": (
        "Means over the test sessions of a group, of each session's mean ({}).",
        "sessions",
    ),
    "position": (
        "Means over the test cases of sessions of 5 events or more, by the place of the target in "
        "its session ({}); the first event is never a target.",
        "cases",
    ),
}


FORMS_NOTE = (
    "Small HRNNs by the equations, large ones by the code of 2017, HRNN All with its gates. A "
    "network that did not train has no point."
)


def figure(results: Results, column: Column, kind: str) -> Figure | None:
    """Draw a figure of one data set, small networks above large ones.

    Args:
        results: the results.
        column: the data set.
        kind: a key of `FIGURES`.

    Returns:
        The figure; None where no run of a network has ended.
    """
    panels = [[_panel(results, column, kind, size, m) for m in HEADLINES] for size in SIZES]
    panels = [row for row in panels if any(panel.curves for panel in row)]
    if not panels:
        return None
    grouping, numbers = FIGURES[kind]
    number = numbers.get(column.shape, f"As {' and '.join(numbers.values())}")
    caption = f"{number}: Recall@5 and MRR@5 on {column.label} by {grouping}"
    means, count = MEANS[kind]
    frame = results.frames[kind].filter(column=column.key)
    counts = ", ".join(
        f"{label}: {frame.filter(group=group)[count].max() or 0:,}"
        for group, label in GROUPS[kind].items()
    )
    name = f"{kind}_{column.key}"
    return Figure(
        caption=caption,
        name=name,
        svg=draw(name, panels, PAPER_NETWORKS, size=(4.8, 0.8 + 1.8 * len(panels))),
        alt=f"{caption}. The table below holds its numbers.",
        notes=(
            f"{means.format(counts)} Points: median over the seeds. Bars: from the "
            "smallest seed to the largest. The vertical axes need not start at 0.",
            FORMS_NOTE,
        ),
    )


def figure_table(results: Results, column: Column, kind: str) -> Table:
    """Lay out the numbers of a figure: medians over the seeds, and their range."""
    sections = {
        size: {row: NETWORKS[row].name for row in figure_rows(size).values()} for size in SIZES
    }
    heads = {
        f"{name}, {label}": {
            row: _median(spread)
            for rows in sections.values()
            for row in rows
            if (spread := results.spreads[kind].get((column.key, row, metric, group)))
        }
        for metric, name in HEADLINES.items()
        for group, label in GROUPS[kind].items()
    }
    caption = f"The numbers of this figure, {column.label}"
    return Table(caption=caption, corner="Model", groups={column.label: heads}, sections=sections)


def _panel(results: Results, column: Column, kind: str, size: str, metric: str) -> Panel:
    """Return the points of the networks of one size next to each other in each group."""
    labels = [*GROUPS[kind].values()]
    curves: dict[str, list[tuple[float, Spread]]] = {}
    rows = figure_rows(size)
    for n, network in enumerate(PAPER_NETWORKS):
        shift = 0.12 * (n - (len(PAPER_NETWORKS) - 1) / 2)
        for place, group in enumerate(GROUPS[kind]):
            key = (column.key, rows[network], metric, group)
            if spread := results.spreads[kind].get(key):
                curves.setdefault(network, []).append((place + shift, spread))
    axes = {
        "title": f"{METRICS[metric]}, {size}",
        "xticks": range(len(labels)),
        "xticklabels": labels,
        "xlim": (-0.5, len(labels) - 0.5),
    }
    return Panel(curves, axes)


def _median(spread: Spread) -> Cell:
    ends = f"({spread.low:.4f} to {spread.high:.4f})" if spread.n > 1 else ""
    return Cell(f"{spread.median:.4f}", note=ends)
