"""Run folders -> the CSV files that experiments.report reads. Nothing here trains or ranks.

data.csv          column, key, value: Tables 1 and 4, and a description of the data
hyper.csv         column, row, key, value: the settings of the runs                       Table 2
runs.csv          a line per finished run: cases, epochs, speed, commit, machine, time, cpu or
                  gpu (device), and where --stop_above_loss stopped it
failed.csv        column, row, seed, reason
chosen.csv        column, row, trials, value, key, setting: the best trial of each search
scores.csv        column, row, seed, metric, cutoff, value                            Tables 3, 5
history.csv       column, row, seed, group, sessions, recall, mrr                    Figures 3, 4
position.csv      column, row, seed, group, cases, recall, mrr                       Figures 5, 6
significance.csv  column, metric, a, b, cases, statistic, p                         Table 3

A column is a data set, a row is a model with its settings; `queries` has what is computed.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hrnn_jax.config import ModelConfig, settings
from hrnn_jax.files import atomic
from hrnn_jax.files.recipe_formats import upgrade_recipe
from hrnn_jax.preprocess import statistics

from ..common import run_folder
from ..common.text import stopped_text
from ..jobs.grid import Run
from ..jobs.paper_rows import ROWS, compared_pairs
from ..tuning.study_job import StudyJob, chosen_frame
from . import queries

PAPER_TOLERANCE = 0.02  # a log with Table 1's counts up to this share is the paper's own
UNUSED_SETTINGS = {"name", "variant", "n_items", "chunk_steps"}  # of recipe.json, not in Table 2
SPEEDS = ("train_seconds", "train_events_per_second", "eval_cases_per_second")

Descriptions = Mapping[str, Mapping[str, Any]]  # by column: what experiments.describe wrote


def write(
    folder: pathlib.Path,
    runs: Sequence[Run],
    data: Descriptions,
    *,
    studies: Sequence[StudyJob],
    failed: Mapping[Run, str],
    command: str,
) -> None:
    """Write all CSV files.

    Args:
        folder: where they go.
        runs: the finished ones.
        data: what each column's data are.
        studies: the searches of the tuned rows.
        failed: the reasons of the runs that failed.
        command: the command that reproduces all of it.
    """
    runs = in_table_order(runs, [*ROWS])
    # The tuned rows are not trained for the best trial's epochs, see `searches`.
    chosen = chosen_frame(studies).filter(pl.col("key") != "epochs")
    reasons = [(run.column.key, run.row.key, run.seed, reason) for run, reason in failed.items()]
    write_frames(
        folder,
        {
            "data": data_frame(data, command),
            "hyper": hyper_frame(runs),
            "runs": run_frame(runs),
            "failed": frame(("column", "row", "seed", "reason"), reasons),
            "chosen": chosen,
            **_measurements(runs, data),
        },
    )


def write_frames(folder: pathlib.Path, frames: Mapping[str, pl.DataFrame]) -> None:
    """Write a CSV file of each frame, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in frames.items():
        atomic.write(folder / f"{name}.csv", table.write_csv)


def _measurements(runs: Sequence[Run], data: Descriptions) -> dict[str, pl.DataFrame]:
    """Compute what is measured, a row of a column at a time."""
    parts: dict[str, list[pl.DataFrame]] = {"scores": [], "history": [], "position": []}
    cases: dict[str, dict[str, pl.DataFrame]] = {}
    for column, row, ranks, scores in measured_cells(runs, data):
        frames = (scores, queries.by_history(ranks), queries.by_position(ranks))
        for name, table in zip(parts, frames, strict=True):
            parts[name].append(with_names(table, column=column, row=row))
        cases.setdefault(column, {})[row] = queries.by_case(ranks)
    parts["significance"] = [
        with_names(significance_frame(of_rows), column=column) for column, of_rows in cases.items()
    ]
    return {name: pl.concat(frames) for name, frames in parts.items()}


def measured_cells(
    runs: Sequence[Run], data: Descriptions
) -> Iterator[tuple[str, str, pl.DataFrame, pl.DataFrame]]:
    """Read what was measured of each row of each column.

    Args:
        runs: the finished ones, see `in_table_order`.
        data: what each column's data are.

    Yields:
        The column, the row, the ranks of all seeds, and seed, metric, cutoff, value.
    """
    for (column, row), of_cell in itertools.groupby(runs, lambda r: (r.column.key, r.row.key)):
        folders = [run.folder for run in of_cell]
        ranks, recommended = (
            pl.concat([pl.read_parquet(folder / name, glob=False) for folder in folders])
            for name in (run_folder.RANKS, run_folder.RECOMMENDED)
        )
        items = pathlib.Path(data[column]["prepared"]) / "items.parquet"
        support = pl.read_parquet(items, columns=["item", "support"], glob=False)
        scores = [queries.scores(ranks), queries.list_scores(recommended, support)]
        yield column, row, ranks, pl.concat(scores)


