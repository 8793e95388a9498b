"""The tables of the tuned comparison, its marks of significance, verdicts and learning curves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable

import polars as pl

from ..common.text import Spread, duration, short
from ..paper.numbers import HEADLINES
from ..paper.results import Column, Results, spreads
from ..paper.tables import cells_of, costs, mean_cell
from ..rendering.markdown import DASH, Cell, Figure, Table
from ..rendering.plots import COUNTING, Panel, Point, draw, scatter
from .grid import NAMES, NETWORKS, PLUS, ROWS, TUNED_PLUS, WITHOUT_SEEDS
from .studies import PATIENCE

ALPHA = 0.05
WORSE, BETTER = "▾", "▴"
MARKS = (
    f"{WORSE}: significantly worse than {PLUS}, {BETTER}: significantly better; no mark: no "
    f"significant difference (p < {ALPHA} in a two-sided Wilcoxon signed-rank test, paired over "
    "the test cases on each case's mean over seeds; all p-values: significance.csv)."
)


def rows_with_runs(results: Results) -> dict[str, str]:
    """Return the names of the rows with a finished run by key, in the order of the tables."""
    rows = dict.fromkeys(row for _, row, _, _ in results.spreads["scores"])
    ordered = [row for row in ROWS if row in rows] + [row for row in rows if row not in ROWS]
    return {row: NAMES.get(row, row) for row in ordered}


def score_table(results: Results, without_session_items: Collection[str] = ()) -> Table:
    """Lay out Recall@5 and MRR@5 of all models on all logs.

    Args:
        results: of one way to rank a log.
        without_session_items: the logs that were ranked without the items of the session.
    """
    rows = {row: name for row, name in rows_with_runs(results).items() if row in NAMES}

    def cell(column: Column, row: str, metric: str) -> Cell:
        score = results.score(column.key, row, metric)
        return mean_cell(
            score,
            mark=_mark(results, column, row, metric),
            bold=results.is_best(column.key, row, rows, metric),
            italic=_is_as_good_as_the_best(results, column, row, rows, metric),
        )

    return Table(
        caption="Recall@5 and MRR@5 on the test split, tuned",
        corner="Model",
        groups=_by_metric(results, rows, cell),
        sections={"": rows},
        notes=(
            "Mean ± sample standard deviation over the seeds; the baselines do not depend on one. "
            "Bold: the best mean, as printed. Italic: does not differ significantly from the best.",
            MARKS,
            *_not_run(rows),
            *_untested(results),
            ranked_among(results.columns, without_session_items),
        ),
    )


def ranked_among(columns: Collection[str], without_session_items: Collection[str]) -> str:
    """Say which items compete with the target on each log.

    Args:
        columns: the keys of the logs.
        without_session_items: of those that were ranked so.
    """
    apart = [key for key in columns if key in without_session_items]
    if not apart:
        return "All items are ranked."
    rest = "; on the others all items are" if len(apart) < len(columns) else ""
    return (
        f"On {', '.join(apart)}, whose recipe drops repeats, the items that the session has so far "
        f"are not ranked (--exclude_session_items){rest}."
    )


def _is_as_good_as_the_best(
    results: Results, column: Column, row: str, rows: Iterable[str], metric: str
) -> bool:
    """Say whether a row that is not the best of a column was tested and does not differ from it."""
    means = results.means(column.key, rows, metric)
    if row not in means or results.is_best(column.key, row, rows, metric):
        return False
    best = max(means, key=means.__getitem__)
    p = results.p_value(column.key, best, row, metric)
    return p is not None and p >= ALPHA


def _not_run(rows: Collection[str]) -> list[str]:
    """Name the models without a finished run on any log."""
    missing = [name for row, name in NAMES.items() if row not in rows]
    return [f"Not yet run: {', '.join(missing)}."] if missing else []


def _untested(results: Results) -> list[str]:
    """Name the logs without a test of significance, and the rows of others without one."""
    tested = {column for column, *_ in results.p_values}
    untested = [key for key in results.columns if key not in tested]
    apart = {
        key: [
            NAMES[row]
            for row in results.means(key, NAMES, "recall")
            if row != PLUS and results.p_value(key, PLUS, row, "recall") is None
        ]
        for key in results.columns
        if key in tested and results.score(key, PLUS, "recall")
    }
    texts = [f"{name} on {key}" for key, names in apart.items() for name in names]
    notes = {
        "Without a test of significance, and so without marks": untested,
        f"Not tested against {PLUS}, and so without marks": texts,
    }
    return [f"{about}: {', '.join(of)}." for about, of in notes.items() if of]


def _by_metric(
    results: Results, rows: Iterable[str], cell: Callable[[Column, str, str], Cell]
) -> dict[str, dict[str, dict[str, Cell]]]:
    """Return the cells of each row by log and metric."""
    return {
        column.label: {
            name: {row: cell(column, row, metric) for row in rows}
            for metric, name in HEADLINES.items()
        }
        for column in results.columns.values()
    }


def verdict(results: Results, column: Column) -> str:
    """Say in a sentence where hrnn_plus is ahead of all models of a log, how far, how surely."""
    ahead, surely, parts, alike = [], [], [], []
    for metric, name in HEADLINES.items():
        means = results.means(column.key, NAMES, metric)
        ours = means.pop(PLUS, None)
        if ours is None or not means:
            return f"no comparison: no run of {PLUS if ours is None else 'another model'}"
        rival = max(means, key=means.__getitem__)
        theirs = means[rival]
        details = [f"{ours / theirs - 1:+.1%}" if theirs else "which is 0"]
        p = {row: results.p_value(column.key, PLUS, row, metric) for row in means}
        alike += [
            f"{NAMES[row]} in {name}"
            for row, of in p.items()
            if row != rival and of is not None and of >= ALPHA
        ]
        if (of := p[rival]) is None:
            details.append("not tested")
        else:
            details += ["not significantly"] if of >= ALPHA else []
            details.append("p < 0.0001" if of < 0.0001 else f"p = {of:.2g}")
        parts.append(
            f"{name} {ours:.4f} against {theirs:.4f} of {NAMES[rival]} ({', '.join(details)})"
        )
        if ours > theirs:
            ahead.append(name)
            surely += [name] if of is not None and of < ALPHA else []
    where = {0: "in neither", 1: f"in {' and '.join(ahead)} alone", 2: "in both"}[len(ahead)]
    if len(surely) == len(ahead) > 0:
        where += ", significantly"
    elif surely:
        where += f", significantly in {surely[0]} alone"
    also = f" No significant difference either from {', '.join(alike)}." if alike else ""
    return f"{PLUS} is ahead {where}: {'; '.join(parts)}.{also}"


def settings_table(results: Results) -> Table:
    """Lay out the best trial of each search, and the budgets."""
    setting = pl.concat_str("key", pl.col("setting").map_elements(short, pl.String), separator=" ")
    searches = results.frames["chosen"].group_by("column", "row", maintain_order=True)
    chosen = searches.agg(setting.str.join(", ").alias("chosen"), pl.col("trials", "value").first())
    chosen = chosen.with_columns(search=pl.concat_str("column", "row", separator=" "))
    formats = {
        "chosen": ("Chosen", str),
        "trials": ("Trials", str),
        "value": ("Recall@5, validation", "{:.4f}".format),
    }
    columns = [column for column in results.columns.values() if column.key in chosen["column"]]
    searched = NAMES | {TUNED_PLUS: f"{PLUS}, {TUNED_PLUS}"}
    budgets = [
        f"{column.label}: {column.cells.get('trials', DASH)} trials of at most "
        f"{column.cells.get('epochs', DASH)} epochs each."
        for column in columns
    ]
    return Table(
        caption="The best trial of each search",
        corner="Model",
        groups={"": cells_of(chosen, formats, by="search")},
        sections={
            column.label: {f"{column.key} {row}": name for row, name in searched.items()}
            for column in columns
        },
        notes=(
            *budgets,
            f"A trial ends after {PATIENCE} epochs without improvement; its value is that of its "
            "best epoch.",
        ),
    )


def ablation_table(results: Results) -> Table:
    """Lay out the differences that each change to hrnn_plus makes."""
    changes = {row: name for row, name in rows_with_runs(results).items() if row not in NAMES}

    def cell(column: Column, row: str, metric: str) -> Cell:
        means = paired_means(results, column.key, row, metric)
        if means is None:
            return Cell()
        ours, theirs = means
        if row == PLUS:
            return Cell(f"{ours:.4f}")
        return Cell(f"{theirs - ours:+.4f}", mark=_mark(results, column, row, metric))

    rows = {PLUS: PLUS, **changes}
    scores = (results.score(column, row, "recall") for row in changes for column in results.columns)
    n_seeds = [score.n for score in scores if score]
    ran = ""
    if n_seeds:  # a file of scores may be of other metrics alone
        fewest, most = min(n_seeds), max(n_seeds)
        seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        ran = f"; each change ran with {seeds} seeds"
    searched = f', but for "{TUNED_PLUS}"' if TUNED_PLUS in changes else ""
    return Table(
        caption=f"{PLUS}, and the difference that one change makes",
        corner="Change",
        groups=_by_metric(results, rows, cell),
        sections={"": rows},
        notes=(
            f"Differences of means over the seeds that both rows have{ran}. Settings and epochs "
            f"are those of {PLUS}{searched}. "
            f"{ranked_among(results.columns, ())}",
            MARKS,
        ),
    )


def accuracy_and_cost_table(results: Results, column: Column) -> Table:
    """Lay out the accuracy of each model on a log next to what it costs to train and to rank."""
    rows = {row: name for row, name in rows_with_runs(results).items() if row in NAMES}
    figures: dict[str, dict[str, Cell]] = {
        name: {
            row: mean_cell(
                results.score(column.key, row, metric),
                bold=results.is_best(column.key, row, rows, metric),
            )
            for row in results.means(column.key, rows, metric)
        }
        for metric, name in HEADLINES.items()
    }
    formats = {
        "train_seconds": ("Training", duration),
        "eval_cases_per_second": ("Ranked cases / s", "{:,.0f}".format),
    }
    return Table(
        caption=f"Accuracy and cost on {column.label}",
        corner="Model",
        groups={column.key: {**figures, **cells_of(costs(results, column), formats)}},
        sections={"": rows},
        notes=(
            "Means over seeds; the hardware is named above, and several runs shared it. A model "
            "without a training time counts whenever it ranks.",
        ),
    )


def cost_figure(results: Results) -> Figure:
    """Draw the accuracy of all models against the time of training and ranking, by log."""
    panels: dict[str, dict[str, Point]] = {}
    for column in results.columns.values():
        spent = _seconds(results, column)
        panels[column.name] = {
            name: Point(row if row in NETWORKS else COUNTING, spent[row], score)
            for row, name in NAMES.items()
            if row in spent and (score := results.score(column.key, row, "recall"))
        }
    caption = "Recall@5 against the seconds of training and ranking the test cases, by log"
    return Figure(
        caption=caption,
        name="cost",
        svg=scatter("cost", panels, ("seconds", "Recall@5"), size=(9.6, 7.2)),
        alt=f"{caption}. runs.csv and the scores hold its numbers.",
        notes=("Up and to the left is better. Means over seeds; a bar is the range of the seeds.",),
    )


def _seconds(results: Results, column: Column) -> dict[str, float]:
    """Return the mean seconds of training and ranking of each row on a log."""
    ranked = pl.col("cases") / pl.col("eval_cases_per_second")
    seconds = (pl.col("train_seconds").fill_null(0) + ranked).mean()
    runs = results.frames["runs"].filter(column=column.key).group_by("row")
    return {row: spent for row, spent in runs.agg(seconds).iter_rows() if spent}


def cost_table(results: Results) -> Table:
    """Lay out the training time of an event, also in relation to HRNN Init's."""
    time = pl.col("microseconds")
    relative = time / time.filter(row="hrnn_init").first()
    formats = {
        "microseconds": ("µs / event", "{:,.1f}".format),
        "relative": ("/ HRNN Init's", "{:.2f}".format),
    }
    return Table(
        caption="Training time by event",
        corner="Model",
        groups={
            column.label: cells_of(costs(results, column).with_columns(relative=relative), formats)
            for column in results.columns.values()
        },
        sections={"": rows_with_runs(results)},
        notes=("Means over seeds, with the chosen batch size, several runs at a time.",),
    )


