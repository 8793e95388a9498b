"""Figures as SVG. Their colours follow the reader's choice of a light or dark page, and of print.

Figures are drawn in stand-in colours, which are then replaced by CSS variables. The same data give
the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib import figure, lines, text, ticker, transforms

from ..common.text import Spread


class Look(NamedTuple):
    """How a network is drawn; marker and dashes tell networks apart without colours as well."""

    light: str
    dark: str
    marker: str
    dashes: str


LOOKS = {
    "rnn": Look("#5b5b5b", "#b8b8b8", "o", ":"),
    "rnn_concat": Look("#9a5b00", "#f0a841", "s", "-."),
    "hrnn_all": Look("#0b6e4f", "#4cc9a0", "^", "--"),
    "hrnn_init": Look("#1f4fbf", "#8ab4ff", "D", "-"),
    "hrnn_plus": Look("#b3261e", "#ff8a80", "v", "-"),
}
COUNTING = "counting"  # a method without training, in figures of points
LOOKS_OF_POINTS = LOOKS | {COUNTING: Look("#5e35b1", "#b39ddb", "P", "")}
PALETTE = {  # colours on a light and on a dark page
    "page": ("#ffffff", "#14171a"),
    "ink": ("#1c2024", "#e6e9ec"),
    "line": ("#d5dade", "#343b42"),
    **{network: (look.light, look.dark) for network, look in LOOKS_OF_POINTS.items()},
}
# Of a point's name, in points from it: the nearest first.
_NAME_PLACES = [
    (x, y)
    for distance in range(5)
    for y in (4 + 10 * distance, -11 - 10 * distance)
    for x in (5, -5)
]
_STAND_INS = {name: f"#0102{n:02x}" for n, name in enumerate(PALETTE, start=1)}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes with its curves: medians, with bars from the lowest value to the highest.

    Horizontal axes count in whole numbers where `axes` has neither ticks nor a scale.
    """

    curves: Mapping[str, Sequence[tuple[float, Spread]]]  # by network (a key of LOOKS): (x, values)
    axes: Mapping[str, Any]  # the title, labels, ticks, limits and scales, as matplotlib names them
    labels: Mapping[str, str] | None = None  # of the curves, in a legend of this panel's own


