"""Published figures beside ours by the same protocol, in experiments/results/protocols.

python -m tests.docs.published experiments/results/protocols/beauty.csv RUN_FOLDER ..

puts the figures of finished runs into such a file, in place of those of the same row; the published
ones stay. Runs of one row with different seeds make one row. `python -m tests.docs.tables` makes
the pages' tables of it, where the comment has `kind: published`.

`epochs` is the most that a network may be trained, `trained` for how many each seed was.

A row has the means over its `cases`, of several seeds their mean and standard deviation. Papers
count every user as a case, also those whose target no training event has, and these are missed: in
tables the means are over all `users`.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence

import polars as pl

from experiments.common import cli, run_folder
from experiments.folders import row_names
from experiments.rendering.markdown import DASH

METRICS = {"recall@10": "Recall@10", "ndcg@10": "NDCG@10"}
ORIGINS = {  # columns of a table: whether it trains on the validation event, and the head
    None: "published",
    False: "here, not trained on the validation case",
    True: "here, trained on it too",
}
PLACES = 4
_WITH = {  # flags that a row's name tells
    "exclude_session_items": ", without the user's items",
    "residual": ", with a residual connection",
    "norecurrent_dropout": ", without recurrent dropout",
}
_SPREAD = "{} sd"  # column of the sample standard deviation of a metric over the seeds
_KEY = ("row", "trains_on_validation")
_SCHEMA = {
    "row": pl.String,
    "trains_on_validation": pl.Boolean,
    "origin": pl.String,
    "cases": pl.Int64,
    "users": pl.Int64,
    "recall@10": pl.Float64,
    "ndcg@10": pl.Float64,
    **dict.fromkeys(map(_SPREAD.format, METRICS), pl.Float64),
    "seeds": pl.Int64,
    "epochs": pl.Int64,
    "trained": pl.String,
    "commit": pl.String,
    "command": pl.String,
}


def table(path: pathlib.Path) -> str:
    """Return the table of a file, in which the best of each metric in a column is bold."""
    found = read(path)
    rows = found["row"].unique(maintain_order=True).to_list()
    heads = [" / ".join(METRICS.values()), *ORIGINS.values()]
    lines = [heads, ["---", *["---:"] * len(ORIGINS)]]
    cells = {origin: _cells(found, rows, origin) for origin in ORIGINS}
    lines += [[row, *(cells[origin][row] for origin in ORIGINS)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read(path: pathlib.Path) -> pl.DataFrame:
    """Read a file: a row for each published row, and each run."""
    return pl.read_csv(path, schema=_SCHEMA)


def over_users(found: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with means over all users."""
    share = pl.col("cases") / pl.col("users")
    columns = (*METRICS, *map(_SPREAD.format, METRICS))
    return found.with_columns(pl.col(name) * share for name in columns)


def _cells(found: pl.DataFrame, rows: Sequence[str], origin: bool | None) -> dict[str, str]:
    of_column = over_users(found).filter(pl.col(_KEY[1]).eq_missing(origin))
    best = {metric: of_column[metric].max() for metric in METRICS}
    cells = dict.fromkeys(rows, DASH)
    for row in of_column.iter_rows(named=True):
        texts = []
        for metric in METRICS:
            mean, spread = row[metric], row[_SPREAD.format(metric)]
            text = f"{mean:.{PLACES}f}"
            text = f"**{text}**" if mean == best[metric] else text
            texts.append(text if spread is None else f"{text} ± {spread:.{PLACES}f}")
        cells[row["row"]] = " / ".join(texts)
    return cells


def measured(folders: Sequence[pathlib.Path]) -> list[dict[str, object]]:
    """Return the rows of finished runs: one of those that differ in the seed alone."""
    runs = pl.DataFrame(
        [run for folder in folders for run in _seeds(folder)], infer_schema_length=None
    )
    others = [pl.col(name).first() for name in ("origin", "cases", "users", "epochs", "commit")]
    means = [pl.col(metric).mean() for metric in METRICS]
    spreads = [pl.col(metric).std().alias(_SPREAD.format(metric)) for metric in METRICS]
    seeds = pl.col("seed").sort()
    rows = runs.group_by(*_KEY, "command", maintain_order=True).agg(
        *others,
        *means,
        *spreads,
        seeds.len().alias("seeds"),
        seeds.alias("of_seeds"),
        pl.col("trained").sort_by("seed").str.join(" "),
    )
    more = pl.format(" --seeds={}", pl.col("of_seeds").cast(pl.List(pl.String)).list.join(","))
    given = pl.when(pl.col("seeds") > 1).then(more).otherwise(pl.lit(""))
    return rows.with_columns(pl.col("command") + given).select(*_SCHEMA).to_dicts()


def _seeds(folder: pathlib.Path) -> list[dict[str, object]]:
    """Return what is in a row of each seed of a finished run."""
    about = json.loads((folder / "metrics.json").read_text())
    flags = (folder / "flags").read_text().split()
    with_validation = "--train_on_validation" in flags
    given = dict(map(cli.split, flags))
    is_network, model = about["epochs"] > 0, f"--model={given['model']}"
    if is_network:
        model = f"--flagfile=hrnn_plus.flags --epochs={about['epochs']}"
    name, *changed = row_names.title(folder, about).split(" --")
    command = [
        ".venv/bin/python -m experiments.run",
        model,
        f"--dataset=sequences --events={pathlib.Path(given['events']).name} --cutoffs=5,10",
        *(["--train_on_validation"] if with_validation else []),
        *(f"--{flag}" for flag in changed),
    ]
    of_run: dict[str, object] = {
        "row": "".join([name, *(text for flag, text in _WITH.items() if flag in changed)]),
        "trains_on_validation": with_validation,
        "origin": "measured",
        "users": about["users"],
        "epochs": about["epochs"],
        "commit": about["made"]["commit"],
        "command": " ".join(command),
    }
    trained = Counter(entry["seed"] for entry in run_folder.read_history(folder))
    names = ("seed", "cases", *METRICS)
    return [
        of_run
        | {name: of_seed[name] for name in names}
        | {"trained": str(trained[of_seed["seed"]]) if is_network else None}
        for of_seed in about["per_seed"]
    ]


def main(path: pathlib.Path, folders: Sequence[pathlib.Path]) -> None:
    """Put the figures of runs into a file."""
    old = read(path)
    new = pl.DataFrame(measured(folders), schema=_SCHEMA)
    kept = old.join(new.select(_KEY), on=_KEY, how="anti", nulls_equal=True)
    pl.concat([kept, new]).write_csv(path)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), [pathlib.Path(folder) for folder in sys.argv[2:]])