def significance_frame(cases: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the tests of `compared_pairs`: metric, a, b, cases, statistic, p.

    Args:
        cases: `queries.by_case` of each row.

    Raises:
        ValueError: two rows were tested on different cases.
    """
    lines = [
        line
        for a, b in compared_pairs()
        if a in cases and b in cases
        for line in queries.signed_rank_tests(cases, a, b)
    ]
    return frame(("metric", "a", "b", "cases", "statistic", "p"), lines)


def data_frame(data: Descriptions, command: str) -> pl.DataFrame:
    """Return column, key, value: Tables 1 and 4 and what the data are."""
    lines = [
        (column, key, value)
        for column, meta in data.items()
        for key, value in {
            "title": meta["title"],
            "data": meta["data"],
            "shape": meta["shape"] or "",
            "paper": "yes" if is_paper_data(meta) else "no",
            "command": command,
            "events_sha256": meta.get("events_sha256", ""),
            **statistics.cells(dict(meta)),
        }.items()
    ]
    return frame(("column", "key", "value"), lines)


def is_paper_data(meta: Mapping[str, Any]) -> bool:
    """Say whether a log is the paper's own: a real one with the counts of Table 1."""
    paper = statistics.PAPER.get(meta["shape"] or "")
    if paper is None or meta["data"] != "real":
        return False
    counts = {key: paper[key].replace(",", "") for key in ("users", "items", "sessions", "events")}
    # VIDEOXXL's are rounded, as in 810k users.
    return all(
        count.isdecimal() and abs(meta["table1"][key] / int(count) - 1) <= PAPER_TOLERANCE
        for key, count in counts.items()
    )


def hyper_frame(runs: Sequence[Run]) -> pl.DataFrame:
    """Return column, row, key, value: the settings that the runs recorded (Table 2)."""
    values: dict[tuple[str, str, str], str] = {}
    for run in runs:
        recipe = upgrade_recipe(json.loads((run.folder / "recipe.json").read_text()))
        used = recipe.get("model", {}) | recipe.get("training", {})
        if run.row.size:
            used["epochs"] = finished(run)["epochs"]
        unused = set(UNUSED_SETTINGS)
        if run.row.size:
            of_networks = settings(ModelConfig).items()
            unused |= {key for key, of_key in of_networks if used["name"] not in of_key.models}
        for key in used.keys() - unused:
            values[run.column.key, run.row.key, key] = str(used[key])
    lines = [(*key, value) for key, value in sorted(values.items())]
    return frame(("column", "row", "key", "value"), lines)


def run_frame(runs: Sequence[Run]) -> pl.DataFrame:
    """Return a line per finished run: its cell, seed, cases, epochs, speeds and provenance."""
    lines = []
    for run in runs:
        metrics = finished(run)
        [of_seed] = metrics["per_seed"]
        speeds = {name: of_seed[name] and round(of_seed[name], 3) for name in SPEEDS}
        lines.append(
            {
                "column": run.column.key,
                "row": run.row.key,
                "seed": run.seed,
                "cases": of_seed["cases"],
                "epochs": metrics["epochs"],
                **speeds,
                **{name: metrics["made"][name] for name in ("commit", "machine")},
                "device": device(metrics["made"]),
                "finished": metrics["made"]["finished"],
                "stopped": stopped_text(metrics),
            }
        )
    # Of rows that count alone they are all null.
    types = pl.Schema(dict.fromkeys(SPEEDS, pl.Float64))
    return pl.DataFrame(lines, schema_overrides=types, infer_schema_length=None)


def device(made: Mapping[str, str]) -> str:
    """Return what computed a run, cpu or gpu, from the provenance in its metrics.json."""
    # Run folders of before have no more than the machine: a processor with its number of cores.
    return made.get("device", "cpu" if "core" in made["machine"] else "gpu")


def finished(run: Run) -> dict[str, Any]:
    """Read the metrics.json of a finished run."""
    metrics = run_folder.read_metrics(run.folder)
    assert metrics is not None
    return metrics


def in_table_order(runs: Sequence[Run], keys: Sequence[str]) -> list[Run]:
    """Sort runs by column, then by row in the order of `keys`, then by seed."""
    columns = list(dict.fromkeys(run.column.key for run in runs))
    return sorted(runs, key=lambda r: (columns.index(r.column.key), keys.index(r.row.key), r.seed))


def with_names(table: pl.DataFrame, **names: str) -> pl.DataFrame:
    """Put columns with the same text in each line before the others."""
    return table.select(*(pl.lit(text).alias(name) for name, text in names.items()), pl.all())


def frame(names: Sequence[str], lines: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Make a frame of lines."""
    return pl.DataFrame(lines, schema=list(names), orient="row", infer_schema_length=None)