def draw(
    name: str,
    rows: Sequence[Sequence[Panel]],
    legend: Mapping[str, str],
    *,
    size: tuple[float, float],
    legend_columns: int = 4,
) -> str:
    """Draw a figure.

    Args:
        name: of the figure.
        rows: panels next to and below each other; those of a column have one vertical scale, and
            all have one horizontal scale.
        legend: the networks' names, below all panels; empty for none.
        size: the width and height in inches.
        legend_columns: how many names stand next to each other.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(_style(name)):
        page = _STAND_INS["page"]
        canvas = figure.Figure(figsize=size, facecolor=page, layout="constrained")
        axes = canvas.subplots(len(rows), len(rows[0]), squeeze=False, sharey="col", sharex=True)
        for panel, ax in zip(itertools.chain(*rows), axes.flat, strict=True):
            _draw_panel(panel, ax)
        if legend:
            canvas.legend(
                handles=_handles(legend),
                loc="outside lower center",
                ncols=legend_columns,
                frameon=False,
                handlelength=2.2,
                columnspacing=1.2,
            )
        return _to_svg(canvas)


class Point(NamedTuple):
    """A model in a figure of points."""

    look: str  # a key of LOOKS_OF_POINTS
    x: float
    y: Spread


def scatter(
    name: str,
    panels: Mapping[str, Mapping[str, Point]],
    labels: tuple[str, str],
    *,
    size: tuple[float, float],
) -> str:
    """Draw points with their names, over a logarithmic horizontal axis.

    Args:
        name: of the figure.
        panels: the points by name, by the panel's title; two panels next to each other.
        labels: of the axes.
        size: the width and height in inches.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(_style(name)):
        canvas = figure.Figure(figsize=size, facecolor=_STAND_INS["page"], layout="constrained")
        n_rows = -(-len(panels) // 2)
        axes = canvas.subplots(n_rows, min(len(panels), 2), squeeze=False).flat
        names: list[Any] = []
        # The panels first: zip would take one of the axes more before it found no panel left.
        for (title, points), ax in zip(panels.items(), axes, strict=False):
            for label, (look, x, y) in points.items():
                color = _STAND_INS[look]
                ax.plot(
                    [x], [y.median], color=color, marker=LOOKS_OF_POINTS[look].marker, markersize=6
                )
                ax.vlines(x, y.low, y.high, color=color, linewidth=1.6)
                line = {"arrowstyle": "-", "linewidth": 0.5, "color": color, "shrinkA": 0}
                at = {"textcoords": "offset points", "arrowprops": line, "xytext": (0, 0)}
                names.append(ax.annotate(label, (x, y.median), **at, fontsize=8, color=color))
            ax.set(title=title, xlabel=labels[0], ylabel=labels[1], xscale="log")
            ax.margins(0.15)  # room for names
            ax.set_ylim(0, None)
            ax.xaxis.set_major_formatter(lambda value, _: _with_letter(value))
            ax.minorticks_off()
            ax.grid()
            ax.set_axisbelow(True)
        for ax in axes:  # an odd number of panels leaves one empty
            ax.remove()
        canvas.draw_without_rendering()  # which lays it out
        _keep_apart(names)
        return _to_svg(canvas)


def _keep_apart(names: Sequence[Any]) -> None:
    """Put each name inside its axes where it covers no other one and no point, if there is room.

    Args:
        names: the annotations of points, laid out.
    """
    points = [name.axes.transData.transform(name.xy) for name in names]
    taken = [transforms.Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
    for name in names:
        inside, covered = name.axes.get_window_extent(), {}
        for place in _NAME_PLACES:
            box = _put(name, place)
            is_inside = all(inside.contains(x, y) for x, y in (box.min, box.max))
            covered[place] = sum(box.overlaps(other) for other in taken) + (not is_inside)
            if not covered[place]:
                break
        place = min(covered, key=covered.__getitem__)
        taken.append(_put(name, place))
        name.arrow_patch.set_visible(place not in _NAME_PLACES[:4])  # a line to a distant point


def _put(name: Any, place: tuple[int, int]) -> transforms.Bbox:
    """Move a name to a place of `_NAME_PLACES`, and return the box of its text."""
    name.set(position=place, horizontalalignment="left" if place[0] > 0 else "right")
    return text.Text.get_window_extent(name)  # without the line


def _draw_panel(panel: Panel, ax: Any) -> None:
    for network, points in panel.curves.items():
        ax.plot([x for x, _ in points], [spread.median for _, spread in points], **_line(network))
        for x, spread in points:
            if spread.low < spread.high:
                color = _STAND_INS[network]
                ax.vlines(x, spread.low, spread.high, color=color, linewidth=1.6)
    ax.set(**panel.axes)
    if panel.axes.get("xscale") == "log":
        places = sorted({x for points in panel.curves.values() for x, _ in points})
        ax.xaxis.set_major_locator(ticker.FixedLocator(places))
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: _with_letter(value))
        ax.minorticks_off()
        ax.grid()
    else:
        ax.grid(axis="y")
        if "xticks" in panel.axes:
            ax.tick_params(length=0)
        else:
            ax.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8, integer=True))
    ax.set_axisbelow(True)
    if panel.labels:
        ax.legend(handles=_handles(panel.labels), frameon=False, fontsize=9)


def _handles(labels: Mapping[str, str]) -> list[lines.Line2D]:
    return [lines.Line2D([], [], **_line(key), label=label) for key, label in labels.items()]


def _with_letter(value: float) -> str:
    """Format 33,000,000 as 33M; matplotlib's EngFormatter would format 0.5 as 500m."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _line(network: str) -> dict[str, Any]:
    return {
        "color": _STAND_INS[network],
        "marker": LOOKS[network].marker,
        "markersize": 5,
        "linestyle": LOOKS[network].dashes,
        "linewidth": 1,
    }


def _style(name: str) -> dict[Any, Any]:
    ink = _STAND_INS["ink"]
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 10,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": _STAND_INS["line"],
    }


def _to_svg(canvas: figure.Figure) -> str:
    """Write a figure as SVG for a page: unique ids, the page's font, colours as CSS variables."""
    buffer = io.StringIO()
    canvas.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # two figures of a page would have the same ids
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    if_used = ("hrnn_plus", COUNTING)
    drawn = [name for name in PALETTE if name not in if_used or _STAND_INS[name] in svg]
    for name, stand_in in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    light, dark = ("".join(f"--{name}: {PALETTE[name][n]}; " for name in drawn) for n in (0, 1))
    theme = (
        f"<style>.drawing {{ {light}stroke-linejoin: round; stroke-linecap: butt }} "
        f"@media screen and (prefers-color-scheme: dark) {{ .drawing {{ {dark}}} }}</style>"
    )
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", theme, svg, count=1, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg class="drawing" ', 1)
