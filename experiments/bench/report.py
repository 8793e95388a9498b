"""The record of the benchmark as a report: a table, figures of the sweeps, and notes on them."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping, Sequence

from hrnn_jax import atomic

from ..common.text import Spread
from ..rendering.markdown import (
    DASH,
    Block,
    Cell,
    Figure,
    Table,
    heading,
    paragraph,
    write_report,
)
from ..rendering.plots import LOOKS, Panel, draw
from .record import HEAD, Entry, Row, Sweep, read

TITLE = "What hrnn_jax costs"
NOTES = "benchmark_notes.md"  # written by hand; it ends the report as it is
COMMAND = "python -m experiments.benchmark"


def write(record_file: pathlib.Path, folder: pathlib.Path, *, order: Sequence[str]) -> pathlib.Path:
    """Write benchmark.md, benchmark.json and figures/benchmark_*.svg.

    Args:
        record_file: The record to report.
        folder: Where to write.
        order: The tasks in the order of the report; a name in the record begins with one of them.

    Returns:
        The path of benchmark.md.
    """
    record = read(record_file)
    places = {task: place for place, task in enumerate(order)}
    names = sorted(record, key=lambda name: places.get(name.partition("/")[0], len(order)))
    blocks = compose({name: record[name] for name in names})
    notes = folder / NOTES
    ending = "\n" + notes.read_text() if notes.exists() else ""
    write_report(folder / "benchmark.md", TITLE, blocks, ending=ending)
    kept = folder / "benchmark.json"
    if not kept.exists() or not kept.samefile(record_file):
        atomic.write(kept, lambda beside: shutil.copyfile(record_file, beside))
    return folder / "benchmark.md"


def compose(record: Mapping[str, Entry]) -> list[Block]:
    """Lay out a record's rows and sweeps as a report."""
    blocks: list[Block] = [
        paragraph(
            "Each figure is a median, with the lowest and the highest value. A floor is the least "
            "time or memory that the same work can take. It is measured in turns with the work "
            "itself, and the ratio is the median of the turns' ratios: machines are noisy, ratios "
            "less so."
        ),
        paragraph(_circumstances(record)),
    ]
    if rows := {k: e.result for k, e in record.items() if isinstance(e.result, Row)}:
        blocks.append(_table(rows, record))
    if sweeps := {k: e.result for k, e in record.items() if isinstance(e.result, Sweep)}:
        blocks.append(heading("How cost grows"))
        blocks += [_figure(name, sweep) for name, sweep in sweeps.items()]
    return blocks


def _circumstances(record: Mapping[str, Entry]) -> str:
    """Describe the machines, their load and their threads."""
    made = [entry.made for entry in record.values()]
    text = f"Measured on {' and '.join(sorted({each['machine'] for each in made}))}."
    if loads := [each["load"] for each in made if each.get("load")]:
        text += f" Load of the machine as each row began: {min(loads)} to {max(loads)}."
    threads = sorted({pair for each in made for pair in each["threads"].items()})
    named = ", ".join(f"{name}={value}" for name, value in threads)
    return text + f" No thread is bound to a core; threads set by the user: {named or 'none'}."


def _table(rows: Mapping[str, Row], record: Mapping[str, Entry]) -> Table:
    cells: dict[str, dict[str, Cell]] = {head: {} for head in (*HEAD[1:-1], "met?", "commit, date")}
    names = {}
    for key, row in rows.items():
        names[key], *rest = row.cells()
        made = record[key].made
        rest.append(f"{made['commit']}, {made['finished'][:10]}")
        for of_head, text in zip(cells.values(), rest, strict=True):
            of_head[key] = Cell(text or DASH)
    return Table(
        caption="Costs and their floors",
        corner=HEAD[0],
        groups={"": cells},
        sections={"": names},
        commands=[COMMAND],
        notes=[f"{row.what}: {row.all_notes}." for row in rows.values() if row.all_notes],
    )


def _figure(name: str, sweep: Sweep) -> Figure:
    file_name = f"benchmark_{name.replace('/', '_')}"
    panels = [_panel(sweep.x, label, curves) for label, curves in sweep.panels.items()]
    return Figure(
        caption=sweep.what,
        name=file_name,
        svg=draw(file_name, [panels], {}, size=(0.8 + 3.4 * len(panels), 3.4)),
        alt=f"{sweep.what}: {', '.join(sweep.panels)} by {sweep.x}, both axes logarithmic.",
        commands=[f"{COMMAND} --only={name}"],
        notes=sweep.notes,
    )


def _panel(x: str, y: str, curves: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> Panel:
    """Return the curves of a sweep, which are given by name, on logarithmic axes."""
    looks = dict(zip(LOOKS, curves, strict=False))
    points = {
        look: [(place, Spread(tuple(values))) for place, values in curves[name]]
        for look, name in looks.items()
    }
    return Panel(points, {"xscale": "log", "yscale": "log", "xlabel": x, "ylabel": y}, looks)
