"""Tables in Markdown pages that are made from the shipped CSV files.

python -m tests.docs.tables            # rewrites all of them

A table stands below a comment that says what it shows, as in

    <!-- table
    file: comparison/scores.csv
    metrics: recall, mrr
    columns: ebnerd = EB-NeRD demo, journey = The Complete Journey
    rows: hrnn_plus, ppop
    -->

and a blank line; another one follows it, as text would else become a row.

The file is a scores.csv in experiments/results; a cell has the means over seeds of the metrics at
cutoff 5, with `spread: yes` also the sample standard deviation. `= name` renames a column or row.
The best mean of a column is bold. With `kind: judged` the file is the folder of a comparison, each
log ranked as the leaderboard judges it. With `kind: ablation` it is one too, and
a cell has what a change adds to the means of hrnn_plus, with the marks of comparison.md. With
`kind: published` the file alone is named, see published.py.
"""

from __future__ import annotations

import pathlib
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from experiments.jobs.grid import CUTOFF
from experiments.leaderboard.grid import NAMES
from experiments.leaderboard.tables import ablation_table
from experiments.paper.numbers import HEADLINES
from experiments.paper.results import COMPARISON_FILES, ROW_NAMES, headline, read_results
from experiments.rendering.markdown import DASH
from tests.docs import published

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments/results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
HEADS = {"recall": "Recall@5", "mrr": "MRR@5"}
PLACES = 3
Values = Mapping[tuple[str, str, str], Sequence[float]]  # of all seeds, by column, row and metric
TABLE = re.compile(r"(<!-- table\n(.*?)\n-->\n\n)(?:\|[^\n]*\n)*\n*", re.DOTALL)


def fill(page: str) -> str:
    """Return a page with its tables made anew."""
    return TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}\n", page)


def _table(about: str) -> str:
    given = dict(re.split(r":\s*", line, maxsplit=1) for line in about.splitlines())
    if given.get("kind") == "published":
        return published.table(RESULTS / given["file"])
    metrics = [metric.strip() for metric in given["metrics"].split(",")]
    columns, rows = _named(given["columns"], {}), _named(given["rows"], {**ROW_NAMES, **NAMES})
    if given.get("kind") == "ablation":
        cell = _changes(given["file"])
    else:
        judged = given.get("kind") == "judged"
        values = _judged(given["file"]) if judged else _values(given["file"])
        cell = _means(values, [*rows], spread=given.get("spread") == "yes")
    heads = [f"{' / '.join(HEADS[metric] for metric in metrics)}", *columns.values()]
    lines = [heads, ["---", *["---:"] * len(columns)]]
    for row, name in rows.items():
        cells = [[cell(column, row, metric) for metric in metrics] for column in columns]
        lines.append([name, *(" / ".join(of) for of in cells)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _changes(folder: str) -> Callable[[str, str, str], str]:
    """Return the cells of a comparison's ablation, by column, row and metric."""
    results = read_results(RESULTS / folder, COMPARISON_FILES, rows=None)
    groups = ablation_table(results).groups

    def cell(column: str, row: str, metric: str) -> str:
        found = groups[results.columns[column].label][HEADLINES[metric]].get(row)
        return DASH if found is None else found.text + found.mark

    return cell


def _means(values: Values, rows: list[str], *, spread: bool) -> Callable[[str, str, str], str]:
    """Return the cells of means, bold where it is the best of the rows as printed, and spreads."""

    def cell(column: str, row: str, metric: str) -> str:
        seeds = values.get((column, row, metric))
        if seeds is None:
            return DASH

        def printed(key: str) -> str:
            return f"{statistics.fmean(values.get((column, key, metric), [0.0])):.{PLACES}f}"

        text = printed(row)
        text = f"**{text}**" if text == max(map(printed, rows)) else text
        several = spread and len(seeds) > 1
        return text + (f" ± {statistics.stdev(seeds):.{PLACES}f}" if several else "")

    return cell


def _judged(folder: str) -> Values:
    """Return the values of all seeds at cutoff 5 that the leaderboard judges by."""
    results = read_results(RESULTS / folder, COMPARISON_FILES, rows=None)
    return {
        (column, row, metric): spread.values
        for (column, row, metric, cutoff), spread in headline(results).spreads["scores"].items()
        if cutoff == CUTOFF
    }


def _values(file: str) -> Values:
    """Return the values of all seeds at cutoff 5, by column, row and metric."""
    frame = pl.read_csv(RESULTS / file).filter(cutoff=CUTOFF).sort("seed")
    grouped = frame.group_by("column", "row", "metric", maintain_order=True).agg("value")
    return {(column, row, metric): values for column, row, metric, values in grouped.iter_rows()}


def _named(text: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the names of keys in a list like `a = name, b`; without one, that in `names`."""
    parts = (part.partition("=") for part in text.split(","))
    return {
        key.strip(): name.strip() or names.get(key.strip(), key.strip()) for key, _, name in parts
    }


if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        if (filled := fill(text)) != text:
            page.write_text(filled)
            print(f"{page.relative_to(ROOT)}: tables made anew")
