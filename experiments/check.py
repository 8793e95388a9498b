"""Compare a fresh Table 3 with the shipped one, within stated tolerances.

make check-table3 SEEDS=2 SIZES=small

A cell is a model's mean of Recall, MRR or Precision @5 over its seeds, on the same data. That of a
network may differ by 4 standard errors of the difference between the two means (from the shipped
seeds' spread) and 0.002, since other machines round differently and training enlarges it; with a
single shipped seed, whose spread is not known, by 5% and 0.005. What counts must agree to 0.0005.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl
from absl import flags

from hrnn_jax import errors

from .common import cli
from .jobs import grid

FLAGS = flags.FLAGS
SHIPPED = pathlib.Path(__file__).parent / "results"
flags.DEFINE_string("fresh", "out/reproduce/results", "The folder of the CSV files to check.")
flags.DEFINE_string("shipped", str(SHIPPED), "The folder of the CSV files to check against.")

METRICS = ("recall", "mrr", "precision")
CUTOFF = 5
STANDARD_ERRORS, ROUNDING = 4, 0.002
ONE_SEED_SHARE, ONE_SEED_ROUNDING = 0.05, 0.005
COUNTED = 0.0005


class Cell(NamedTuple):
    """A number of Table 3, there and here."""

    column: str
    row: str
    metric: str
    shipped: float
    fresh: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return abs(self.fresh - self.shipped) <= self.tolerance


def compare(shipped: pathlib.Path, fresh: pathlib.Path) -> Iterator[Cell]:
    """Yield the cells that both folders have, of columns with the same data."""
    there, here = _read(shipped), _read(fresh)
    networks = {row.key for row in grid.rows(grid.SIZES) if row.size}
    for key in sorted(there.keys() & here.keys()):
        column, row, metric, _title = key
        old, new = there[key], here[key]
        yield Cell(
            column, row, metric, old.mean(), new.mean(), tolerance(old, len(new), row in networks)
        )


def tolerance(shipped: pl.Series, n_fresh: int, network: bool) -> float:
    """Return by how much a mean over `n_fresh` seeds may differ from that of the shipped ones."""
    if not network:
        return COUNTED
    if len(shipped) == 1:
        return ONE_SEED_SHARE * shipped[0] + ONE_SEED_ROUNDING
    error = shipped.std() * math.sqrt(1 / len(shipped) + 1 / n_fresh)
    return STANDARD_ERRORS * error + ROUNDING


def _read(folder: pathlib.Path) -> dict[tuple[str, ...], pl.Series]:
    """Return the values over seeds by (column, row, metric, title of the data)."""
    frames = []
    for name in ("scores.csv", "data.csv"):
        try:
            frames.append(pl.read_csv(folder / name))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise errors.InputError(
                f"{folder / name}: cannot be read; is it a report's?"
            ) from error
    scores, data = frames
    titles = data.filter(key="title").select("column", title="value")
    wanted = scores.filter(pl.col("metric").is_in(METRICS), cutoff=CUTOFF).join(titles, on="column")
    by = ("column", "row", "metric", "title")
    return {key: frame["value"] for key, frame in wanted.group_by(by)}


def main() -> None:
    cells = list(compare(pathlib.Path(FLAGS.shipped), pathlib.Path(FLAGS.fresh)))
    if not cells:
        raise errors.InputError(
            f"{FLAGS.fresh} has no cell of Table 3 in common with {FLAGS.shipped}: nothing to check"
        )
    print(f"{'':<28}{'':<13}{'shipped':>9}{'fresh':>9}{'may differ by':>15}")
    for cell in cells:
        print(
            f"{cell.column + ' ' + cell.row:<28}{f'{cell.metric}@{CUTOFF}':<13}"
            f"{cell.shipped:>9.4f}{cell.fresh:>9.4f}{cell.tolerance:>15.4f}"
            + ("" if cell.holds else "   OUT OF TOLERANCE")
        )
    out = [cell for cell in cells if not cell.holds]
    print(f"{len(cells) - len(out)} of {len(cells)} cells of Table 3 hold")
    if out:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
