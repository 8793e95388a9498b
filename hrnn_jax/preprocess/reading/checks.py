"""Rows that are no event: the first one is refused, or all are dropped and counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from hrnn_jax.errors import InputError

from . import faults
from .faults import Fault, Reading, row_number
from .table import IDS, ROW, TIME, UNEQUAL, BadRow

SHOWN = 3  # of the rows that were dropped


@dataclasses.dataclass(frozen=True)
class Skipped:
    """The rows that were dropped."""

    bad: int = 0
    first: Sequence[str] = ()  # the first of them: file, row and reason
    without_id: int = 0  # whose id is one of `null_values`

    def __add__(self, other: Skipped) -> Skipped:
        """Return those of both files."""
        first = [*self.first, *other.first][:SHOWN]
        return Skipped(self.bad + other.bad, first, self.without_id + other.without_id)


def valid_events(frame: pl.DataFrame, file: Reading) -> tuple[pl.DataFrame, Skipped]:
    """Return the events with valid ids and times.

    Args:
        frame: the columns by role, typed; null where a value could not be read.
        file: where they come from.

    Returns:
        The events, and what was dropped.

    Raises:
        InputError: a row is invalid, and `on_bad_row` is error.
    """
    names = [name for name in (*IDS, TIME) if name in frame.columns]
    if file.table.blank and any(frame[name].null_count() for name in names):
        frame = _without_rows(frame, file.table.blank())
    n_rows = len(frame)
    if words := file.config.null_values:
        frame = _without_ids(frame, names, words)
    found = faults.of_lists(frame) + faults.of_times(frame, file) + faults.of_parts(frame, file)
    for name in names:
        if name != TIME:
            found += faults.of_ids(frame, name, file)
    found = [fault for fault in found if fault.mask.any()]
    if file.config.on_bad_row == "error":
        _refuse_first(frame, found, file)
        kept = frame.drop(ROW, UNEQUAL, strict=False)
        return kept, Skipped(without_id=n_rows - len(frame))
    mask = np.any([np.zeros(len(frame), bool), *(fault.mask for fault in found)], axis=0)
    bad = [*file.table.bad]
    for at in map(int, np.flatnonzero(mask)[:SHOWN]):
        text = next(fault.text(at) for fault in found if fault.mask[at])
        bad.append(BadRow(row_number(frame, at, file.table), text))
    first = [f"{file.path}, row {row}: {text}" for row, text in sorted(bad)[:SHOWN]]
    n_bad = len(file.table.bad) + int(mask.sum())
    kept = frame.filter(pl.Series(~mask)).drop(ROW, UNEQUAL, strict=False)
    return kept, Skipped(n_bad, first, n_rows - len(frame))


def _refuse_first(frame: pl.DataFrame, found: Sequence[Fault], file: Reading) -> None:
    """Raise InputError for the first bad row, if there is one."""
    bad = [(row, text, "mend it") for row, text in file.table.bad[:1]]
    for fault in found:
        at, others = int(fault.mask.argmax()), int(fault.mask.sum()) - 1
        rows = "row" if others == 1 else "rows"
        text = fault.text(at) + (f", as in {others:,} more {rows}" if others else "")
        bad.append((row_number(frame, at, file.table), text, fault.advice))
    if bad:
        row, text, advice = min(bad)
        raise InputError(
            f"{file.path}, row {row}: {text}; {advice}, or drop such rows with `on_bad_row`=skip"
        )


def _without_rows(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """Return the frame without some rows of the file, with the places of the others."""
    if not len(rows):
        return frame
    frame = frame if ROW in frame.columns else frame.with_row_index(ROW)
    return frame.filter(~(pl.col(ROW) + 1).is_in(rows.implode()))


def _without_ids(frame: pl.DataFrame, names: Sequence[str], words: Sequence[str]) -> pl.DataFrame:
    """Return the frame without the rows of which an id is one of the words."""
    frame = frame if ROW in frame.columns else frame.with_row_index(ROW)
    for name in names:
        if name != TIME:
            is_word = pl.col(name).cast(pl.String).is_in(list(words))
            frame = frame.filter(~is_word.fill_null(False))
    return frame
