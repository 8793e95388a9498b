"""Every number of the report as a query over the run folders: ranks.parquet and its neighbours.

Nothing here trains or ranks. The files that result are what experiments.report reads.

data.csv          column, key, value: Tables 1 and 4, and what the data are
hyper.csv         column, row, key, value: the settings of the runs                       Table 2
runs.csv          a line per finished run: cases, epochs, speed, commit, machine, when
failed.csv        column, row, seed, reason
scores.csv        column, row, seed, metric, cutoff, value                            Tables 3, 5
history.csv       column, row, seed, group, sessions, recall, mrr                    Figures 3, 4
position.csv      column, row, seed, group, cases, recall, mrr                       Figures 5, 6
significance.csv  column, size, metric, a, b, cases, statistic, p                         Table 3
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hrnn_jax import atomic, significance
from hrnn_jax.preprocess import statistics

from ..common import run_folder
from ..common.model_names import PAPER_BASELINES, PAPER_NETWORKS
from ..jobs import grid
from ..jobs.grid import CUTOFF

SHORT_HISTORY = statistics.SHORT_HISTORY
LONG_SESSION = 5  # events; Section 4.3.2 looks at sessions of as many or more
CLOSE = 0.02  # a log whose counts are this near to Table 1 is taken for the paper's own
CASE = ("session", "position")
SETTINGS = ("model", "training")  # the parts of recipe.json that hold settings


def write(
    folder: pathlib.Path,
    runs: Sequence[grid.Run],
    data: Mapping[str, Mapping[str, Any]],
    *,
    failed: Mapping[grid.Run, str],
    command: str,
) -> None:
    """Write all files of the report's numbers.

    runs: the finished ones. data: by column, what experiments.describe wrote. command: the one
    that makes it all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = ordered(runs, [row.key for row in grid.rows(grid.SIZES)])
    frames = {
        "data": data_table(data, command),
        "hyper": hyper_table(runs),
        "runs": run_table(runs),
        "failed": frame(
            ("column", "row", "seed", "reason"),
            [(run.column.key, run.row.key, run.seed, reason) for run, reason in failed.items()],
        ),
        **measured(runs, data),
    }
    for name, found in frames.items():
        atomic.write(folder / f"{name}.csv", found.write_csv)


def measured(
    runs: Sequence[grid.Run], data: Mapping[str, Mapping[str, Any]]
) -> dict[str, pl.DataFrame]:
    """Query all that is measured, a cell (a row of a column, all its seeds) at a time."""
    parts: dict[str, list[pl.DataFrame]] = {
        name: [] for name in ("scores", "history", "position", "significance")
    }
    for column, of_column in itertools.groupby(cells(runs, data), key=lambda cell: cell[0]):
        cases: dict[str, pl.DataFrame] = {}
        for _, row, ranks, scored in of_column:
            queries = {
                "scores": scored,
                "history": by_history(ranks),
                "position": by_position(ranks),
            }
            for name, found in queries.items():
                parts[name].append(named(found, column=column, row=row))
            cases[row] = by_case(ranks)
        parts["significance"].append(named(tests(cases), column=column))
    return {name: pl.concat(frames) for name, frames in parts.items()}


def cells(
    runs: Sequence[grid.Run], data: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, pl.DataFrame, pl.DataFrame]]:
    """Yield each cell: column, row, the ranks of all its seeds, and its scores.

    runs: in the order of the tables. data: see `write`.
    """
    for column, of_column in itertools.groupby(runs, key=lambda run: run.column.key):
        support = pl.read_parquet(
            pathlib.Path(data[column]["prepared"]) / "items.parquet", columns=["item", "support"]
        )
        for row, group in itertools.groupby(of_column, key=lambda run: run.row.key):
            folders = [run.folder for run in group]
            ranks, shown = (
                pl.concat([pl.read_parquet(folder / name) for folder in folders])
                for name in (run_folder.RANKS, run_folder.RECOMMENDED)
            )
            yield column, row, ranks, pl.concat([scores(ranks), recommended(shown, support)])


def named(found: pl.DataFrame, **names: str) -> pl.DataFrame:
    """Put columns before the others that are the same in each line."""
    return found.select(*(pl.lit(text).alias(name) for name, text in names.items()), pl.all())


def _hit(cutoff: int) -> pl.Expr:
    return (pl.col("rank") <= cutoff).cast(pl.Float64)


