"""The CSV files of a results folder, read and checked, and look-ups in them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from hrnn_jax.errors import InputError

from ..common.model_names import BEYOND, PAPER_BASELINES, PAPER_NETWORKS, SIZES
from ..common.text import Spread
from .csv_files import Schema, check_values, read_frames, spreads
from .numbers import ALPHA, SCORES

# The rows in the order of Table 3, then those that are not in the paper.
ROW_SECTIONS = {
    "baselines": PAPER_BASELINES,
    **{size: {f"{model}_{size}": name for model, name in PAPER_NETWORKS.items()} for size in SIZES},
    "beyond the paper": BEYOND,
}
NETWORK_ROWS = tuple(row for size in SIZES for row in ROW_SECTIONS[size])
ROW_NAMES = {
    row: f"{name} ({section})" if section in SIZES else name
    for section, rows in ROW_SECTIONS.items()
    for row, name in rows.items()
}
GROUPS = {
    "history": {"short": "short (≤ 6)", "long": "long (> 6)"},
    "position": {"1-2": "2nd", "3-4": "3rd-4th", "5+": "5th on"},
}

_RUN: Schema = {"column": pl.String, "row": pl.String, "seed": pl.Int64}
_MEANS: Schema = {"recall": pl.Float64, "mrr": pl.Float64}
# By file: the columns that identify a line, and the others that are read.
FILES: Mapping[str, tuple[Schema, Schema]] = {
    "data": ({"column": pl.String, "key": pl.String}, {"value": pl.String}),
    "hyper": ({"column": pl.String, "row": pl.String, "key": pl.String}, {"value": pl.String}),
    "runs": (
        _RUN,
        {
            "cases": pl.Int64,
            "train_seconds": pl.Float64,
            "train_events_per_second": pl.Float64,
            "eval_cases_per_second": pl.Float64,
            "commit": pl.String,
            "machine": pl.String,
            "finished": pl.String,
        },
    ),
    "failed": (_RUN, {"reason": pl.String}),
    "scores": ({**_RUN, "metric": pl.String, "cutoff": pl.Int64}, {"value": pl.Float64}),
    "history": ({**_RUN, "group": pl.String}, {"sessions": pl.Int64, **_MEANS}),
    "position": ({**_RUN, "group": pl.String}, {"cases": pl.Int64, **_MEANS}),
    "significance": (
        {"column": pl.String, "metric": pl.String, "a": pl.String, "b": pl.String},
        {"p": pl.Float64},
    ),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A data set, which has a column or more in the tables."""

    key: str
    title: str
    simulated: bool
    shape: str  # the data set of the paper that it has the shape of, or ""
    paper_data: bool  # the data are the paper's, so that the paper's numbers can be compared
    command: str  # that reproduces the runs
    cells: Mapping[str, str]  # of Tables 1 and 4, by `statistics.ROWS`

    @property
    def name(self) -> str:
        """The key, in capitals for the paper's data sets."""
        return self.key.upper() if self.key in SCORES else self.key

    @property
    def label(self) -> str:
        """The name, and whether the data are simulated."""
        kind = "the paper's data" if self.paper_data else "real data"
        return f"{self.name} ({'SIMULATED' if self.simulated else kind})"


