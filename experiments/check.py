"""Compare a fresh Table 3 with the shipped one, within stated tolerances.

make check-table3 SEEDS=2 SIZES=small

A cell is a model's mean of Recall, MRR or Precision @5 over its seeds, on the same data. A
network's may differ by 4 standard errors of the difference between the two means (from the shipped
seeds' spread) and 0.002, as other machines round differently and training amplifies that; with a
single shipped seed, whose spread is not known, by 5% and 0.005. A baseline's may differ by 0.0005.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from absl import flags

from hrnn_jax.errors import InputError

from .common import cli
from .common.model_names import SIZES
from .common.text import Spread, print_table
from .jobs.grid import CUTOFF, rows
from .paper.numbers import METRICS
from .paper.results import read_frame, spreads

FLAGS = flags.FLAGS
SHIPPED = pathlib.Path(__file__).parent / "results"
flags.DEFINE_string("fresh", "out/reproduce/results", "The folder of the CSV files to check.")
flags.DEFINE_string("shipped", str(SHIPPED), "The folder of the CSV files to check against.")

STANDARD_ERRORS, ROUNDING = 4, 0.002
ONE_SEED_SHARE, ONE_SEED_ROUNDING = 0.05, 0.005
BASELINE_TOLERANCE = 0.0005


class Cell(NamedTuple):
    """A number of Table 3 in both folders."""

    name: str  # the column and the row
    metric: str
    shipped: float
    fresh: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the two numbers agree within the tolerance."""
        return abs(self.fresh - self.shipped) <= self.tolerance


def compare(shipped: pathlib.Path, fresh: pathlib.Path) -> Iterator[Cell]:
    """Yield the cells that both folders have, of columns with the same data."""
    theirs, ours = _read(shipped), _read(fresh)
    networks = {row.key for row in rows(SIZES) if row.size}
    for key in sorted(theirs.keys() & ours.keys()):
        column, row, metric, _title = key
        allowed = tolerance(theirs[key], ours[key].n, row in networks)
        yield Cell(f"{column} {row}", metric, theirs[key].mean, ours[key].mean, allowed)


def tolerance(shipped: Spread, n_fresh: int, network: bool) -> float:
    """Return the largest allowed difference between two means.

    Args:
        shipped: the values of the shipped seeds.
        n_fresh: the number of fresh seeds.
        network: whether the model is a network; a baseline has no seed.
    """
    if not network:
        return BASELINE_TOLERANCE
    if shipped.std is None:
        return ONE_SEED_SHARE * shipped.mean + ONE_SEED_ROUNDING
    error = shipped.std * math.sqrt(1 / shipped.n + 1 / n_fresh)
    return STANDARD_ERRORS * error + ROUNDING


def _read(folder: pathlib.Path) -> dict[tuple[str, str, str, str], Spread]:
    """Return the values over seeds by (column, row, metric, title of the data)."""
    scores, data = (read_frame(folder / name, {}) for name in ("scores.csv", "data.csv"))
    titles = data.filter(key="title").select("column", title="value")
    scores = scores.filter(cutoff=CUTOFF).join(titles, on="column")
    values = spreads(scores, ("column", "row", "metric", "title"))
    return {key: spread for key, spread in values.items() if key[2] in METRICS}


def main() -> None:
    """Print all cells, and exit with code 1 if one is out of tolerance."""
    cells = list(compare(pathlib.Path(FLAGS.shipped), pathlib.Path(FLAGS.fresh)))
    if not cells:
        raise InputError(
            f"{FLAGS.fresh} has no cell of Table 3 in common with {FLAGS.shipped}: nothing to check"
        )
    print_table(
        ("", "metric", "shipped", "fresh", "may differ by", ""),
        [
            (
                cell.name,
                f"{cell.metric}@{CUTOFF}",
                *(f"{number:.4f}" for number in (cell.shipped, cell.fresh, cell.tolerance)),
                "" if cell.holds else "OUT OF TOLERANCE",
            )
            for cell in cells
        ],
    )
    wrong = [cell for cell in cells if not cell.holds]
    print(f"{len(cells) - len(wrong)} of {len(cells)} cells of Table 3 hold")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
