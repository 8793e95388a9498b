"""The report's tables: Tables 1 to 5 with the marks of significance, gains, costs, failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.preprocess import statistics

from ..common.model_names import NAMES, PAPER_NETWORKS
from ..common.text import Spread, duration, short
from ..jobs.paper_rows import NETWORKS, ROWS, reference
from ..rendering.markdown import DASH, Cell, Table
from .numbers import HEADLINES, METRICS, SCORES, TABLE2, paper_gain, paper_score
from .results import NOT_TRAINED, ROW_NAMES, ROW_SECTIONS, Column, Results

TABLE_4 = ("short", "long")  # the keys of statistics.ROWS in Table 4; Table 1 has the others
SETTINGS = {
    "Units": ("hidden_units",),
    "Batch size": ("batch_size",),
    "Dropout": ("dropout_user", "dropout_session", "dropout_init"),
    "Learning rate / momentum": ("learning_rate", "momentum"),
    "Loss": ("loss",),
    "Optimizer": ("optimizer",),
    "Epochs": ("epochs",),
}
DEFAULTS = {  # of a network, as hyper.csv has values
    field.name: str(field.default)
    for config in (ModelConfig, TrainConfig)
    for field in dataclasses.fields(config)
}
HRNN_SETTINGS = ("dropout_user", "dropout_init")  # of the user-level GRU
# (metric, cutoff, head, decimal places) of the table of other list lengths and metrics.
FURTHER = (
    *(("recall", cutoff, "Recall", 4) for cutoff in (1, 10, 20)),
    *(("mrr", cutoff, "MRR", 4) for cutoff in (10, 20)),
    *(("ndcg", cutoff, "NDCG", 4) for cutoff in (5, 10, 20)),
    ("coverage", 5, "Coverage", 4),
    ("popularity", 5, "Popularity", 1),
)
OVER = ("rnn", "rnn_concat", "ppop")  # what the table of gains compares an HRNN with
# By column of a frame: the head in the table, and how a value is shown.
Formats = Mapping[str, tuple[str, Callable[[Any], str]]]
COSTS: Formats = {
    "runs": ("runs", str),
    "train_seconds": ("training", duration),
    "train_events_per_second": ("events / s", "{:,.0f}".format),
    "eval_cases_per_second": ("cases / s", "{:,.0f}".format),
}


def data_table(columns: Sequence[Column], keys: Sequence[str], caption: str) -> Table:
    """Lay out Table 1 or 4, with the paper's numbers for data of the paper's shape.

    Args:
        columns: the data sets.
        keys: those of `statistics.ROWS` that the table has.
        caption: of the table.
    """
    groups = {}
    for column in columns:
        of_head = {"here": column.cells, "paper": statistics.PAPER.get(column.shape, {})}
        groups[column.label] = {
            head: {key: Cell(cells.get(key) or DASH) for key in keys}
            for head, cells in of_head.items()
            if cells
        }
    return Table(
        caption=caption,
        corner="Dataset",
        groups=groups,
        sections={"": {key: statistics.ROWS[key] for key in keys}},
    )


def settings_table(results: Results) -> Table:
    """Lay out Table 2: the settings of the runs, and the paper's where it has others."""
    settings: dict[str, dict[str, dict[str, str]]] = {}  # by row, then by column
    for column, row, key, value in results.frames["hyper"].iter_rows():
        settings.setdefault(row, {}).setdefault(column, {})[key] = value or ""
    shown = {key for keys in SETTINGS.values() for key in keys}
    heads: dict[str, dict[str, Cell]] = {head: {} for head in (*SETTINGS, "Other settings")}
    for row, of_row in settings.items():
        cell = partial(_setting, results, of_row, TABLE2.get(ROWS[row].printed, {}))
        for head, keys in SETTINGS.items():
            used = [key for key in keys if ROWS[row].is_hrnn or key not in HRNN_SETTINGS]
            heads[head][row] = cell(used)
        others = {
            key: cell([key])
            for values in of_row.values()
            for key, value in values.items()
            if key not in shown and not (ROWS[row].size and value == DEFAULTS.get(key))
        }
        texts = [f"{key} {of.text} {of.note}".rstrip() for key, of in others.items()]
        heads["Other settings"][row] = Cell(", ".join(texts) or DASH)
    return Table(
        caption="Table 2: settings of the runs, and the paper's (tuned on XING) where they differ",
        corner="Model",
        groups={"": heads},
        sections={"": ROW_NAMES},
        notes=(
            "Dropout of an HRNN: user-level GRU / session-level GRU / initialisation.",
            "Other settings: those of a network that are not the defaults of experiments.run; "
            "hyper.csv has all.",
            "‡: not the paper's value, which is given in brackets. Where a setting differs between "
            "data sets, each value names its own.",
        ),
    )


