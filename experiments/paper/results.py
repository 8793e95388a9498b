"""The CSV files of a results folder, read and checked, and what the report asks of them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from hrnn_jax import errors

from ..common.model_names import BEYOND
from ..common.spread import Spread
from . import numbers

# In the order of Table 3, and what the paper has not after it.
SECTIONS = {
    "baselines": numbers.BASELINES,
    **{
        size: {f"{model}_{size}": name for model, name in numbers.NETWORKS.items()}
        for size in numbers.SIZES
    },
    "beyond the paper": BEYOND,
}
NETWORKS = tuple(row for size in numbers.SIZES for row in SECTIONS[size])
NAMES = {
    row: f"{name} ({section})" if section in numbers.SIZES else name
    for section, rows in SECTIONS.items()
    for row, name in rows.items()
}
GROUPS = {
    "history": {"short": "short (≤ 6)", "long": "long (> 6)"},
    "position": {"1-2": "2nd", "3-4": "3rd-4th", "5+": "5th on"},
}

# File -> what tells its lines apart, and its other columns.
_TEXT, _WHOLE, _REAL = pl.String, pl.Int64, pl.Float64
_OF_RUN = {"column": _TEXT, "row": _TEXT, "seed": _WHOLE}
_MEANS = {"recall": _REAL, "mrr": _REAL}
FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "data": ({"column": _TEXT, "key": _TEXT}, {"value": _TEXT}),
    "hyper": ({"column": _TEXT, "row": _TEXT, "key": _TEXT}, {"value": _TEXT}),
    "runs": (
        _OF_RUN,
        {
            **{"cases": _WHOLE, "train_seconds": _REAL, "train_events_per_second": _REAL},
            **{"eval_cases_per_second": _REAL, "commit": _TEXT, "machine": _TEXT},
            "finished": _TEXT,
        },
    ),
    "failed": (_OF_RUN, {"reason": _TEXT}),
    "scores": ({**_OF_RUN, "metric": _TEXT, "cutoff": _WHOLE}, {"value": _REAL}),
    "history": ({**_OF_RUN, "group": _TEXT}, {"sessions": _WHOLE, **_MEANS}),
    "position": ({**_OF_RUN, "group": _TEXT}, {"cases": _WHOLE, **_MEANS}),
    "significance": ({"column": _TEXT, "metric": _TEXT, "a": _TEXT, "b": _TEXT}, {"p": _REAL}),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One data set, a column of the tables."""

    key: str
    title: str
    simulated: bool
    shape: str  # of which of the paper's data sets; "" of none
    papers_own: bool  # the data are the paper's, so that its absolute numbers compare
    command: str  # that makes the runs
    cells: Mapping[str, str]  # of Tables 1 and 4, by describe.ROWS

    @property
    def name(self) -> str:
        return self.key.upper() if self.key in numbers.SCORES else self.key

    @property
    def label(self) -> str:
        kind = "the paper's data" if self.papers_own else "real data"
        return f"{self.name} ({'SIMULATED' if self.simulated else kind})"


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that the CSV files say, by their keys."""

    columns: Mapping[str, Column]
    hyper: Mapping[tuple[str, str], Mapping[str, str]]  # (column, row) -> key -> value
    runs: tuple[Mapping[str, Any], ...]
    failed: tuple[Mapping[str, Any], ...]
    scores: Mapping[tuple[str, str, str, int], Spread]  # (column, row, metric, cutoff)
    groups: Mapping[tuple[str, str, str, str, str], Spread]  # (kind, column, row, group, metric)
    sizes: Mapping[tuple[str, str, str], int]  # (kind, column, group) -> sessions or cases in it
    p_values: Mapping[tuple[str, str, frozenset[str]], float]  # (column, metric, {a, b})


def read(folder: pathlib.Path) -> Findings:
    """Read a results folder. Raises InputError that names the file and what is wrong in it."""
    frames = {name: read_csv(folder / f"{name}.csv", *FILES[name]) for name in FILES}
    columns = read_columns(folder / "data.csv", frames["data"])
    known: dict[str, Iterable[str]] = {"column": columns, "row": NAMES, "a": NAMES, "b": NAMES}
    for name, frame in frames.items():
        check(folder / f"{name}.csv", frame, {**known, "group": GROUPS.get(name, ())})
    if frames["scores"].is_empty():
        raise errors.InputError(f"{folder / 'scores.csv'} holds no scores: no run has ended")
    hyper: dict[tuple[str, str], dict[str, str]] = {}
    for column, row, key, value in frames["hyper"].iter_rows():
        hyper.setdefault((column, row), {})[key] = value or ""
    groups: dict[tuple[str, ...], Spread] = {}
    sizes = {}
    for kind, count in (("history", "sessions"), ("position", "cases")):
        for metric in _MEANS:
            values = spreads(frames[kind], ("column", "row", "group"), metric)
            groups |= {(kind, *key, metric): spread for key, spread in values.items()}
        counted = frames[kind].group_by("column", "group").agg(pl.col(count).max())
        sizes |= {(kind, column, group): n or 0 for column, group, n in counted.iter_rows()}
    return Findings(
        columns=columns,
        hyper=hyper,
        runs=tuple(frames["runs"].iter_rows(named=True)),
        failed=tuple(frames["failed"].iter_rows(named=True)),
        scores=spreads(frames["scores"], ("column", "row", "metric", "cutoff"), "value"),
        groups=groups,  # type: ignore[arg-type]
        sizes=sizes,
        p_values=p_values(frames["significance"]),
    )


def p_values(frame: pl.DataFrame) -> dict[tuple[str, str, frozenset[str]], float]:
    """Return the lines of significance.csv by column, metric and rows."""
    # No p where no case differs between the two: nothing tells them apart.
    return {
        (line["column"], line["metric"], frozenset((line["a"], line["b"]))): line["p"]
        for line in frame.fill_nan(None).fill_null(1.0).iter_rows(named=True)
    }


def score(found: Findings, column: str, row: str, metric: str, cutoff: int = 5) -> Spread | None:
    """Return a row's metric over its seeds, or None where no run of it has ended."""
    return found.scores.get((column, row, metric, cutoff))


