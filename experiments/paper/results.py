"""The CSV files of a results folder, read and checked, and look-ups in them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl

from hrnn_jax.errors import InputError

from ..common.text import Spread
from ..jobs.paper_rows import NETWORKS, ROWS, sections
from .numbers import ALPHA, SCORES

ROW_SECTIONS = sections()
NETWORK_ROWS = tuple(NETWORKS)
ROW_NAMES = {key: row.full_name for key, row in ROWS.items()}
NOT_TRAINED = "did not train"  # stands for the numbers of a row that was stopped by its loss
GROUPS = {
    "history": {"short": "short (≤ 6)", "long": "long (> 6)"},
    "position": {"1-2": "2nd", "3-4": "3rd-4th", "5+": "5th on"},
}

TEXT, WHOLE, NUMBER = pl.String, pl.Int64, pl.Float64
Schema = dict[str, Any]  # polars' types by column
_ROW: Schema = {"column": TEXT, "row": TEXT}
_RUN: Schema = _ROW | {"seed": WHOLE}
_MEANS: Schema = {"recall": NUMBER, "mrr": NUMBER}
_TIMES = ("train_seconds", "train_events_per_second", "eval_cases_per_second")
# By file: the columns that identify a line, and the others that are read. The file itself may have
# more. `collect` describes those of the paper, leaderboard/collect.py those of the comparison.
FILES: Mapping[str, tuple[Schema, Schema]] = {
    "data": ({"column": TEXT, "key": TEXT}, {"value": TEXT}),
    "hyper": (_ROW | {"key": TEXT}, {"value": TEXT}),
    "runs": (
        _RUN,
        {"cases": WHOLE}
        | dict.fromkeys(_TIMES, NUMBER)
        | dict.fromkeys(("commit", "machine", "device", "finished", "stopped"), TEXT),
    ),
    "failed": (_RUN, {"reason": TEXT}),
    "scores": (_RUN | {"metric": TEXT, "cutoff": WHOLE}, {"value": NUMBER}),
    "history": (_RUN | {"group": pl.Enum(list(GROUPS["history"]))}, {"sessions": WHOLE} | _MEANS),
    "position": (_RUN | {"group": pl.Enum(list(GROUPS["position"]))}, {"cases": WHOLE} | _MEANS),
    "significance": (dict.fromkeys(("column", "metric", "a", "b"), TEXT), {"p": NUMBER}),
    "without_session_items": (_RUN | {"metric": TEXT, "cutoff": WHOLE}, {"value": NUMBER}),
    "significance_without_session_items": (
        dict.fromkeys(("column", "metric", "a", "b"), TEXT),
        {"p": NUMBER},
    ),
    "chosen": (_ROW | {"key": TEXT}, {"trials": WHOLE, "value": NUMBER, "setting": TEXT}),
    "curves": (_RUN | {"epoch": WHOLE, "metric": TEXT}, {"value": NUMBER}),
}
# By file and column: which lines have a number that cannot be. A missing one can, but in `chosen`.
_P = {"p": pl.col("p").is_not_nan() & ~pl.col("p").is_between(0, 1)}
_RATES = {name: ~pl.col(name).is_finite() | (pl.col(name) <= 0) for name in _TIMES[1:]}
_SECONDS = ~pl.col("train_seconds").is_finite() | (pl.col("train_seconds") < 0)
WRONG: Mapping[str, Mapping[str, pl.Expr]] = {
    "runs": {"train_seconds": _SECONDS, **_RATES},
    "chosen": {
        "trials": pl.col("trials").is_null(),
        "value": pl.col("value").is_null() | ~pl.col("value").is_finite(),
    },
    "significance": _P,
    "significance_without_session_items": _P,
}
ADDED = ("device", "stopped")  # columns that older files do not have
PAPER_FILES = (
    *("hyper", "runs", "failed", "chosen", "scores", "history", "position", "significance"),
)
COMPARISON_FILES = (
    *("runs", "scores", "significance", "chosen", "curves"),
    *("without_session_items", "significance_without_session_items"),
)


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
    frames: Mapping[str, pl.DataFrame]  # by file, see FILES
    # By file, then by (column, row, metric, and the cutoff or the group).
    spreads: Mapping[str, Mapping[tuple[Any, ...], Spread]]
    p_values: Mapping[tuple[str, str, frozenset[str]], float]  # by (column, metric, {a, b})
    # By (column, row): where the loss of rows that did not train stood. Nothing else here has them
    # but the frames hyper, runs and failed.
    stopped: Mapping[tuple[str, str], str]

    def devices(self) -> list[str]:
        """Return what computed the runs: cpu before gpu."""
        return sorted(self._devices().unique())

    def on(self, device: str) -> Results:
        """Return the same with those runs alone that a kind of device computed."""
        runs = self.frames["runs"].filter(self._devices() == device)
        return dataclasses.replace(self, frames={**self.frames, "runs": runs})

    def _devices(self) -> pl.Series:
        # Older files do not say it; their runs are of processors.
        return self.frames["runs"]["device"].fill_null("cpu")

    def score(self, column: str, row: str, metric: str, cutoff: int = 5) -> Spread | None:
        """Return a metric over the seeds of a row, or None without a finished run."""
        return self.spreads["scores"].get((column, row, metric, cutoff))

    def means(self, column: str, rows: Iterable[str], metric: str) -> dict[str, float]:
        """Return the means at cutoff 5 of the rows with a finished run."""
        spreads_by_row = {row: self.score(column, row, metric) for row in rows}
        return {row: spread.mean for row, spread in spreads_by_row.items() if spread}

    def is_best(self, column: str, row: str, rows: Iterable[str], metric: str) -> bool:
        """Say whether a row has the best mean of some rows, as printed: equal print is a tie."""
        means = self.means(column, {*rows, row}, metric)
        return row in means and round(means[row], 4) == round(max(means.values()), 4)

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


def read_results(
    folder: pathlib.Path,
    files: Iterable[str] = PAPER_FILES,
    rows: Collection[str] | None = tuple(ROW_NAMES),
) -> Results:
    """Read a results folder.

    Args:
        folder: where the CSV files are.
        files: keys of `FILES`; data.csv is always read.
        rows: the rows that may be there; None allows any.

    Raises:
        InputError: a file is missing or wrong; the message names it.
    """
    columns = read_columns(folder / "data.csv")
    of_rows = {} if rows is None else dict.fromkeys(("row", "a", "b"), rows)
    known = {"column": columns, **of_rows}
    frames = {name: read_frame(folder / f"{name}.csv", known) for name in files}
    stopped = stopped_rows(frames["runs"])
    for name in ("scores", *GROUPS.keys() & frames.keys()):
        frames[name] = trained(frames[name], stopped, "row")
    frames["significance"] = trained(frames["significance"], stopped, "a", "b")
    if frames["scores"].is_empty() and not stopped:
        raise InputError(f"{folder / 'scores.csv'} holds no scores: no run has ended")
    groups = {
        kind: frames[kind].unpivot([*_MEANS], index=[*_RUN, "group"], variable_name="metric")
        for kind in GROUPS.keys() & frames.keys()
    }
    return Results(
        columns=columns,
        frames=frames,
        spreads={
            "scores": spreads(frames["scores"], ("column", "row", "metric", "cutoff")),
            **{k: spreads(of, ("column", "row", "metric", "group")) for k, of in groups.items()},
        },
        p_values=p_values(frames["significance"]),
        stopped=stopped,
    )


def p_values(tests: pl.DataFrame) -> dict[tuple[str, str, frozenset[str]], float]:
    """Return p by column, metric and the two rows. It is 1 where all of their cases are alike."""
    lines = tests.fill_nan(None).fill_null(1.0).iter_rows()
    return {(column, metric, frozenset((a, b))): p for column, metric, a, b, p in lines}


def without_session_items(results: Results) -> Results:
    """Return the results of those logs that were ranked so, without the items of the session."""
    scores = results.frames["without_session_items"]
    return dataclasses.replace(
        results,
        columns={key: of for key, of in results.columns.items() if key in scores["column"]},
        spreads={"scores": spreads(scores, ("column", "row", "metric", "cutoff"))},
        p_values=p_values(results.frames["significance_without_session_items"]),
    )


def headline(results: Results) -> Results:
    """Return the results with the ranks that count on each log.

    Those without the items of the session where there are such, and else those of all items.
    """
    without = without_session_items(results)
    others = {
        key: of for key, of in results.spreads["scores"].items() if key[0] not in without.columns
    }
    tests = {key: p for key, p in results.p_values.items() if key[0] not in without.columns}
    return dataclasses.replace(
        results,
        spreads={**results.spreads, "scores": others | dict(without.spreads["scores"])},
        p_values=tests | dict(without.p_values),
    )


def stopped_rows(runs: pl.DataFrame) -> dict[tuple[str, str], str]:
    """Return the rows that did not train, by (column, row): the loss and the epoch of each seed.

    Args:
        runs: the content of runs.csv.
    """
    stopped = runs.filter(pl.col("stopped") != "").sort("seed")
    texts: dict[tuple[str, str], list[str]] = {}
    for column, row, seed, text in stopped.select("column", "row", "seed", "stopped").iter_rows():
        texts.setdefault((column, row), []).append(f"seed {seed}: {text}")
    return {
        key: of_seeds[0].partition(": ")[2] if len(of_seeds) == 1 else "; ".join(of_seeds)
        for key, of_seeds in texts.items()
    }


def trained(
    frame: pl.DataFrame, stopped: Mapping[tuple[str, str], str], *names: str
) -> pl.DataFrame:
    """Return the lines that are about rows that trained; `names` are the columns with a row."""
    for name in names:
        keys = pl.DataFrame([*stopped], schema={"column": TEXT, name: TEXT}, orient="row")
        frame = frame.join(keys, on=["column", name], how="anti", maintain_order="left")
    return frame


def read_frame(path: pathlib.Path, known: Mapping[str, Iterable[str]]) -> pl.DataFrame:
    """Read one of `FILES`.

    Args:
        path: of the file.
        known: the values that some columns may have, by column.

    Raises:
        InputError: the file is missing or wrong.
    """
    if not path.is_file():
        raise InputError(f"no file {path}")
    key, others = FILES[path.stem]
    schema = key | others
    schema |= {name: pl.Enum(list(values)) for name, values in known.items() if name in schema}
    try:
        frame = pl.read_csv(path, glob=False, infer_schema=False)
        added = [name for name in ADDED if name in schema and name not in frame.columns]
        frame = frame.with_columns(pl.lit(None, TEXT).alias(name) for name in added)
        frame = frame.select(*schema).cast(pl.Schema(schema))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    keys = frame.select(*key)
    wrong = keys.filter(
        keys.is_duplicated() | keys.select(pl.any_horizontal(pl.all().is_null())).to_series()
    )
    if wrong.height:
        raise InputError(f"{path} has two lines of {wrong.row(0)}, or a part of it is missing")
    for name, is_wrong in WRONG.get(path.stem, {}).items():
        wrong = frame.filter(is_wrong)
        if wrong.height:
            line = wrong.select(*key).row(0)
            raise InputError(f"{path}: {name} is {wrong[name][0]} in the line of {line}")
    return frame.cast({pl.Enum: TEXT})


def spreads(frame: pl.DataFrame, by: tuple[str, ...]) -> dict[tuple[Any, ...], Spread]:
    """Return the values of all seeds by the columns `by`; those that are no number are left out."""
    numbers = frame.filter(pl.col("value").is_not_nan()).sort(*by, "seed")  # drops nulls as well
    grouped = numbers.group_by(*by, maintain_order=True).agg("value")
    return {tuple(key): Spread(tuple(values)) for *key, values in grouped.iter_rows()}


def read_columns(path: pathlib.Path) -> dict[str, Column]:
    """Return the columns in data.csv.

    Raises:
        InputError: the file is missing or wrong.
    """
    by_column: dict[str, dict[str, str]] = {}
    for column, key, value in read_frame(path, {}).iter_rows():
        by_column.setdefault(column, {})[key] = value or ""
    columns = {}
    for key, cells in by_column.items():
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