def _setting(
    results: Results,
    settings: Mapping[str, Mapping[str, str]],
    printed_settings: Mapping[str, str],
    keys: Sequence[str],
) -> Cell:
    """Return a row's settings `keys`, which are given by column, next to the paper's."""
    printed = _joined(printed_settings, keys)
    columns: dict[str, list[str]] = {}  # by text
    for column in results.columns.values():
        if text := _joined(settings.get(column.key, {}), keys):
            columns.setdefault(text, []).append(column.name)
    marks = {text: "‡" if printed and text != printed else "" for text in columns}
    texts = [
        text + marks[text] + (f" ({', '.join(names)})" if len(columns) > 1 else "")
        for text, names in columns.items()
    ]
    note = f"(paper: {printed})" if any(marks.values()) else ""
    return Cell("; ".join(texts) or DASH, note=note)


def _joined(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """Join settings as Table 2 does, 0.10 as 0.1; "" where none is given."""
    if not any(key in values for key in keys):
        return ""
    return "/".join(short(values.get(key, DASH)) for key in keys)


def score_table(
    results: Results, columns: Sequence[Column], rows: Collection[str], caption: str
) -> Table:
    """Lay out Table 3 or 5 with the paper's marks; its numbers stand only beside its own data.

    Args:
        results: the results.
        columns: the data sets.
        rows: the models, of which the best is bold.
        caption: of the table.
    """
    groups: dict[str, dict[str, dict[str, Cell]]] = {}
    for column in columns:
        heads = groups[column.label] = {}
        for metric, name in METRICS.items():
            heads[name] = {row: _score(results, column.key, row, rows, metric) for row in rows}
            if column.paper_data:
                printed = {row: paper_score(column.shape, row, metric) for row in rows}
                heads[f"{name}, paper"] = {
                    row: Cell(f"{value:.4f}") for row, value in printed.items() if value is not None
                }
        spreads = {row: results.score(column.key, row, "recall") for row in rows}
        heads["n"] = {row: Cell(str(spread.n)) for row, spread in spreads.items() if spread}
    return Table(caption=caption, corner="Model", groups=groups, sections=ROW_SECTIONS)


def _score(results: Results, column: str, row: str, rows: Collection[str], metric: str) -> Cell:
    """Return a mean with Table 3's marks of significance."""
    if (column, row) in results.stopped:
        return Cell(NOT_TRAINED)

    def differs(model: str) -> bool | None:
        base = reference(NETWORKS[row], model) if row in NETWORKS else None
        return results.differ(column, row, base, metric) if base and base != row else None

    hierarchical = ROWS[row].is_hrnn
    return mean_cell(
        results.score(column, row, metric),
        bold=results.is_best(column, row, rows, metric),
        italic=differs("rnn") is True,
        underlined=hierarchical and differs("rnn_concat") is True,
        mark="†" if ROWS[row].model == "hrnn_all" and differs("hrnn_init") is False else "",
    )


def gain_table(
    results: Results, columns: Sequence[Column], caption: str, rows: Collection[str]
) -> Table:
    """Lay out the relative gains of the HRNNs among some rows next to the paper's, if any."""
    sections: dict[str, dict[tuple[str, str], str]] = {}
    for over in OVER:
        for row in NETWORKS.values():
            base = reference(row, over) if over in PAPER_NETWORKS else over
            if row.is_hrnn and base and row.key in rows:
                of_section = sections.setdefault(row.section, {})
                of_section[row.key, base] = f"{row.name} over {NAMES[over]}"
    groups = {}
    for column in columns:
        kinds = {"here": partial(results.gain, column.key)}
        if column.shape in SCORES:
            kinds = {"paper": partial(paper_gain, column.shape), **kinds}
        groups[column.label] = {
            f"{name}, {kind}": {
                pair: Cell(f"{gain:+.1%}")
                for pairs in sections.values()
                for pair in pairs
                if (gain := of_kind(*pair, metric)) is not None
            }
            for metric, name in HEADLINES.items()  # Precision's gains are Recall's
            for kind, of_kind in kinds.items()
        }
    return Table(caption=caption, corner="Relative gain", groups=groups, sections=sections)


def further_table(results: Results, column: Column, rows: Collection[str]) -> Table:
    """Lay out the other list lengths and metrics of one data set."""
    heads = {
        f"{head}@{cutoff}": {
            row: Cell(NOT_TRAINED)
            if (column.key, row) in results.stopped
            else mean_cell(results.score(column.key, row, metric, cutoff), places)
            for row in rows
        }
        for metric, cutoff, head, places in FURTHER
    }
    caption = f"Other list lengths and metrics on {column.label}"
    return Table(
        caption=caption, corner="Model", groups={column.label: heads}, sections=ROW_SECTIONS
    )


def cost_table(results: Results, columns: Sequence[Column], caption: str) -> Table:
    """Lay out the time of a run and its rates, as means over the runs."""
    groups = {column.label: cells_of(costs(results, column), COSTS) for column in columns}
    return Table(caption=caption, corner="Model", groups=groups, sections={"": ROW_NAMES})


def costs(results: Results, column: Column) -> pl.DataFrame:
    """Return the number of runs of each row on a data set, and means of their times and rates."""
    means = pl.col(*(key for key in COSTS if key != "runs")).mean()
    microseconds = (1e6 / pl.col("train_events_per_second")).mean().alias("microseconds")
    runs = results.frames["runs"].filter(column=column.key)
    return runs.group_by("row").agg(pl.len().alias("runs"), means, microseconds)


def cells_of(frame: pl.DataFrame, formats: Formats, by: str = "row") -> dict[str, dict[Any, Cell]]:
    """Return a table's cells by head and row; a null has none.

    Args:
        frame: a line for each row of the table.
        formats: by column of the frame: the head, and how a value is shown.
        by: the column of the frame with the row's key.
    """
    return {
        head: {row: Cell(show(v)) for row, v in frame.select(by, name).drop_nulls().iter_rows()}
        for name, (head, show) in formats.items()
    }


def failure_table(results: Results) -> Table:
    """Lay out the runs that failed, and the reasons."""
    labels = {key: column.label for key, column in results.columns.items()}
    formats: Formats = {
        "column": ("Data", labels.__getitem__),
        "seed": ("Seed", str),
        "reason": ("Reason", str),
    }
    failed = results.frames["failed"].with_row_index()
    names = {n: ROW_NAMES[row] for n, row in failed.select("index", "row").iter_rows()}
    return Table(
        caption="Runs that failed",
        corner="Model",
        groups={"": cells_of(failed, formats, by="index")},
        sections={"": names},
    )


def mean_cell(spread: Spread | None, places: int = 4, **marks: Any) -> Cell:
    """Return a mean and its standard deviation, if there is one; a dash without values."""
    if spread is None:
        return Cell()
    deviation = "" if spread.std is None else f"± {spread.std:,.{places}f}"
    return Cell(f"{spread.mean:,.{places}f}", note=deviation, **marks)