def best(
    found: Findings, columns: Iterable[Column], rows: Iterable[str], metrics: Iterable[str]
) -> dict[tuple[str, str], float | None]:
    """Return the best mean of some rows by column and metric, None where no run has ended."""
    rows, metrics = list(rows), list(metrics)
    return {
        (column.key, metric): max(
            (
                round(spread.mean, 4)  # as printed: what reads alike is a tie
                for row in rows
                if (spread := score(found, column.key, row, metric))
            ),
            default=None,
        )
        for column in columns
        for metric in metrics
    }


def gain(found: Findings, column: str, row: str, over: str, metric: str) -> float | None:
    """Return the relative gain of one row's mean over another's."""
    ours, base = (score(found, column, name, metric) for name in (row, over))
    return ours.mean / base.mean - 1 if ours and base and base.mean else None


def p_value(found: Findings, column: str, a: str, b: str, metric: str) -> float | None:
    """Return the p of two rows being alike, or None where they were not tested.

    Precision@5 is Recall@5 / 5 in every case, so its ranks in the test, and its p, are Recall's.
    """
    metric = "recall" if metric == "precision" else metric
    return found.p_values.get((column, f"{metric}@5", frozenset((a, b))))


def differ(found: Findings, column: str, a: str, b: str, metric: str) -> bool | None:
    """Say whether two rows differ significantly, None where they were not tested."""
    p = p_value(found, column, a, b, metric)
    return None if p is None else p < numbers.ALPHA


def read_csv(path: pathlib.Path, key: Mapping[str, Any], rest: Mapping[str, Any]) -> pl.DataFrame:
    """Read a file's columns, `key` those that tell its lines apart. Raises InputError."""
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise errors.InputError(f"no file {path}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise errors.InputError(f"{path} is no CSV file with a header: {error}") from error
    schema = {**key, **rest}
    if absent := [name for name in schema if name not in frame.columns]:
        raise errors.InputError(f"{path} has no column {absent[0]!r}")
    for name, kind in schema.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(kind))
        except pl.exceptions.InvalidOperationError as error:
            raise errors.InputError(f"{path}: column {name!r} holds no number: {error}") from error
        if name in key and frame[name].null_count():
            raise errors.InputError(f"{path}: a line has no {name!r}")
    if (twice := frame.filter(frame.select(*key).is_duplicated())).height:
        raise errors.InputError(f"{path} has two lines of {twice.select(*key).row(0)}")
    return frame.select(*schema)


def read_columns(path: pathlib.Path, frame: pl.DataFrame) -> dict[str, Column]:
    """Return the columns that data.csv, read from `path`, tells of. Raises InputError."""
    columns = {}
    for key in frame["column"].unique(maintain_order=True):
        cells = {k: v or "" for k, v in frame.filter(column=key).select("key", "value").iter_rows()}
        if not re.fullmatch(r"[\w.-]+", key):  # it names the figures' files
            raise errors.InputError(f"{path}: column {key!r}: use letters, digits, . _ and -")
        if absent := [k for k in ("title", "data", "command") if not cells.get(k)]:
            raise errors.InputError(f"{path}: column {key!r} has no {absent[0]!r}")
        if cells["data"] not in ("real", "simulated"):
            raise errors.InputError(f"{path}: column {key!r}: data is 'real' or 'simulated'")
        columns[key] = Column(
            key=key,
            title=cells["title"],
            simulated=cells["data"] == "simulated",
            shape=cells.get("shape", ""),
            papers_own=cells.get("paper") == "yes",
            command=cells["command"],
            cells=cells,
        )
    return columns


def check(path: pathlib.Path, frame: pl.DataFrame, known: Mapping[str, Iterable[str]]) -> None:
    """Raise InputError where a file has values, by column, that are not known."""
    for name, values in known.items():
        if name not in frame.columns:
            continue
        if strange := sorted(set(frame[name]) - set(values)):
            raise errors.InputError(f"{path}: unknown {name} {strange[0]!r}, not of {[*values]}")


def spreads(frame: pl.DataFrame, by: tuple[str, ...], value: str) -> dict[Any, Spread]:
    """Return the values of all seeds, summed up, by the other columns that `by` names."""
    measured = frame.filter(pl.col(value).is_not_nan()).sort(*by, "seed")  # drops nulls as well
    grouped = measured.group_by(*by, maintain_order=True).agg(value)
    return {tuple(key): Spread(tuple(values)) for *key, values in grouped.iter_rows()}
