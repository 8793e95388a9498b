"""Write comparison.md and its figures beside the CSV files of a tuned comparison, of them alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

import polars as pl

from hrnn_jax import errors

from ..paper import results, sections
from ..paper.results import Findings
from ..rendering.files import write_report
from ..rendering.markdown import (
    Block,
    Bullets,
    Code,
    Heading,
    Text,
)
from . import exhibits

TITLE = "A tuned comparison of hrnn_plus with every other model"
_TEXT, _WHOLE, _REAL = pl.String, pl.Int64, pl.Float64
FILES = {name: results.FILES[name] for name in ("data", "runs", "scores", "significance")} | {
    "chosen": (
        {"column": _TEXT, "row": _TEXT, "key": _TEXT},
        {"trials": _WHOLE, "value": _REAL, "setting": _TEXT},
    ),
    "curves": (
        {"column": _TEXT, "row": _TEXT, "seed": _WHOLE, "epoch": _WHOLE, "metric": _TEXT},
        {"value": _REAL},
    ),
}


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write comparison.md and figures/; return its path. Raises InputError for a wrong CSV file."""
    found, chosen, curves = read(folder)
    blocks = compose(found, chosen, curves)
    write_report(folder / "comparison.md", TITLE, blocks)
    return folder / "comparison.md"


def read(folder: pathlib.Path) -> tuple[Findings, exhibits.Chosen, exhibits.Curves]:
    """Read a results folder. Raises InputError that names the file and what is wrong in it."""
    frames = {name: results.read_csv(folder / f"{name}.csv", *FILES[name]) for name in FILES}
    columns = results.read_columns(folder / "data.csv", frames["data"])
    for name, frame in frames.items():
        results.check(folder / f"{name}.csv", frame, {"column": columns})
    if frames["scores"].is_empty():
        raise errors.InputError(f"{folder / 'scores.csv'} holds no scores: no run has ended")
    found = Findings(
        columns=columns,
        hyper={},
        runs=tuple(frames["runs"].iter_rows(named=True)),
        failed=(),
        scores=results.spreads(frames["scores"], ("column", "row", "metric", "cutoff"), "value"),
        groups={},
        sizes={},
        p_values=results.p_values(frames["significance"]),
    )
    chosen: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for line in frames["chosen"].iter_rows(named=True):
        chosen.setdefault((line["column"], line["row"]), []).append(line)
    curves: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    means = results.spreads(frames["curves"], ("column", "metric", "row", "epoch"), "value")
    for (column, metric, row, epoch), spread in means.items():
        curves.setdefault((column, metric, row), []).append((epoch, spread.mean))
    return found, chosen, curves


def compose(found: Findings, chosen: exhibits.Chosen, curves: exhibits.Curves) -> list[Block]:
    """Put the report together."""
    columns = [*found.columns.values()]
    commands = [*dict.fromkeys(column.command for column in columns)]
    sources = [sections.source(found, column, exhibits.rows(found)) for column in columns]
    blocks: list[Block] = [Text(exhibits.INTRODUCTION)]
    if simulated := [column.name for column in columns if column.simulated]:
        text = f"SIMULATED events: {', '.join(simulated)}. They say nothing about the world."
        blocks.append(Text(text, warning=True))
    quality = exhibits.quality(found)
    blocks += [
        Heading("Recommendation quality"),
        dataclasses.replace(quality, commands=commands, notes=(*quality.notes, *sources)),
        Bullets({c.label: exhibits.verdict(found, c) for c in columns}),
        Heading("What was chosen"),
        exhibits.settings(found, chosen),
    ]
    if exhibits.ablated(found):
        blocks += [Heading("Ablation"), exhibits.ablation(found)]
    blocks += [Heading("Cost"), exhibits.cost(found)]
    drawn = [figure for c in columns if (figure := exhibits.learning(c, curves))]
    return [
        *blocks,
        *([Heading("Learning curves"), *drawn] if drawn else []),
        Heading("How to reproduce"),
        Text("All of it; then its report again, from the CSV files alone:"),
        Code([*commands, "make comparison-table FROM=out/comparison/results"]),
    ]
