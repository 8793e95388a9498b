"""The record of the benchmark as a report: a table, figures of the sweeps, and notes on them."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax import atomic

from ..common.spread import Spread
from ..rendering import plots
from ..rendering.files import write_report
from ..rendering.markdown import (
    DASH,
    Block,
    Cell,
    Figure,
    Group,
    Heading,
    Section,
    Table,
    Text,
)
from . import measures
from .measures import Row, Sweep

TITLE = "What hrnn_jax costs"
NOTES = "benchmark_notes.md"  # by hand, beside the report that takes it in as it is
COMMAND = "python -m experiments.benchmark"


def write(record_file: pathlib.Path, folder: pathlib.Path, *, order: Sequence[str]) -> pathlib.Path:
    """Write benchmark.md, benchmark.json and figures/benchmark_*.svg; return the first.

    order: what is measured, which is the first part of a name in the record.
    """
    record = measures.read(record_file)
    names = sorted(record, key=lambda name: _place(name, order))
    entries = {name: record[name] for name in names}
    blocks = compose(entries)
    notes = folder / NOTES
    ending = "\n" + notes.read_text() if notes.exists() else ""
    write_report(folder / "benchmark.md", TITLE, blocks, ending=ending)
    kept = folder / "benchmark.json"
    if not kept.exists() or not kept.samefile(record_file):
        atomic.write(kept, lambda beside: shutil.copyfile(record_file, beside))
    return folder / "benchmark.md"


def _place(name: str, order: Sequence[str]) -> int:
    task = name.partition("/")[0]
    return order.index(task) if task in order else len(order)


def compose(entries: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """Lay out a record's entries."""
    rows: dict[str, Row] = {}
    sweeps: dict[str, Sweep] = {}
    for name, entry in entries.items():
        match measures.parse(entry):
            case Row() as row:
                rows[name] = row
            case Sweep() as sweep:
                sweeps[name] = sweep
    blocks: list[Block] = [
        Text(
            "Each figure is a median, with the least and the greatest. Where there is a floor, "
            "the least that the same work can cost, it was measured in turns with its subject, and "
            "the ratio is the median of the turns' ratios: machines are noisy, ratios less so."
        ),
        Text(_circumstances(entries)),
    ]
    if rows:
        blocks.append(_table(rows, entries))
    if sweeps:
        blocks.append(Heading("How cost grows"))
        blocks += [_figure(name, sweep) for name, sweep in sweeps.items()]
    return blocks


def _circumstances(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say where the figures are from."""
    machines = sorted({entry["made"]["machine"] for entry in entries.values()})
    loads = [entry["made"]["load"] for entry in entries.values() if entry["made"].get("load")]
    text = f"Measured on {' and '.join(machines)}."
    if loads:
        text += f" Load of the machine as each row began: {min(loads)} to {max(loads)}."
    set_ = {pair for entry in entries.values() for pair in entry["made"]["threads"].items()}
    named = ", ".join(f"{name}={value}" for name, value in sorted(set_))
    return text + f" Nothing is pinned; threads set from outside: {named or 'none'}."


def _table(rows: Mapping[str, Row], entries: Mapping[str, Mapping[str, Any]]) -> Table:
    lines = []
    for name, row in rows.items():
        what, *rest = measures.cells(row)
        made = entries[name]["made"]
        rest += [f"{made['commit']}, {made['finished'][:10]}"]
        lines.append((what, [Cell(text or DASH) for text in rest]))
    heads = [*measures.HEAD[1:-1], "met?", "commit, date"]
    notes = [f"{row.what}: {said}." for row in rows.values() if (said := measures.notes_of(row))]
    return Table(
        "Subjects beside their floors",
        "what",
        [Group("", heads, words=True)],
        [Section("", lines)],
        commands=[COMMAND],
        notes=notes,
    )


def _figure(name: str, sweep: Sweep) -> Figure:
    drawn = f"benchmark_{name.replace('/', '_')}"
    panels = {
        label: {
            curve: [(x, Spread(tuple(values))) for x, values in points]
            for curve, points in curves.items()
        }
        for label, curves in sweep.panels.items()
    }
    return Figure(
        caption=sweep.what,
        name=drawn,
        svg=plots.curves(drawn, sweep.x, panels),
        alt=f"{sweep.what}: {', '.join(panels)} by {sweep.x}, both axes logarithmic.",
        commands=[f"{COMMAND} --only={name}"],
        notes=sweep.notes,
    )