def _reciprocal(cutoff: int) -> pl.Expr:
    return pl.when(pl.col("rank") <= cutoff).then(1 / pl.col("rank")).otherwise(0.0)


def _gain(cutoff: int) -> pl.Expr:
    """Return each case's NDCG: with one relevant item the ideal is 1."""
    return pl.when(pl.col("rank") <= cutoff).then(1 / (pl.col("rank") + 1).log(2)).otherwise(0.0)


def scores(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, metric, cutoff, value: the means over the test cases (Section 4.3)."""
    values = {
        (metric, cutoff): value(cutoff).mean()
        for cutoff in grid.CUTOFFS
        for metric, value in {
            "recall": _hit,
            "mrr": _reciprocal,
            "precision": lambda n: _hit(n) / n,
            "ndcg": _gain,
        }.items()
    }
    return _long(ranks.group_by("seed").agg(*(v.alias(f"{m}@{n}") for (m, n), v in values.items())))


def recommended(shown: pl.DataFrame, support: pl.DataFrame) -> pl.DataFrame:
    """Return seed, metric, cutoff, value of what is recommended.

    coverage: the share of the items that are recommended at least once. popularity: the mean
    number of training events of an item recommended, over all places of all lists.
    """
    events = (pl.col("times") * pl.col("support")).sum() / pl.col("times").sum()
    return (
        shown.join(support, on="item")
        .group_by("seed", "cutoff")
        .agg(coverage=pl.len() / len(support), popularity=events)
        .unpivot(index=["seed", "cutoff"], variable_name="metric")
        .select("seed", "metric", pl.col("cutoff").cast(pl.Int64), "value")
        .sort("seed", "cutoff", "metric")
    )


def _long(wide: pl.DataFrame) -> pl.DataFrame:
    """Turn columns metric@cutoff into rows."""
    name = pl.col("name").str.split_exact("@", 1)
    return (
        wide.unpivot(index="seed", variable_name="name")
        .select(
            "seed",
            name.struct[0].alias("metric"),
            name.struct[1].cast(pl.Int64).alias("cutoff"),
            "value",
        )
        .sort("seed", "cutoff", "metric")
    )


def by_history(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, group, sessions, recall, mrr: Figures 3 and 4.

    "For each algorithm, we compute the average Recall@5 and MRR@5 per test session grouped by
    history length" (Section 4.3.1): first over a session's cases, then over the sessions.
    """
    short = pl.when(pl.col("history") <= SHORT_HISTORY).then(pl.lit("short"))
    return (
        ranks.group_by("seed", "session", "history")
        .agg(recall=_hit(CUTOFF).mean(), mrr=_reciprocal(CUTOFF).mean())
        .group_by("seed", short.otherwise(pl.lit("long")).alias("group"))
        .agg(pl.len().alias("sessions"), pl.col("recall", "mrr").mean())
        .sort("seed", pl.col("group") == "long")
    )


def by_position(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return seed, group, cases, recall, mrr: Figures 5 and 6, sessions of 5 events or more.

    "Beginning refers to the first 2 events of the session, Middle to the 3rd and 4th, and End to
    any event after the 4th" (Section 4.3.2), by the event that is predicted. The first never is,
    so Beginning is the second.
    """
    event = pl.col("position") + 1
    group = (
        pl.when(event <= 2).then(pl.lit("1-2")).when(event <= 4).then(pl.lit("3-4")).otherwise(
            pl.lit("5+")
        )
    )  # fmt: skip
    return (
        ranks.filter(event.max().over("seed", "session") >= LONG_SESSION)
        .group_by("seed", group.alias("group"))
        .agg(pl.len().alias("cases"), recall=_hit(CUTOFF).mean(), mrr=_reciprocal(CUTOFF).mean())
        .sort("seed", "group")
    )


def by_case(ranks: pl.DataFrame) -> pl.DataFrame:
    """Return each test case's means over the seeds: session, position, recall@5, mrr@5."""
    means = {f"recall@{CUTOFF}": _hit(CUTOFF).mean(), f"mrr@{CUTOFF}": _reciprocal(CUTOFF).mean()}
    return ranks.group_by(CASE).agg(**means).sort(CASE)


def pairs(rows: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (size, a, b): the comparisons that the marks of Table 3 tell of, where both ran."""
    for size in grid.SIZES:
        rnn, concat, all_, init = (f"{model}_{size}" for model in PAPER_NETWORKS)
        wanted = [(concat, rnn), (all_, rnn), (init, rnn), (all_, concat), (init, concat)]
        wanted += [(init, all_), *itertools.product((rnn, concat, all_, init), PAPER_BASELINES)]
        yield from ((size, a, b) for a, b in wanted if a in rows and b in rows)


def tests(cases: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the Wilcoxon signed-rank tests between rows: size, metric, a, b, cases, statistic, p.

    cases: `by_case` by row. Raises ValueError if two rows were tested on other cases.
    """
    found = [(size, *line) for size, a, b in pairs(list(cases)) for line in compared(cases, a, b)]
    return frame(("size", "metric", "a", "b", "cases", "statistic", "p"), found)


def compared(
    cases: Mapping[str, pl.DataFrame], a: str, b: str
) -> Iterator[tuple[str, str, str, int, float, float]]:
    """Yield metric, a, b, cases, statistic and p of two rows; see `tests`."""
    if not cases[a].select(CASE).equals(cases[b].select(CASE)):
        raise ValueError(f"{a} and {b} were tested on different cases")
    for metric in (f"recall@{CUTOFF}", f"mrr@{CUTOFF}"):
        x, y = (cases[row][metric].to_numpy() for row in (a, b))
        yield (metric, a, b, len(x), *significance.signed_rank(x, y))


def data_table(data: Mapping[str, Mapping[str, Any]], command: str) -> pl.DataFrame:
    """Return column, key, value: Tables 1 and 4 and what the data are."""
    found = []
    for column, meta in data.items():
        about = {
            "title": meta["title"],
            "data": meta["data"],
            "shape": meta["shape"] or "",
            "paper": "yes" if is_papers(meta) else "no",
            "command": command,
            **statistics.cells(meta),
        }
        found += [(column, key, value) for key, value in about.items()]
    return frame(("column", "key", "value"), found)


def is_papers(meta: Mapping[str, Any]) -> bool:
    """Say whether a log is the paper's own: a real one whose counts are those of Table 1."""
    paper = statistics.PAPER.get(meta["shape"] or "")
    if paper is None or meta["data"] != "real":
        return False
    counted = [key for key in ("users", "items", "sessions", "events") if paper[key][-1].isdigit()]
    theirs = {key: int(paper[key].replace(",", "")) for key in counted}
    return len(counted) == 4 and all(
        abs(meta["table1"][key] / theirs[key] - 1) <= CLOSE for key in counted
    )


def hyper_table(runs: Sequence[grid.Run]) -> pl.DataFrame:
    """Return column, row, key, value: the settings that the runs recorded, Table 2."""
    found = {}
    for run in runs:
        recipe = json.loads((run.folder / "recipe.json").read_text())
        settings = {key: value for part in SETTINGS for key, value in recipe.get(part, {}).items()}
        if run.row.size:
            settings["epochs"] = run_folder.read_metrics(run.folder)["epochs"]
        unused = {"name", "variant", "n_items", "chunk_steps"}
        if run.row.model != "hrnn_all":
            unused.add("user_input")
        for key in settings.keys() - unused:
            found[run.column.key, run.row.key, key] = str(settings[key])
    return frame(("column", "row", "key", "value"), [(*k, v) for k, v in sorted(found.items())])


def run_table(runs: Sequence[grid.Run]) -> pl.DataFrame:
    """Return a line per finished run."""
    found = []
    for run in runs:
        metrics = run_folder.read_metrics(run.folder)
        [own] = metrics["per_seed"]
        speeds = ("train_seconds", "train_events_per_second", "eval_cases_per_second")
        values = [None if own[name] is None else round(own[name], 3) for name in speeds]
        made = [metrics["made"][name] for name in ("commit", "machine", "finished")]
        cell = (run.column.key, run.row.key, run.seed, own["cases"], metrics["epochs"])
        found.append((*cell, *values, *made))
    names = ("column", "row", "seed", "cases", "epochs", *speeds, "commit", "machine", "finished")
    return frame(names, found)


def ordered(runs: Sequence[grid.Run], rows: Sequence[str]) -> list[grid.Run]:
    """Bring the runs of a column together, and then those of a row, in the order of `rows`."""
    columns = list(dict.fromkeys(run.column.key for run in runs))
    return sorted(runs, key=lambda r: (columns.index(r.column.key), rows.index(r.row.key), r.seed))


def frame(names: Sequence[str], lines: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Make a table of lines."""
    return pl.DataFrame(lines, schema=list(names), orient="row", infer_schema_length=None)
