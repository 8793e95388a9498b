"""Compare a fresh Table 3 with the shipped one, within stated tolerances.

make check-table3 SEEDS=2 SIZES=small
make check-table3 SEEDS=1 ROWS=rnn_large

A cell is a model's mean of Recall, MRR or Precision @5 over the seeds that both have, on the same
data. A network's may differ by 4 standard errors of the difference between two means of so many
seeds (from the spread of all shipped seeds) and 0.002, as other machines round differently and
training amplifies that; with a single shipped seed, whose spread is not known, by 5% and 0.005; but
never by more than 15% of the shipped mean, so that a network that learns nothing fails. A
baseline's may differ by 0.0005. A row that did not train agrees with one that did not train either,
and with nothing else. A row that trains with some seeds only, whose shipped Recall has a standard
deviation above half of its mean, is named and not compared: rounding decides which seeds train. A
tuned row is compared where both searches chose the same settings.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple

import polars as pl
from absl import flags

from hrnn_jax.errors import InputError

from .common import cli
from .common.text import Spread, print_table
from .jobs.grid import CUTOFF, XXL
from .jobs.paper_rows import NETWORKS
from .paper.numbers import METRICS
from .paper.results import NOT_TRAINED, read_frame, stopped_rows, trained

FLAGS = flags.FLAGS
SHIPPED = pathlib.Path(__file__).parent / "results"
flags.DEFINE_string("fresh", "out/reproduce/results", "The folder of the CSV files to check.")
flags.DEFINE_string("shipped", str(SHIPPED), "The folder of the CSV files to check against.")

STANDARD_ERRORS, ROUNDING = 4, 0.002
ONE_SEED_SHARE, ONE_SEED_ROUNDING = 0.05, 0.005
LARGEST_SHARE = 0.15
UNSETTLED_SHARE = 0.5  # of the mean: with a larger standard deviation, seeds have no common mean
BASELINE_TOLERANCE = 0.0005

Place = tuple[str, str]  # a column and a row


class Table3(NamedTuple):
    """What a folder has of Table 3."""

    titles: Mapping[str, str]  # of the data, by column
    values: Mapping[Place, Mapping[str, Mapping[int, float]]]  # by metric, by seed
    stopped: Mapping[Place, str]  # where the training of rows that did not train was stopped
    chosen: Mapping[Place, Mapping[str, str]] = MappingProxyType({})  # settings of tuned rows

    @property
    def places(self) -> set[Place]:
        """The cells that it has a run of."""
        return {*self.values, *self.stopped}


class Cell(NamedTuple):
    """A number of Table 3 in both folders, or that a row did not train."""

    name: str  # the column and the row
    metric: str
    shipped: str
    fresh: str
    allowed: str
    holds: bool


def compare(shipped: Table3, fresh: Table3) -> Iterator[Cell]:
    """Yield the cells that both folders have, of columns with the same data."""
    for place in sorted(comparable(shipped, fresh)):
        column, row = place
        name = f"{column} {row}"
        if place in shipped.stopped or place in fresh.stopped:
            both = place in shipped.stopped and place in fresh.stopped
            yield Cell(
                name, "training", _training(shipped, place), _training(fresh, place), "", both
            )
            continue
        for metric, ours in shipped.values[place].items():
            others = fresh.values[place].get(metric, {})
            seeds = sorted(ours.keys() & others.keys())
            texts, holds = ("none", "none", ""), False
            if seeds:
                mean, found = (fmean(of[seed] for seed in seeds) for of in (ours, others))
                limit = tolerance(mean, Spread(tuple(ours.values())), len(seeds), row in NETWORKS)
                texts = (f"{mean:.4f}", f"{found:.4f}", f"{limit:.4f}")
                holds = abs(found - mean) <= limit
            yield Cell(name, f"{metric}@{CUTOFF}", *texts, holds)


def comparable(shipped: Table3, fresh: Table3) -> set[Place]:
    """Return the cells that both have, of the same data, settled and, where tuned, set alike."""
    both = _of_same_data(shipped, fresh) - unsettled(shipped)
    return {place for place in both if shipped.chosen.get(place) == fresh.chosen.get(place)}


def unsettled(table: Table3) -> set[Place]:
    """Return the cells of a network that trains with some seeds only, see `UNSETTLED_SHARE`."""
    spreads = {
        place: Spread(tuple(of_metric["recall"].values()))
        for place, of_metric in table.values.items()
        if place[1] in NETWORKS and "recall" in of_metric
    }
    return {
        place
        for place, spread in spreads.items()
        if spread.std is not None and spread.std > UNSETTLED_SHARE * spread.mean
    }


def _of_same_data(shipped: Table3, fresh: Table3) -> set[Place]:
    both = shipped.places & fresh.places
    return {place for place in both if shipped.titles[place[0]] == fresh.titles[place[0]]}


def not_compared(shipped: Table3, fresh: Table3) -> Iterator[str]:
    """Yield a line for each reason for which cells are not compared, which names them."""
    differ = [
        f"{column} (shipped: {title}; fresh: {fresh.titles[column]})"
        for column, title in shipped.titles.items()
        if fresh.titles.get(column, title) != title
    ]
    if differ:
        yield f"not compared, other data: {'; '.join(differ)}"
    same_data = _of_same_data(shipped, fresh)
    if loose := sorted(same_data & unsettled(shipped)):
        yield f"not compared, trains with some of the shipped seeds only: {_by_row(loose)}"
    if retuned := sorted(same_data - {*loose} - comparable(shipped, fresh)):
        yield f"not compared, another trial was the best: {_by_row(retuned)}"
    for kind, ours, others in (("shipped", shipped, fresh), ("fresh", fresh, shipped)):
        same = {c for c, title in ours.titles.items() if others.titles.get(c, title) == title}
        if only := sorted(place for place in ours.places - others.places if place[0] in same):
            yield f"not compared, only {kind}: {_by_row(only)}"


def tolerance(mean: float, shipped: Spread, n_seeds: int, network: bool) -> float:
    """Return the largest allowed difference between two means.

    Args:
        mean: the shipped mean over the seeds that both have.
        shipped: the values of all shipped seeds.
        n_seeds: the number of seeds that both have.
        network: whether the model is a network; a baseline has no seed.
    """
    if not network:
        return BASELINE_TOLERANCE
    if shipped.std is None:
        allowed = ONE_SEED_SHARE * mean + ONE_SEED_ROUNDING
    else:
        allowed = STANDARD_ERRORS * shipped.std * math.sqrt(2 / n_seeds) + ROUNDING
    return min(allowed, LARGEST_SHARE * mean)


def read(folder: pathlib.Path) -> Table3:
    """Read what a folder has of Table 3.

    Raises:
        InputError: a file is missing or wrong.
    """
    names = ("scores", "data", "runs", "chosen")
    scores, data, runs, best = (read_frame(folder / f"{name}.csv", {}) for name in names)
    data, runs = (frame.filter(frame["column"] != XXL) for frame in (data, runs))
    stopped = stopped_rows(runs)
    titles = dict(data.filter(key="title").select("column", "value").iter_rows())
    stopped = {place: text for place, text in stopped.items() if place[0] in titles}
    scores = trained(scores.filter(cutoff=CUTOFF), stopped, "row")
    values: dict[Place, dict[str, dict[int, float]]] = {}
    kept = scores.filter(pl.col("metric").is_in(METRICS), pl.col("value").is_not_nan())
    names = ("column", "row", "metric", "seed", "value")
    for column, row, metric, seed, value in kept.select(names).iter_rows():
        if column in titles:
            values.setdefault((column, row), {}).setdefault(metric, {})[seed] = value
    chosen: dict[Place, dict[str, str]] = {}
    for column, row, key, setting in best.select("column", "row", "key", "setting").iter_rows():
        chosen.setdefault((column, row), {})[key] = setting
    return Table3(titles, values, stopped, chosen)


def _training(table: Table3, place: Place) -> str:
    """Say how a row trained: where it was stopped, or its Recall."""
    if place in table.stopped:
        return f"{NOT_TRAINED}: {table.stopped[place]}"
    recall = table.values[place].get("recall")
    return "trained" + (f": recall@{CUTOFF} {fmean(recall.values()):.4f}" if recall else "")


def _by_row(places: Iterable[Place]) -> str:
    """Name cells, each row once."""
    columns: dict[str, list[str]] = {}
    for column, row in places:
        columns.setdefault(row, []).append(column)
    return "; ".join(f"{row} ({', '.join(of_row)})" for row, of_row in columns.items())


def main() -> None:
    """Print all cells, and exit with code 1 if one is out of tolerance."""
    shipped, fresh = (read(pathlib.Path(folder)) for folder in (FLAGS.shipped, FLAGS.fresh))
    cells = list(compare(shipped, fresh))
    left_out = list(not_compared(shipped, fresh))
    if not cells:
        reasons = "".join(f"; {line}" for line in left_out)
        raise InputError(
            f"{FLAGS.fresh} has no cell of Table 3 in common with {FLAGS.shipped}: nothing to "
            f"check{reasons}"
        )
    print_table(
        ("", "metric", "shipped", "fresh", "may differ by", ""),
        [(*cell[:-1], "" if cell.holds else "OUT OF TOLERANCE") for cell in cells],
    )
    for line in left_out:
        print(line)
    wrong = [cell for cell in cells if not cell.holds]
    print(f"{len(cells) - len(wrong)} of {len(cells)} cells of Table 3 hold")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
