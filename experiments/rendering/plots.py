"""Figures 3 to 6 and the benchmark's as SVG whose colours follow the page: light, dark, print."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import figure, lines, ticker

from ..common.spread import Spread

# Drawn in colours that stand for one of these, light and dark. Told apart without them too.
PALETTE = {
    "page": ("#ffffff", "#14171a"),
    "ink": ("#1c2024", "#e6e9ec"),
    "line": ("#d5dade", "#343b42"),
    "rnn": ("#5b5b5b", "#b8b8b8"),
    "rnn_concat": ("#9a5b00", "#f0a841"),
    "hrnn_all": ("#0b6e4f", "#4cc9a0"),
    "hrnn_init": ("#1f4fbf", "#8ab4ff"),
}
BEYOND = {"hrnn_plus": ("#b3261e", "#ff8a80")}  # where the paper's networks are not alone
_STANDS_FOR = {name: f"#0102{n:02x}" for n, name in enumerate(PALETTE | BEYOND, start=1)}
_MARKERS = {"rnn": "o", "rnn_concat": "s", "hrnn_all": "^", "hrnn_init": "D"}
_DASHES = {"rnn": ":", "rnn_concat": "-.", "hrnn_all": "--", "hrnn_init": "-"}
_LOOKS = {  # marker, dashes
    **{network: (_MARKERS[network], _DASHES[network]) for network in _MARKERS},
    "hrnn_plus": ("v", "-"),
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes: for each network a point a group, None where there is none."""

    title: str
    metric: str
    points: Mapping[str, Sequence[Spread | None]]


def draw(
    name: str, rows: Sequence[Sequence[Panel]], groups: Sequence[str], labels: Mapping[str, str]
) -> str:
    """Draw panels in rows, panels below each other on one scale; the same bytes for the same data.

    labels: what each network is called in the legend.
    """
    with matplotlib.rc_context(_style(name)):
        canvas = figure.Figure(
            figsize=(4.8, 0.8 + 1.8 * len(rows)),
            facecolor=_STANDS_FOR["page"],
            layout="constrained",
        )
        axes = canvas.subplots(len(rows), len(rows[0]), squeeze=False, sharey="col", sharex=True)
        for row, row_axes in zip(rows, axes, strict=True):
            for panel, ax in zip(row, row_axes, strict=True):
                _draw_panel(panel, ax, groups)
        _legend(canvas, labels, ncols=4)
        return _saved(canvas)


def epochs(
    name: str,
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    labels: Mapping[str, str],
) -> str:
    """Draw learning curves side by side, by their metrics: for each network, values by epoch.

    labels: what each network is called in the legend.
    """
    with matplotlib.rc_context(_style(name)):
        canvas, row = _beside(len(panels), width=3.0)
        for (metric, named), ax in zip(panels.items(), row, strict=True):
            for network, points in named.items():
                ax.plot(*zip(*points, strict=True), **_look(network))
            ax.set(title=metric, xlabel="epoch", ylim=(0, None))
            ax.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8, integer=True))
            ax.grid(axis="y")
            ax.set_axisbelow(True)
        _legend(canvas, labels, ncols=3)
        return _saved(canvas)


def _beside(n: int, *, width: float) -> tuple[figure.Figure, Any]:
    """Make a canvas of n axes side by side, each `width` inches wide."""
    canvas = figure.Figure(
        figsize=(0.8 + width * n, 3.4), facecolor=_STANDS_FOR["page"], layout="constrained"
    )
    [row] = canvas.subplots(1, n, squeeze=False)
    return canvas, row


def _legend(canvas: figure.Figure, labels: Mapping[str, str], *, ncols: int) -> None:
    canvas.legend(
        handles=[
            lines.Line2D([], [], **_look(network), label=label) for network, label in labels.items()
        ],
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.2,
    )


def curves(
    name: str, x: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, Spread]]]]
) -> str:
    """Draw curves over x side by side, by their vertical axes, both axes logarithmic."""
    with matplotlib.rc_context(_style(name)):
        canvas, row = _beside(len(panels), width=3.4)
        for (label, named), ax in zip(panels.items(), row, strict=True):
            xs: list[float] = []
            for look, (curve, points) in zip(_MARKERS, named.items(), strict=False):
                xs = [at for at, _ in points]
                ax.plot(xs, [point.median for _, point in points], label=curve, **_look(look))
                for at, point in points:
                    ax.vlines(at, point.low, point.high, color=_STANDS_FOR[look], linewidth=1.6)
            ax.set(xscale="log", yscale="log", xlabel=x, ylabel=label)
            ax.set_xticks(xs, [_short(at) for at in xs])
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(lambda value, _: _short(value))
            ax.minorticks_off()
            ax.grid()
            ax.set_axisbelow(True)
            ax.legend(frameon=False, fontsize=9)
        return _saved(canvas)


def _short(value: float) -> str:
    """Write 33,000,000 as 33M."""
    for one, letter in ((1e6, "M"), (1e3, "k")):
        if value >= one:
            return f"{value / one:.3g}{letter}"
    return f"{value:.3g}"


def _style(name: str) -> dict:
    ink, faint = _STANDS_FOR["ink"], _STANDS_FOR["line"]
    return {
        **{"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"},
        **{"font.size": 10, "axes.titlesize": 10, "axes.facecolor": "none", "grid.color": faint},
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), ink),
        **dict.fromkeys(("text.color", "xtick.color", "ytick.color"), ink),
        **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    }


def _saved(canvas: figure.Figure) -> str:
    written = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(written, format="svg", metadata=metadata)
    return _themed(written.getvalue())


def _look(network: str) -> dict:
    return {
        **{"color": _STANDS_FOR[network], "marker": _LOOKS[network][0], "markersize": 5},
        **{"linestyle": _LOOKS[network][1], "linewidth": 1},
    }


def _draw_panel(panel: Panel, ax, groups: Sequence[str]) -> None:
    for n, network in enumerate(_MARKERS):
        shift = 0.12 * (n - (len(_MARKERS) - 1) / 2)
        found = [
            (place + shift, point)
            for place, point in enumerate(panel.points.get(network, ()))
            if point is not None
        ]
        if not found:
            continue
        ax.plot([x for x, _ in found], [point.median for _, point in found], **_look(network))
        for x, point in found:
            if point.low < point.high:
                ax.vlines(x, point.low, point.high, color=_STANDS_FOR[network], linewidth=1.6)
    ax.set_title(f"{panel.metric}, {panel.title}")
    ax.set_xticks(range(len(groups)), groups)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    ax.tick_params(length=0)


def _themed(svg: str) -> str:
    """Drop what only a file of its own needs, and let the colours follow the reader's."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # in a page they would name two things alike
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    palette = PALETTE | {name: c for name, c in BEYOND.items() if _STANDS_FOR[name] in svg}
    for name, stand_in in _STANDS_FOR.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    light, dark = (
        "".join(f"--{name}: {colours[n]}; " for name, colours in palette.items()) for n in (0, 1)
    )
    theme = (
        f"<style>.drawing {{ {light}stroke-linejoin: round; stroke-linecap: butt }} "
        f"@media screen and (prefers-color-scheme: dark) {{ .drawing {{ {dark}}} }}</style>"
    )
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", theme, svg, count=1, flags=re.DOTALL)
    return svg.replace("<svg ", '<svg class="drawing" ', 1)
