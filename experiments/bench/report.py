"""The record of the benchmark as a report: a table, figures of the sweeps, and notes on them."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from hrnn_jax.files import atomic

from ..common.text import Spread
from ..rendering import markdown
from ..rendering.plots import LOOKS, Panel, draw
from .peers import compare, table
from .record import HEAD, Row, Sweep, read

TITLE = "What hrnn_jax costs"
NOTES = "benchmark_notes.md"  # written by hand; it ends the report as it is
COMMAND = ".venv/bin/python -m experiments.benchmark"


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
    markdown.write_report(folder / "benchmark.md", TITLE, blocks, ending=ending)
    atomic.write(folder / "benchmark.json", record_file.read_bytes())
    return folder / "benchmark.md"


def compose(record: Mapping[str, Row | Sweep]) -> list[markdown.Block]:
    """Lay out a record's rows and sweeps as a report; other libraries have tables of their own."""
    rows = {name: each for name, each in record.items() if isinstance(each, Row)}
    peers = {name: rows.pop(name) for name in [*rows] if name.startswith(f"{compare.NAME}/")}
    sweeps = {name: each for name, each in record.items() if isinstance(each, Sweep)}
    blocks: list[markdown.Block] = []
    if both := rows | sweeps:
        blocks += _introduction([result.made for result in both.values()])
    if rows:
        blocks.append(_table(rows))
    blocks += table.compose(peers)
    if sweeps:
        blocks.append(markdown.heading("How cost grows"))
        blocks += [_figure(name, sweep) for name, sweep in sweeps.items()]
    return blocks


def _introduction(made: Sequence[Mapping]) -> list[markdown.Block]:
    """Explain the figures and where they were measured."""
    return [
        markdown.paragraph(
            "Each figure is a median, with the lowest and the highest value. A floor is the least "
            "time or memory that the same work can take. It is measured in turns with the work "
            "itself, and the ratio is the median of the turns' ratios: machines are noisy, ratios "
            "less so."
        ),
        markdown.paragraph(_circumstances(made)),
    ]


def _circumstances(made: Sequence[Mapping]) -> str:
    """Describe the machines, their load and their threads."""
    text = f"Measured on {' and '.join(sorted({each['machine'] for each in made}))}."
    if loads := [each["load"] for each in made if each.get("load")]:
        text += f" Load of the machine as each row began: {min(loads)} to {max(loads)}."
    threads = sorted({pair for each in made for pair in each["threads"].items()})
    named = ", ".join(f"{name}={value}" for name, value in threads)
    return text + f" No thread is bound to a core; threads set by the user: {named or 'none'}."


def _table(rows: Mapping[str, Row]) -> markdown.Table:
    heads = (*HEAD[1:-1], "met?", "commit, date, machine")
    cells: dict[str, dict[str, markdown.Cell]] = {head: {} for head in heads}
    for name, row in rows.items():
        made = f"{row.made['commit']}, {row.made['finished'][:10]}, {row.made['machine']}"
        for head, text in zip(heads, (*row.cells()[1:], made), strict=True):
            cells[head][name] = markdown.Cell(text or markdown.DASH)
    return markdown.Table(
        caption="Costs and their floors",
        corner=HEAD[0],
        groups={"": cells},
        sections={"": {name: row.what for name, row in rows.items()}},
        commands=[COMMAND],
        notes=[f"{row.what}: {row.all_notes}." for row in rows.values() if row.all_notes],
    )


def _figure(name: str, sweep: Sweep) -> markdown.Figure:
    file_name = f"benchmark_{name.replace('/', '_')}"
    panels = []
    for label, curves in sweep.panels.items():
        looks = dict(zip(LOOKS, curves, strict=False))
        points = {
            look: [(x, Spread(tuple(values))) for x, values in curves[curve]]
            for look, curve in looks.items()
        }
        axes = {"xscale": "log", "yscale": "log", "xlabel": sweep.x, "ylabel": label}
        panels.append(Panel(points, axes, looks))
    return markdown.Figure(
        caption=sweep.what,
        name=file_name,
        svg=draw(file_name, [panels], {}, size=(0.8 + 3.4 * len(panels), 3.4)),
        alt=f"{sweep.what}: {', '.join(sweep.panels)} by {sweep.x}, both axes logarithmic.",
        commands=[f"{COMMAND} --only={name}"],
        notes=sweep.notes,
    )