def learning_figure(results: Results, column: Column) -> Figure | None:
    """Draw the networks' learning curves on a log; None where it has no curves."""
    curves = results.frames["curves"].filter(column=column.key)
    networks = {row: NAMES[row] for row in NETWORKS if row in curves["row"]}
    if not networks:
        return None
    panels = []
    for metric, name in HEADLINES.items():
        values = spreads(curves.filter(metric=f"{metric}@5"), ("row", "epoch"))
        points: dict[str, list[tuple[float, Spread]]] = {row: [] for row in networks}
        for (row, epoch), spread in values.items():
            points[row].append((epoch, spread))
        panels.append(Panel(points, {"title": name, "xlabel": "epoch", "ylim": (0, None)}))
    caption = f"Recall@5 and MRR@5 on the validation split of {column.label}, by epoch"
    name = f"learning_{column.key}"
    return Figure(
        caption=caption,
        name=name,
        svg=draw(name, [panels], networks, size=(6.8, 3.4), legend_columns=3),
        alt=f"{caption}. curves.csv holds its numbers.",
        notes=(f"One seed, with the chosen settings. {ranked_among([column.key], ())}",),
    )


def _mark(results: Results, column: Column, row: str, metric: str) -> str:
    """Return the mark of a row that differs significantly from hrnn_plus."""
    p = results.p_value(column.key, PLUS, row, metric)
    means = paired_means(results, column.key, row, metric)
    if row == PLUS or p is None or p >= ALPHA or means is None or means[0] == means[1]:
        return ""
    return WORSE if means[1] < means[0] else BETTER


def paired_means(
    results: Results, column: str, row: str, metric: str
) -> tuple[float, float] | None:
    """Return hrnn_plus' mean and a row's over the seeds that both have; None where one has none.

    Seeds are 0, 1, ... A baseline is the same for every seed.

    Args:
        results: the comparison.
        column: the key of the log.
        row: the other row.
        metric: as in scores.csv, at cutoff 5.
    """
    ours, theirs = (results.score(column, r, metric) for r in (PLUS, row))
    if ours is None or theirs is None:
        return None
    n = ours.n if row in WITHOUT_SEEDS else min(ours.n, theirs.n)
    return statistics.fmean(ours.values[:n]), statistics.fmean(theirs.values[:n])
