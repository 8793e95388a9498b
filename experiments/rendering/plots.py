"""Figures as SVG. Their colours follow the reader's choice of a light or dark page, and of print.

Figures are drawn in stand-in colours, which are then replaced by CSS variables. The same data give
the same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib import figure, lines, ticker

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
PAPER = tuple(LOOKS)[:4]  # the paper's networks
PALETTE = {  # colours on a light and on a dark page
    "page": ("#ffffff", "#14171a"),
    "ink": ("#1c2024", "#e6e9ec"),
    "line": ("#d5dade", "#343b42"),
    **{network: (look.light, look.dark) for network, look in LOOKS.items()},
}
_STAND_INS = {name: f"#0102{n:02x}" for n, name in enumerate(PALETTE, start=1)}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes: for each network a value of each group, None where there is none."""

    title: str
    metric: str
    points: Mapping[str, Sequence[Spread | None]]


def draw(
    name: str, rows: Sequence[Sequence[Panel]], groups: Sequence[str], labels: Mapping[str, str]
) -> str:
    """Draw medians by group, with bars from the smallest value to the largest.

    Args:
        name: of the figure.
        rows: panels next to and below each other; those of a column have one scale.
        groups: labels of the horizontal axes.
        labels: the networks' names in the legend.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(_style(name)):
        canvas = _canvas(4.8, 0.8 + 1.8 * len(rows))
        axes = canvas.subplots(len(rows), len(rows[0]), squeeze=False, sharey="col", sharex=True)
        for row, row_axes in zip(rows, axes, strict=True):
            for panel, ax in zip(row, row_axes, strict=True):
                _draw_panel(panel, ax, groups)
        _add_legend(canvas, labels, ncols=4)
        return _to_svg(canvas)


def _draw_panel(panel: Panel, ax: Any, groups: Sequence[str]) -> None:
    for n, network in enumerate(PAPER):
        shift = 0.12 * (n - (len(PAPER) - 1) / 2)
        points = [
            (place + shift, spread)
            for place, spread in enumerate(panel.points.get(network, ()))
            if spread is not None
        ]
        if points:
            ax.plot([x for x, _ in points], [s.median for _, s in points], **_line(network))
        for x, spread in points:
            if spread.low < spread.high:
                _draw_bar(ax, x, spread, network)
    ax.set_title(f"{panel.metric}, {panel.title}")
    ax.set_xticks(range(len(groups)), groups)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    ax.tick_params(length=0)


def epochs(
    name: str,
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    labels: Mapping[str, str],
) -> str:
    """Draw learning curves, a panel for each metric next to each other.

    Args:
        name: of the figure.
        panels: by metric, then by network: (epoch, value).
        labels: the networks' names in the legend.

    Returns:
        SVG.
    """
    with matplotlib.rc_context(_style(name)):
        canvas = _canvas(0.8 + 3.0 * len(panels), 3.4)
        [row] = canvas.subplots(1, len(panels), squeeze=False)
        for (metric, networks), ax in zip(panels.items(), row, strict=True):
            for network, points in networks.items():
                ax.plot([x for x, _ in points], [y for _, y in points], **_line(network))
            ax.set(title=metric, xlabel="epoch", ylim=(0, None))
            ax.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8, integer=True))
            ax.grid(axis="y")
            ax.set_axisbelow(True)
        _add_legend(canvas, labels, ncols=3)
        return _to_svg(canvas)


def curves(
    name: str, x: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, Spread]]]]
) -> str:
    """Draw medians over x with bars, both axes logarithmic; panels next to each other.

    Args:
        name: of the figure.
        x: the label of the horizontal axes.
        panels: by label of the vertical axis, then by name of the curve: (x, values).

    Returns:
        SVG.
    """
    with matplotlib.rc_context(_style(name)):
        canvas = _canvas(0.8 + 3.4 * len(panels), 3.4)
        [row] = canvas.subplots(1, len(panels), squeeze=False)
        for (label, by_name), ax in zip(panels.items(), row, strict=True):
            places: list[float] = []
            for look, (curve, points) in zip(PAPER, by_name.items(), strict=False):
                places = [place for place, _ in points]
                ax.plot(places, [s.median for _, s in points], label=curve, **_line(look))
                for place, spread in points:
                    _draw_bar(ax, place, spread, look)
            ax.set(xscale="log", yscale="log", xlabel=x, ylabel=label)
            ax.set_xticks(places, [_with_letter(place) for place in places])
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(lambda value, _: _with_letter(value))
            ax.minorticks_off()
            ax.grid()
            ax.set_axisbelow(True)
            ax.legend(frameon=False, fontsize=9)
        return _to_svg(canvas)


def _with_letter(value: float) -> str:
    """Format 33,000,000 as 33M; matplotlib's EngFormatter would format 0.5 as 500m."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _canvas(width: float, height: float) -> figure.Figure:
    page = _STAND_INS["page"]
    return figure.Figure(figsize=(width, height), facecolor=page, layout="constrained")


def _line(network: str) -> dict[str, Any]:
    return {
        "color": _STAND_INS[network],
        "marker": LOOKS[network].marker,
        "markersize": 5,
        "linestyle": LOOKS[network].dashes,
        "linewidth": 1,
    }


def _draw_bar(ax: Any, x: float, spread: Spread, network: str) -> None:
    ax.vlines(x, spread.low, spread.high, color=_STAND_INS[network], linewidth=1.6)


def _add_legend(canvas: figure.Figure, labels: Mapping[str, str], *, ncols: int) -> None:
    canvas.legend(
        handles=[lines.Line2D([], [], **_line(key), label=label) for key, label in labels.items()],
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.2,
    )


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
    drawn = [name for name in PALETTE if name != "hrnn_plus" or _STAND_INS[name] in svg]
    for name, stand_in in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    light, dark = ("".join(f"--{name}: {PALETTE[name][n]}; " for name in drawn) for n in (0, 1))
    theme = (
        f"<style>.drawing {{ {light}stroke-linejoin: round; stroke-linecap: butt }} "
        f"@media screen and (prefers-color-scheme: dark) {{ .drawing {{ {dark}}} }}</style>"
    )
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", theme, svg, count=1, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg class="drawing" ', 1)
