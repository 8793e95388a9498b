"""The claim "large networks are better than small ones", answered for each data set."""

from __future__ import annotations

from ..jobs.paper_rows import NETWORKS, ROWS, small_counterpart
from ..rendering.markdown import Cell, Table
from .numbers import ALPHA, HEADLINES, paper_gain
from .results import NOT_TRAINED, Column, Results

LARGER, SMALLER, SAME = "larger", "smaller", "no significant difference"
VERDICTS = (LARGER, SMALLER, SAME, NOT_TRAINED)
NOTE = (
    "larger, smaller: the mean of the large network is outside the range of the small one's seeds, "
    f"and p < {ALPHA} in the test of Table 3; otherwise {SAME}. With one seed of a network its "
    "spread is not known."
)
HEADS = ("small", "large", "difference", "difference, paper", "large is")


def size_table(results: Results, column: Column) -> Table:
    """Lay out large networks next to the small ones of the same model and form, and the verdicts.

    Args:
        results: the results.
        column: the data set.
    """
    groups: dict[str, dict[str, dict[str, Cell]]] = {}
    answers = []
    for metric, name in HEADLINES.items():
        heads = groups[f"{column.label}, {name}"] = {head: {} for head in HEADS}
        found: dict[str, list[str]] = {}
        for row in _rows(results, column):
            cells = _cells(results, column, row, metric)
            for head, cell in zip(HEADS, cells, strict=True):
                heads[head][row] = cell
            if verdict := compare_sizes(results, column.key, row, metric):
                form = "tuned" if ROWS[row].tuned else ROWS[row].form
                of_form = f" ({form})" if form else ""
                found.setdefault(verdict, []).append(f"{ROWS[row].name}{of_form}")
        texts = (f"{v.capitalize()}: {'; '.join(found[v])}." for v in VERDICTS if v in found)
        if found:
            answers.append(f"{name} of the large network. {' '.join(texts)}")
    sections: dict[str, dict[str, str]] = {}
    for row in NETWORKS.values():
        if row.size == "large":
            sections.setdefault(row.section, {})[row.key] = row.name
    return Table(
        caption=f"Are large networks better than small ones? {column.label}",
        corner="Model",
        groups=groups,
        sections=sections,
        notes=(*answers, NOTE),
    )


def compare_sizes(results: Results, column: str, row: str, metric: str) -> str | None:
    """Say how a large network differs from the small one; None where they were not tested."""
    small = small_counterpart(NETWORKS[row])
    assert small
    if {(column, row), (column, small)} & results.stopped.keys():
        return NOT_TRAINED
    ours, theirs = (results.score(column, key, metric) for key in (row, small))
    p = results.p_value(column, row, small, metric)
    if ours is None or theirs is None or p is None:
        return None
    if p >= ALPHA or theirs.low <= ours.mean <= theirs.high:
        return SAME
    return LARGER if ours.mean > theirs.mean else SMALLER


def _rows(results: Results, column: Column) -> list[str]:
    """Return the large networks that ended, as did the small ones of their model and form."""
    ended = {row for of, row in results.stopped if of == column.key}
    ended |= results.means(column.key, NETWORKS, "recall").keys()
    counterparts = {key: small_counterpart(row) for key, row in NETWORKS.items()}
    return [key for key, small in counterparts.items() if small and {key, small} <= ended]


def _cells(results: Results, column: Column, row: str, metric: str) -> tuple[Cell, ...]:
    """Return the cells of a large network, in the order of `HEADS`."""
    small = small_counterpart(NETWORKS[row])
    assert small
    means = []
    for key in (small, row):
        spread = results.score(column.key, key, metric)
        seeds = "" if spread is None else f"({spread.n} seed{'s' if spread.n > 1 else ''})"
        means.append(Cell(f"{spread.mean:.4f}" if spread else NOT_TRAINED, note=seeds))
    gains = (
        results.gain(column.key, row, small, metric),
        paper_gain(column.shape, row, small, metric),
    )
    differences = (Cell() if gain is None else Cell(f"{gain:+.1%}") for gain in gains)
    return *means, *differences, Cell(compare_sizes(results, column.key, row, metric) or Cell.text)
