"""The report's tables: the paper's, and what goes further, from the findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hrnn_jax.preprocess import statistics as preprocess_statistics

from ..common.spread import Spread
from ..common.text import duration
from ..rendering.markdown import (
    DASH,
    Cell,
    Group,
    Section,
    Table,
)
from . import numbers, results
from .results import Column, Findings

SHARES = ("short", "long")  # of describe.ROWS, Table 4's
SETTINGS = {
    "Units": ("hidden_units",),
    "Batch size": ("batch_size",),
    "Dropout": ("dropout_user", "dropout_session", "dropout_init"),
    "Learning rate / momentum": ("learning_rate", "momentum"),
    "Loss": ("loss",),
    "Optimizer": ("optimizer",),
    "Epochs": ("epochs",),
}
FURTHER = (
    *(("recall", cutoff) for cutoff in (1, 10, 20)),
    *(("mrr", cutoff) for cutoff in (10, 20)),
    *(("ndcg", cutoff) for cutoff in (5, 10, 20)),
    *(("coverage", 5), ("popularity", 5)),
)
METRICS = {**{"recall": "Recall", "mrr": "MRR", "ndcg": "NDCG"}, "coverage": "Coverage"}
METRICS |= {"popularity": "Popularity"}
GAINS = {
    f"{numbers.NETWORKS[model]} over {(numbers.NETWORKS | numbers.BASELINES)[base]}": (model, base)
    for base in ("rnn", "rnn_concat", "ppop")
    for model in ("hrnn_all", "hrnn_init")
}


def statistics(columns: Sequence[Column], keys: Sequence[str], caption: str) -> Table:
    """Lay out Table 1 or 4, the paper's column beside where the data have its shape."""
    groups, values = [], []
    for column in columns:
        printed = preprocess_statistics.PAPER.get(column.shape, {})
        groups.append(Group(column.label, ["here", "paper"] if printed else ["here"]))
        values += [column.cells, printed] if printed else [column.cells]
    rows = [
        (
            preprocess_statistics.ROWS[key],
            [Cell(cells.get(key) or DASH) for cells in values],
        )
        for key in keys
    ]
    return Table(caption, "Dataset", groups, [Section("", rows)])


def settings(found: Findings) -> Table:
    """Lay out Table 2: what the runs used, the paper's value beside where it is another."""
    used = {row: None for _, row in found.hyper}  # a set would lose the order
    rows = [row for row in results.NAMES if row in used]
    shown = {key for keys in SETTINGS.values() for key in keys}
    lines = []
    for row in rows:
        cells = [_setting(found, row, _of_row(row, keys)) for keys in SETTINGS.values()]
        keys = {key: None for (_, of), given in found.hyper.items() if of == row for key in given}
        others = {key: _setting(found, row, (key,)) for key in keys if key not in shown}
        text = ", ".join(f"{key} {cell.text} {cell.note}".rstrip() for key, cell in others.items())
        lines.append((results.NAMES[row], [*cells, Cell(text or DASH)]))
    return Table(
        caption="Table 2: settings of the runs, and the paper's (tuned on XING) where they differ",
        corner="Model",
        groups=[Group("", [*SETTINGS, "Other settings"], words=True)],
        sections=[Section("", lines)],
        notes=(
            "Dropout of an HRNN: user-level GRU / session-level GRU / initialisation.",
            "‡: not the paper's value, which stands in brackets. Where a setting depends on the "
            "data, each value names its own.",
        ),
    )


def scores(found: Findings, columns: Sequence[Column], rows: Iterable[str], caption: str) -> Table:
    """Lay out Table 3 or 5 with the paper's marks, its numbers only beside those of its data."""
    rows = set(rows)
    groups = []
    for column in columns:
        heads = []
        for name in numbers.METRICS.values():
            heads += [name, f"{name}, paper"] if column.papers_own else [name]
        groups.append(Group(column.label, [*heads, "n"]))
    best = results.best(found, columns, rows, numbers.METRICS)
    sections = []
    for title, names in results.SECTIONS.items():
        lines = []
        for row, name in names.items():
            if row not in rows:
                continue
            cells = []
            for column in columns:
                for metric in numbers.METRICS:
                    cells.append(_score(found, column, row, metric, best[column.key, metric]))
                    if column.papers_own:
                        cells.append(_number(numbers.score(column.shape, row, metric)))
                spread = results.score(found, column.key, row, "recall")
                cells.append(Cell(str(spread.n)) if spread else Cell())
            lines.append((name, cells))
        if lines:
            sections.append(Section(title, lines))
    return Table(caption, "Model", groups, sections)


def gains(found: Findings, columns: Sequence[Column], caption: str) -> Table | None:
    """Lay out the HRNNs' relative gains, the paper's beside ours; None where there are none."""
    metrics = [metric for metric in numbers.METRICS if metric != "precision"]  # gains as Recall
    groups = []
    for column in columns:
        kinds = ("paper", "here") if column.shape in numbers.SCORES else ("here",)
        groups.append(
            Group(
                column.label, [f"{numbers.METRICS[m]}, {kind}" for m in metrics for kind in kinds]
            )
        )
    sections = []
    for size in numbers.SIZES:
        lines = []
        for name, (model, base) in GAINS.items():
            row, over = f"{model}_{size}", base if base in numbers.BASELINES else f"{base}_{size}"
            cells = []
            for column in columns:
                for metric in metrics:
                    if column.shape in numbers.SCORES:
                        cells.append(_percent(numbers.gain(column.shape, row, over, metric)))
                    cells.append(_percent(results.gain(found, column.key, row, over, metric)))
            if any(cell != Cell() for cell in cells):
                lines.append((name, cells))
        if lines:
            sections.append(Section(size, lines))
    return Table(caption, "Relative gain", groups, sections) if sections else None


