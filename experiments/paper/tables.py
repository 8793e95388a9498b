"""The report's tables: Tables 1 to 5 with the marks of significance, gains, costs, failures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hrnn_jax.preprocess import statistics

from ..common.model_names import NAMES, PAPER_BASELINES, SIZES
from ..common.text import Spread, duration
from ..rendering.markdown import DASH, Cell, Group, Section, Table
from .numbers import METRICS, SCORES, TABLE2, paper_gain, paper_score
from .results import NETWORK_ROWS, ROW_NAMES, ROW_SECTIONS, Column, Results

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
HRNN_SETTINGS = ("dropout_user", "dropout_init")  # of the user-level GRU
# (metric, cutoff, head, decimal places) of the table of other list lengths and metrics.
FURTHER = (
    *(("recall", cutoff, "Recall", 4) for cutoff in (1, 10, 20)),
    *(("mrr", cutoff, "MRR", 4) for cutoff in (10, 20)),
    *(("ndcg", cutoff, "NDCG", 4) for cutoff in (5, 10, 20)),
    ("coverage", 5, "Coverage", 4),
    ("popularity", 5, "Popularity", 1),
)
GAINS = {
    f"{NAMES[model]} over {NAMES[base]}": (model, base)
    for base in ("rnn", "rnn_concat", "ppop")
    for model in ("hrnn_all", "hrnn_init")
}


def data_table(columns: Sequence[Column], keys: Sequence[str], caption: str) -> Table:
    """Lay out Table 1 or 4, with the paper's numbers for data of the paper's shape.

    Args:
        columns: the data sets.
        keys: those of `statistics.ROWS` that the table has.
        caption: of the table.
    """
    groups, cells_by_column = [], []
    for column in columns:
        printed = statistics.PAPER.get(column.shape, {})
        groups.append(Group(column.label, ["here", "paper"] if printed else ["here"]))
        cells_by_column += [column.cells, printed] if printed else [column.cells]
    rows = [
        (statistics.ROWS[key], [Cell(cells.get(key) or DASH) for cells in cells_by_column])
        for key in keys
    ]
    return Table(caption, "Dataset", groups, [Section("", rows)])


def settings_table(results: Results) -> Table:
    """Lay out Table 2: the settings of the runs, and the paper's where it has others."""
    shown = {key for keys in SETTINGS.values() for key in keys}
    rows = []
    for row in ROW_NAMES:
        of_row = [values for (_, name), values in results.settings.items() if name == row]
        if not of_row:
            continue
        cells = []
        for keys in SETTINGS.values():
            used = [key for key in keys if row.startswith("hrnn") or key not in HRNN_SETTINGS]
            cells.append(_setting(results, row, used))
        others = {key: None for values in of_row for key in values if key not in shown}
        texts = [(key, _setting(results, row, [key])) for key in others]
        text = ", ".join(f"{key} {cell.text} {cell.note}".rstrip() for key, cell in texts)
        rows.append((ROW_NAMES[row], [*cells, Cell(text or DASH)]))
    return Table(
        caption="Table 2: settings of the runs, and the paper's (tuned on XING) where they differ",
        corner="Model",
        groups=[Group("", [*SETTINGS, "Other settings"], words=True)],
        sections=[Section("", rows)],
        notes=(
            "Dropout of an HRNN: user-level GRU / session-level GRU / initialisation.",
            "‡: not the paper's value, which is given in brackets. Where a setting differs between "
            "data sets, each value names its own.",
        ),
    )


def _setting(results: Results, row: str, keys: Sequence[str]) -> Cell:
    printed = _joined(TABLE2.get(row, {}), keys)
    columns: dict[str, list[str]] = {}  # by text
    for column in results.columns.values():
        if text := _joined(results.settings.get((column.key, row), {}), keys):
            columns.setdefault(text, []).append(column.name)
    marks = {text: "‡" if printed and text != printed else "" for text in columns}
    texts = [
        text + marks[text] + (f" ({', '.join(names)})" if len(columns) > 1 else "")
        for text, names in columns.items()
    ]
    note = f"(paper: {printed})" if any(marks.values()) else ""
    return Cell("; ".join(texts) or DASH, note=note)


