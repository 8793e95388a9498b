"""The tables of a prepared folder, made of the events that all steps of a recipe have left."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import read_log, sessions, statistics
from hrnn_jax.preprocess.protocols import MARKS, TEST
from hrnn_jax.preprocess.read_log import ITEM, RAW_ID, SESSION, TIME, USER

EVENTS, ITEMS = "events.parquet", "items.parquet"
USERS, SESSIONS = "users.parquet", "sessions.parquet"
END = "end"


def file_name(name: str, part: int, parts: int) -> str:
    """Return the name of a part's file, as events-0-of-4.parquet; a single part's has no number."""
    stem, dot, end = name.rpartition(".")
    return name if parts == 1 else f"{stem}-{part}-of-{parts}{dot}{end}"


class Written(NamedTuple):
    """What is known of the tables once they are written."""

    counts: list[sessions.Count]  # of the log and after each step
    skipped: read_log.Skipped
    measured: statistics.Measured
    parts: list[dict[str, int]]  # users, sessions and events of each part; none of a single one


class Items(NamedTuple):
    """The items of a log beside those of the run that is continued, if one is."""

    raw_ids: pl.Series  # [items of the log]
    continued_ids: pl.Series  # [items of the run]
    continued_index: np.ndarray  # [items of the log] the number in the run, or -1

    @property
    def continued(self) -> np.ndarray | None:
        """[items of the log] bool, whether the run has the item; None without a run."""
        return self.continued_index >= 0 if len(self.continued_ids) else None

    def numbered(self, counts: np.ndarray) -> tuple[np.ndarray, pl.DataFrame]:
        """Return the new number of each item of the log, and the table of items.

        Args:
            counts: [items of the log] training events.
        """
        continued_ids, item_ids = self.continued_ids, self.raw_ids
        new = (counts > 0) & (self.continued_index < 0)
        number = np.where(new, len(continued_ids) + np.cumsum(new) - 1, self.continued_index)
        support = np.zeros(len(continued_ids) + np.count_nonzero(new), np.uint32)
        support[number[number >= 0]] = counts[number >= 0]
        item_ids = item_ids.filter(pl.Series(new))
        if len(continued_ids):
            if continued_ids.dtype != item_ids.dtype:
                continued_ids, item_ids = continued_ids.cast(pl.String), item_ids.cast(pl.String)
            item_ids = pl.concat([continued_ids, item_ids])
        return number, pl.DataFrame({RAW_ID: item_ids, "support": support}).with_row_index(ITEM)


class Left(NamedTuple):
    """What all steps have left of a log that is in one part."""

    events: pl.DataFrame
    ends: pl.DataFrame
    counts: list[sessions.Count]
    raw_ids: dict[str, pl.Series]
    skipped: read_log.Skipped
    items: Items


def items_of(
    path: pathlib.Path, raw_ids: pl.Series, continued_items: Sequence[int] | Sequence[str]
) -> Items:
    """Find the items of a run that is continued in a log.

    Args:
        path: of the log, for messages.
        raw_ids: of the log's items.
        continued_items: raw ids of the run's items, none without a run. Two ids are equal where
            their texts are.

    Raises:
        InputError: there is a run, and the log has none of its items.
    """
    continued_ids = pl.Series(RAW_ID, continued_items)
    texts = continued_ids.cast(pl.String)
    numbers = pl.Series(range(len(texts)), dtype=pl.Int64)
    found = raw_ids.cast(pl.String).replace_strict(texts, numbers, default=-1)
    index = found.cast(pl.Int64).to_numpy()
    if continued_items and (index < 0).all():
        raise InputError(
            f"{path}: has none of the {len(continued_items):,} items of the run that is "
            f"continued: the log's ids are as {raw_ids[0]!r}, the run's as {continued_items[0]!r}; "
            "give a log with the same ids, or train a new run"
        )
    return Items(raw_ids, continued_ids, index)


def write(folder: pathlib.Path, left: Left) -> Written:
    """Write the tables of a folder of one part."""
    events, raw_ids = left.events, left.raw_ids
    trained = events.select(pl.col(ITEM).filter(~pl.col(TEST))).to_series().to_numpy()
    number, items = left.items.numbered(np.bincount(trained, minlength=len(raw_ids[ITEM])))
    user_ids = raw_ids[USER].gather(events[USER].unique().sort())
    tables = {
        EVENTS: numbered(events, number),
        ITEMS: items,
        USERS: pl.DataFrame({RAW_ID: user_ids}).with_row_index(USER),
        SESSIONS: sessions_left(left.ends, events[SESSION], raw_ids.get(SESSION)),
    }
    for name, table in tables.items():
        table.write_parquet(folder / name)
    return Written(left.counts, left.skipped, statistics.measure(tables[EVENTS]), [])


def numbered(events: pl.DataFrame, number: np.ndarray) -> pl.DataFrame:
    """Return the events with users, sessions and items numbered anew, in the schema of EVENTS.

    Args:
        events: what all steps have left.
        number: the new number of each item.
    """
    return (
        events.lazy()
        .select(
            pl.col(USER).rle_id(),  # users and sessions are contiguous
            pl.col(SESSION).rle_id(),
            pl.lit(pl.Series(number.astype(np.uint32))).gather(pl.col(ITEM)).alias(ITEM),
            pl.col(TIME).dt.epoch("s").alias(TIME),
            *(name for name in MARKS if name in events.columns),
        )
        .collect()
    )


def sessions_left(ends: pl.DataFrame, kept: pl.Series, raw_ids: pl.Series | None) -> pl.DataFrame:
    """Return the table of the sessions that are left, numbered anew.

    Args:
        ends: of all sessions, see `sessions.cut`.
        kept: the session of each event that is left, rising.
        raw_ids: of the sessions given by the log.
    """
    left = ends[ends[SESSION].search_sorted(kept.unique(maintain_order=True))]
    ids = {} if raw_ids is None else {RAW_ID: raw_ids.gather(left[sessions.GIVEN])}
    end = left[TIME].dt.epoch("us") / 1e6
    return pl.DataFrame({END: end, **ids}).with_row_index(SESSION)