def further(found: Findings, column: Column, rows: Iterable[str]) -> Table:
    """Lay out the other cutoffs and metrics of one data set."""
    rows = set(rows)
    sections = [
        Section(
            title,
            [
                (
                    name,
                    [
                        _mean(
                            results.score(found, column.key, row, metric, cutoff),
                            places=1 if metric == "popularity" else 4,  # it counts events
                        )
                        for metric, cutoff in FURTHER
                    ],
                )
                for row, name in names.items()
                if row in rows
            ],
        )
        for title, names in results.SECTIONS.items()
    ]
    return Table(
        caption=f"Other list lengths and metrics on {column.label}",
        corner="Model",
        groups=[Group(column.label, [f"{METRICS[m]}@{cutoff}" for m, cutoff in FURTHER])],
        sections=[section for section in sections if section.rows],
    )


def costs(found: Findings, columns: Sequence[Column], caption: str) -> Table:
    """Lay out how long a run takes, and at which rates."""
    rows = [row for row in results.NAMES if any(run["row"] == row for run in found.runs)]
    lines = []
    for row in rows:
        cells = []
        for column in columns:
            runs = [r for r in found.runs if (r["column"], r["row"]) == (column.key, row)]
            cells.append(Cell(str(len(runs)) if runs else DASH))
            for key, show in (
                ("train_seconds", duration),
                ("train_events_per_second", "{:,.0f}".format),
                ("eval_cases_per_second", "{:,.0f}".format),
            ):
                values = tuple(run[key] for run in runs if run[key] is not None)
                cells.append(Cell(show(Spread(values).mean)) if values else Cell())
        lines.append((results.NAMES[row], cells))
    heads = ["runs", "training", "events / s", "cases / s"]
    table_groups = [Group(column.label, heads) for column in columns]
    return Table(caption, "Model", table_groups, [Section("", lines)])


def failures(found: Findings) -> Table:
    """Lay out the runs that failed, and why."""
    lines = [
        (
            results.NAMES[run["row"]],
            [
                Cell(found.columns[run["column"]].label),
                Cell(str(run["seed"])),
                Cell(run["reason"] or DASH),
            ],
        )
        for run in found.failed
    ]
    heads = [Group("", ["Data", "Seed", "Reason"], words=True)]
    return Table("Runs that failed", "Model", heads, [Section("", lines)])


def _of_row(row: str, keys: Sequence[str]) -> tuple[str, ...]:
    hierarchical = row.startswith("hrnn")  # only these have a user-level GRU to drop units of
    return tuple(k for k in keys if hierarchical or k not in ("dropout_user", "dropout_init"))


def _setting(found: Findings, row: str, keys: Sequence[str]) -> Cell:
    printed = _joined(numbers.TABLE2.get(row, {}), keys)
    by_text: dict[str, list[str]] = {}
    for column in found.columns.values():
        if text := _joined(found.hyper.get((column.key, row), {}), keys):
            by_text.setdefault(text, []).append(column.name)
    marks = {text: "‡" if printed and text != printed else "" for text in by_text}
    if len(by_text) == 1:
        [text] = by_text
        shown = text + marks[text]
    else:
        shown = "; ".join(f"{t}{marks[t]} ({', '.join(names)})" for t, names in by_text.items())
    return Cell(shown or DASH, note=f"(paper: {printed})" if any(marks.values()) else "")


def _joined(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """Join settings as in Table 2, 0.10 as 0.1; "" where none is given."""
    if not any(key in values for key in keys):
        return ""
    return "/".join(_tidy(values.get(key, DASH)) for key in keys)


def _tidy(value: str) -> str:
    try:
        return f"{float(value):.10g}"
    except ValueError:
        return value


def _score(found: Findings, column: Column, row: str, metric: str, best: float | None) -> Cell:
    spread = results.score(found, column.key, row, metric)
    if spread is None:
        return Cell()
    model, _, size = row.rpartition("_")
    network, hierarchical = row in results.NETWORKS, row.startswith("hrnn")

    def differs(a: str, b: str) -> bool | None:
        return results.differ(found, column.key, f"{a}_{size}", f"{b}_{size}", metric)

    return Cell(
        text=f"{spread.mean:.4f}",
        note=_std(spread),
        bold=round(spread.mean, 4) == best,
        italic=network and model != "rnn" and differs(model, "rnn") is True,
        underlined=hierarchical and differs(model, "rnn_concat") is True,
        mark="†" if hierarchical and differs("hrnn_all", "hrnn_init") is False else "",
    )


def _mean(spread: Spread | None, places: int) -> Cell:
    return Cell(f"{spread.mean:,.{places}f}", note=_std(spread, places)) if spread else Cell()


def _std(spread: Spread, places: int = 4) -> str:
    return "" if spread.std is None else f"± {spread.std:,.{places}f}"


def _number(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{value:.4f}")


def _percent(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{value:+.1%}")