def _joined(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """Join settings as Table 2 does; "" where none is given."""
    if not any(key in values for key in keys):
        return ""
    return "/".join(_tidy(values.get(key, DASH)) for key in keys)


def _tidy(value: str) -> str:
    """Format a number as Table 2 does: 0.10 is 0.1."""
    try:
        return f"{float(value):.10g}"
    except ValueError:
        return value


def score_table(
    results: Results, columns: Sequence[Column], rows: Collection[str], caption: str
) -> Table:
    """Lay out Table 3 or 5 with the paper's marks; its numbers stand only beside its own data.

    Args:
        results: the results.
        columns: the data sets.
        rows: the models.
        caption: of the table.
    """
    groups = []
    for column in columns:
        heads = [
            head
            for name in METRICS.values()
            for head in ([name, f"{name}, paper"] if column.paper_data else [name])
        ]
        groups.append(Group(column.label, [*heads, "n"]))
    cells = {
        row: [cell for column in columns for cell in _scores(results, column, row, rows)]
        for row in rows
    }
    return Table(caption, "Model", groups, _sections(cells))


def _sections(cells: Mapping[str, Sequence[Cell]]) -> list[Section]:
    """Put rows, which are given by key, into the order of the tables."""
    sections = [
        Section(title, [(name, cells[row]) for row, name in names.items() if row in cells])
        for title, names in ROW_SECTIONS.items()
    ]
    return [section for section in sections if section.rows]


def _scores(results: Results, column: Column, row: str, rows: Collection[str]) -> list[Cell]:
    """Return a row's cells of one data set; the best of all `rows` is bold."""
    cells = []
    for metric in METRICS:
        cells.append(_score(results, column.key, row, metric, rows))
        if column.paper_data:
            printed = paper_score(column.shape, row, metric)
            cells.append(Cell() if printed is None else Cell(f"{printed:.4f}"))
    spread = results.score(column.key, row, "recall")
    return [*cells, Cell(str(spread.n)) if spread else Cell()]


def _score(results: Results, column: str, row: str, metric: str, rows: Collection[str]) -> Cell:
    """Return a mean with Table 3's marks of significance."""
    spread = results.score(column, row, metric)
    if spread is None:
        return Cell()
    model, _, size = row.rpartition("_")
    network, hierarchical = row in NETWORK_ROWS, row.startswith("hrnn")

    def differ(a: str, b: str) -> bool | None:
        return results.differ(column, f"{a}_{size}", f"{b}_{size}", metric)

    return Cell(
        text=f"{spread.mean:.4f}",
        note=plus_minus(spread),
        bold=round(spread.mean, 4) == results.best(column, rows, metric),
        italic=network and model != "rnn" and differ(model, "rnn") is True,
        underlined=hierarchical and differ(model, "rnn_concat") is True,
        mark="†" if hierarchical and differ("hrnn_all", "hrnn_init") is False else "",
    )


def gain_table(results: Results, columns: Sequence[Column], caption: str) -> Table | None:
    """Lay out the HRNNs' relative gains next to the paper's; None where there are none."""
    metrics = [metric for metric in METRICS if metric != "precision"]  # its gains are Recall's
    groups = []
    for column in columns:
        kinds = ("paper", "here") if column.shape in SCORES else ("here",)
        heads = [f"{METRICS[metric]}, {kind}" for metric in metrics for kind in kinds]
        groups.append(Group(column.label, heads))

    def gains(row: str, base: str) -> list[Cell]:
        cells = []
        for column in columns:
            for metric in metrics:
                if column.shape in SCORES:
                    cells.append(_percent(paper_gain(column.shape, row, base, metric)))
                cells.append(_percent(results.gain(column.key, row, base, metric)))
        return cells

    sections = []
    for size in SIZES:
        lines = []
        for name, (model, base) in GAINS.items():
            cells = gains(f"{model}_{size}", base if base in PAPER_BASELINES else f"{base}_{size}")
            if any(cell != Cell() for cell in cells):
                lines.append((name, cells))
        if lines:
            sections.append(Section(size, lines))
    return Table(caption, "Relative gain", groups, sections) if sections else None


def further_table(results: Results, column: Column, rows: Collection[str]) -> Table:
    """Lay out the other list lengths and metrics of one data set."""

    def cell(row: str, metric: str, cutoff: int, places: int) -> Cell:
        spread = results.score(column.key, row, metric, cutoff)
        if spread is None:
            return Cell()
        return Cell(f"{spread.mean:,.{places}f}", note=plus_minus(spread, places))

    cells = {
        row: [cell(row, metric, n, places) for metric, n, _, places in FURTHER] for row in rows
    }
    return Table(
        caption=f"Other list lengths and metrics on {column.label}",
        corner="Model",
        groups=[Group(column.label, [f"{head}@{cutoff}" for _, cutoff, head, _ in FURTHER])],
        sections=_sections(cells),
    )


def cost_table(results: Results, columns: Sequence[Column], caption: str) -> Table:
    """Lay out the time of a run and its rates, as means over the runs."""
    shown = {
        "train_seconds": ("training", duration),
        "train_events_per_second": ("events / s", "{:,.0f}".format),
        "eval_cases_per_second": ("cases / s", "{:,.0f}".format),
    }
    lines = []
    for row in ROW_NAMES:
        cells = []
        for column in columns:
            runs = [r for r in results.runs if (r["column"], r["row"]) == (column.key, row)]
            cells.append(Cell(str(len(runs)) if runs else DASH))
            for key, (_, show) in shown.items():
                values = tuple(run[key] for run in runs if run[key] is not None)
                cells.append(Cell(show(Spread(values).mean)) if values else Cell())
        if any(cell != Cell() for cell in cells):
            lines.append((ROW_NAMES[row], cells))
    heads = ["runs", *(head for head, _ in shown.values())]
    groups = [Group(column.label, heads) for column in columns]
    return Table(caption, "Model", groups, [Section("", lines)])


def failure_table(results: Results) -> Table:
    """Lay out the runs that failed, and the reasons."""
    lines = []
    for run in results.failed:
        label = results.columns[run["column"]].label
        cells = [Cell(label), Cell(str(run["seed"])), Cell(run["reason"] or DASH)]
        lines.append((ROW_NAMES[run["row"]], cells))
    groups = [Group("", ["Data", "Seed", "Reason"], words=True)]
    return Table("Runs that failed", "Model", groups, [Section("", lines)])


def plus_minus(spread: Spread, places: int = 4) -> str:
    """Format the standard deviation that stands after a mean; "" of a single value."""
    return "" if spread.std is None else f"± {spread.std:,.{places}f}"


def _percent(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{value:+.1%}")