@dataclasses.dataclass(frozen=True)
class Results:
    """The content of a results folder."""

    columns: Mapping[str, Column]
    runs: tuple[Mapping[str, Any], ...]
    scores: Mapping[tuple[str, str, str, int], Spread]  # by (column, row, metric, cutoff)
    p_values: Mapping[tuple[str, str, frozenset[str]], float]  # by (column, metric, {a, b})
    settings: Mapping[tuple[str, str], Mapping[str, str]] = dataclasses.field(default_factory=dict)
    failed: tuple[Mapping[str, Any], ...] = ()
    # by (kind, column, row, group, metric), and the sessions or cases by (kind, column, group)
    groups: Mapping[tuple[str, ...], Spread] = dataclasses.field(default_factory=dict)
    group_sizes: Mapping[tuple[str, ...], int] = dataclasses.field(default_factory=dict)

    def score(self, column: str, row: str, metric: str, cutoff: int = 5) -> Spread | None:
        """Return a metric over the seeds of a row, or None without a finished run."""
        return self.scores.get((column, row, metric, cutoff))

    def means(self, column: str, rows: Iterable[str], metric: str) -> dict[str, float]:
        """Return the means at cutoff 5 of the rows with a finished run."""
        spreads_by_row = {row: self.score(column, row, metric) for row in rows}
        return {row: spread.mean for row, spread in spreads_by_row.items() if spread}

    def best(self, column: str, rows: Iterable[str], metric: str) -> float | None:
        """Return the best mean of some rows, rounded as printed: equal print is a tie."""
        means = self.means(column, rows, metric).values()
        return max((round(mean, 4) for mean in means), default=None)

    def gain(self, column: str, row: str, over: str, metric: str) -> float | None:
        """Return the relative gain of the mean of one row over that of another."""
        means = self.means(column, (row, over), metric)
        return means[row] / means[over] - 1 if row in means and means.get(over) else None

    def p_value(self, column: str, a: str, b: str, metric: str) -> float | None:
        """Return p for the hypothesis that two rows are alike, or None without a test.

        Precision@5 is Recall@5 / 5 in every case, so that its ranks in the test, and its p, are
        those of Recall@5.
        """
        metric = "recall" if metric == "precision" else metric
        return self.p_values.get((column, f"{metric}@5", frozenset((a, b))))

    def differ(self, column: str, a: str, b: str, metric: str) -> bool | None:
        """Say whether two rows differ significantly, or None without a test."""
        p = self.p_value(column, a, b, metric)
        return None if p is None else p < ALPHA


def read_results(folder: pathlib.Path) -> Results:
    """Read a results folder.

    Raises:
        InputError: a file is missing or wrong; the message names it.
    """
    frames = read_frames(folder, FILES)
    columns = read_columns(folder / "data.csv", frames["data"])
    known: dict[str, Iterable[str]] = {"column": columns, "row": ROW_NAMES}
    known |= {"a": ROW_NAMES, "b": ROW_NAMES}
    for name, frame in frames.items():
        check_values(folder / f"{name}.csv", frame, {**known, "group": GROUPS.get(name, ())})
    settings: dict[tuple[str, str], dict[str, str]] = {}
    for column, row, key, value in frames["hyper"].iter_rows():
        settings.setdefault((column, row), {})[key] = value or ""
    groups, group_sizes = {}, {}
    for kind, count in (("history", "sessions"), ("position", "cases")):
        for metric in _MEANS:
            values = spreads(frames[kind], ("column", "row", "group"), metric)
            groups |= {(kind, *key, metric): spread for key, spread in values.items()}
        counted = frames[kind].group_by("column", "group").agg(pl.col(count).max())
        group_sizes |= {(kind, column, group): n or 0 for column, group, n in counted.iter_rows()}
    return Results(
        columns=columns,
        runs=tuple(frames["runs"].iter_rows(named=True)),
        scores=spreads(frames["scores"], ("column", "row", "metric", "cutoff"), "value"),
        p_values=read_p_values(frames["significance"]),
        settings=settings,
        failed=tuple(frames["failed"].iter_rows(named=True)),
        groups=groups,
        group_sizes=group_sizes,
    )


def read_p_values(frame: pl.DataFrame) -> dict[tuple[str, str, frozenset[str]], float]:
    """Return the lines of significance.csv by column, metric and rows."""
    # There is no p where all cases of the two rows are alike.
    return {
        (line["column"], line["metric"], frozenset((line["a"], line["b"]))): line["p"]
        for line in frame.fill_nan(None).fill_null(1.0).iter_rows(named=True)
    }


def read_columns(path: pathlib.Path, frame: pl.DataFrame) -> dict[str, Column]:
    """Return the columns in data.csv, which was read from `path`. Raises InputError."""
    columns = {}
    for key in frame["column"].unique(maintain_order=True):
        cells = {k: v or "" for k, v in frame.filter(column=key).select("key", "value").iter_rows()}
        if not re.fullmatch(r"[\w.-]+", key):  # it is part of the figures' file names
            raise InputError(f"{path}: column {key!r}: use letters, digits, . _ and -")
        if absent := [k for k in ("title", "data", "command") if not cells.get(k)]:
            raise InputError(f"{path}: column {key!r} has no {absent[0]!r}")
        if cells["data"] not in ("real", "simulated"):
            raise InputError(f"{path}: column {key!r}: data is 'real' or 'simulated'")
        columns[key] = Column(
            key=key,
            title=cells["title"],
            simulated=cells["data"] == "simulated",
            shape=cells.get("shape", ""),
            paper_data=cells.get("paper") == "yes",
            command=cells["command"],
            cells=cells,
        )
    return columns
