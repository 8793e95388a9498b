"""What is wrong with rows: no valid id, no time that a log has, or no part of a split."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import time as clock
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.ids_and_times import ID_TYPES, NO_ID, time_bounds

from . import ids, lines, times
from .table import PART, ROW, TIME, UNEQUAL, Table, parts_of

_SAMPLE = 3  # times out of bounds by which their form is guessed
_FILL_IN = "remove the row or fill it in"
_OF_JSON = r"^(true|false|\[.*|\{.*)$"  # texts of JSON values that are no ids, unless of strings


@dataclasses.dataclass(frozen=True)
class Reading:
    """A file while it is read."""

    path: pathlib.Path
    table: Table
    raw: pl.LazyFrame  # its columns by role, as in the file
    named: Mapping[str, str]  # the column of each role
    form: times.TimeForm | None  # None without a time column
    config: ReadConfig


class Fault(NamedTuple):
    """The rows that have one thing wrong."""

    mask: np.ndarray  # of the frame's rows
    text: Callable[[int], str]  # says what is wrong with a row of the frame
    advice: str


def row_number(frame: pl.DataFrame, at: int, table: Table) -> int:
    """Return the number in the file of the row at a place of a frame."""
    place = frame[ROW][at] if ROW in frame.columns else at
    numbers = table.numbers() if table.rows is None and table.numbers else table.rows
    return place + 1 if numbers is None else numbers[place]


def of_ids(frame: pl.DataFrame, name: str, file: Reading) -> list[Fault]:
    """Return what is wrong with the ids of a role."""
    where = f" (column {file.named[name]!r})"

    def of_null(at: int) -> str:
        return ids.problem(_in_file(frame, at, name, file), name) + where

    faults = [Fault(frame[name].is_null().to_numpy(), of_null, _FILL_IN)]
    if frame[name].dtype.is_integer():
        return faults
    used = frame[name].unique().drop_nulls()
    codes, texts = used.to_physical(), used.cast(pl.String)
    problems = ids.problems(texts, name, file.config.null_values)
    stands_for_none = texts.is_in(NO_ID) & problems.is_not_null()
    words = ",".join(texts.filter(stands_for_none).sort())
    for chosen, advice in (
        (
            stands_for_none,
            f"give `null_values`={words} to drop such events, or an empty `null_values` where "
            "these are ids like others",
        ),
        (problems.is_not_null() & ~stands_for_none, "mend it"),
    ):
        text_of = dict(zip(codes.filter(chosen), problems.filter(chosen), strict=True))
        if text_of:
            row_codes = frame[name].to_physical()
            mask = row_codes.is_in(codes.filter(chosen).implode()).fill_null(False)
            faults.append(_of_codes(mask, row_codes, text_of, where, advice))
    if file.table.lines and texts.str.contains(_OF_JSON).any():
        faults.append(_of_json(frame, name, file))
    return faults


def of_times(frame: pl.DataFrame, file: Reading) -> list[Fault]:
    """Return what is wrong with the times: none, unreadable ones, and those that no log has."""
    form = file.form
    if form is None:
        return []
    column, instants = file.named[TIME], frame[TIME].to_physical()
    any_year = file.config.any_year
    low, high = (bound * 1e6 for bound in time_bounds(clock.time(), any_year=any_year))
    outside = ((instants < low) | (instants >= high)).fill_null(False).to_numpy()

    is_null = frame[TIME].is_null().to_numpy()
    is_filled = _is_filled(frame, file) if is_null.any() else is_null

    def unread(at: int) -> str:
        value = _in_file(frame, at, TIME, file)
        if form is times.UNKNOWN:
            return f"cannot read the time {value!r} (column {column!r})"
        return f"time {value!r} (column {column!r}) is not in {form.name} as others are"

    def far(at: int) -> str:
        value, instant = _in_file(frame, at, TIME, file), _shown(instants[at])
        read = "" if value == instant else f" is {instant} in {form.name}"
        bounds = "1970 .. 5138" if any_year else "1990 .. tomorrow"
        return f"time {value!r} (column {column!r}){read}, not in {bounds}"

    advice = "" if any_year else ", give `any_year` if it is right"
    if outside.any():
        places = np.flatnonzero(outside)[:_SAMPLE]
        advice += times.suggestion([_in_file(frame, int(at), TIME, file) for at in places])
    one_form = "write all times in one form"
    if form is times.UNKNOWN:
        sample = file.raw.filter(_has_time(file)).select(TIME).head(times.SAMPLE).collect()
        one_form = (
            "write Unix seconds, milliseconds, microseconds, nanoseconds or ISO 8601 as "
            "2024-03-01T20:00:00Z" + times.suggestion(sample.to_series().to_list())
        )
    return [
        Fault(is_null & ~is_filled, lambda _: f"no time (column {column!r})", _FILL_IN),
        Fault(is_null & is_filled, unread, one_form),
        Fault(outside, far, f"correct it{advice}"),
    ]


def of_lists(frame: pl.DataFrame) -> list[Fault]:
    """Return the rows of which lists that are taken apart together have different lengths."""
    if UNEQUAL not in frame.columns:
        return []
    text = "lists of different lengths, which `explode`=list takes apart together"
    return [Fault(frame[UNEQUAL].to_numpy(), lambda _: text, "mend it")]


def of_parts(frame: pl.DataFrame, file: Reading) -> list[Fault]:
    """Return the rows that are of no part of a split, where a column tells the parts."""
    if PART not in frame.columns:
        return []
    column, values = file.named[PART], frame[PART]

    def text(at: int) -> str:
        return f"part {values[at] or ''!r} (column {column!r}) is none of a split"

    return [Fault(parts_of(values).is_null().to_numpy(), text, "write train, validation or test")]


def _of_codes(
    mask: pl.Series, codes: pl.Series, text_of: Mapping[int, str], where: str, advice: str
) -> Fault:
    return Fault(mask.to_numpy(), lambda at: text_of[codes[at]] + where, advice)


def _of_json(frame: pl.DataFrame, name: str, file: Reading) -> Fault:
    """Return the rows of JSON lines whose id is a truth value, an object or a list."""
    assert file.table.lines
    column = file.named[name]
    suspects = frame[name].cast(pl.String).str.contains(_OF_JSON).fill_null(False).arg_true()
    number_of = {at: row_number(frame, at, file.table) for at in suspects}
    numbers = sorted({*number_of.values()})
    value_of = {
        number: lines.json_value(line, column)
        for number, line in zip(numbers, file.table.lines(numbers), strict=True)
    }
    mask = np.zeros(len(frame), bool)
    mask[[at for at in suspects if not isinstance(value_of[number_of[at]], str)]] = True

    def text(at: int) -> str:
        shown = json.dumps(value_of[number_of[at]])
        return f"the {name} id {shown} (column {column!r}): {ID_TYPES}"

    return Fault(mask, text, "mend it")


def _in_file(frame: pl.DataFrame, at: int, name: str, file: Reading) -> object:
    """Return the value in the file of the row at a place of the frame; instants as text."""
    place = frame[ROW][at] if ROW in frame.columns else at
    if ROW in file.raw.collect_schema():
        raw = file.raw.filter(pl.col(ROW) == place).head(1).select(name)
    else:
        raw = file.raw.slice(place, 1).select(name)
    # Python has no years after 9999.
    if file.form is not None and raw.collect_schema()[name].is_temporal():
        instant = raw.select(file.form.parse(pl.col(name))).collect().to_series().to_physical()
        return None if instant[0] is None else _shown(instant[0])
    return raw.collect().item()


def _is_filled(frame: pl.DataFrame, file: Reading) -> np.ndarray:
    """Tell which rows of a frame have anything in place of a time in the file."""
    raw = file.raw if ROW in file.raw.collect_schema() else file.raw.with_row_index(ROW)
    filled = raw.filter(_has_time(file)).select(ROW).collect(engine="streaming").to_series()
    if ROW in frame.columns:
        return frame[ROW].is_in(filled.implode()).to_numpy()
    mask = np.zeros(len(frame), bool)
    mask[filled.to_numpy()] = True
    return mask


def _has_time(file: Reading) -> pl.Expr:
    time = pl.col(TIME)
    if file.raw.collect_schema()[TIME].is_temporal():
        return time.is_not_null()
    text = time.cast(pl.String, strict=False).str.strip_chars()
    return time.is_not_null() & (text != "").fill_null(True)


def _shown(microseconds: int) -> str:
    """Return an instant as text, whatever its year."""
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=microseconds)
    except OverflowError:
        return "before the year 1" if microseconds < 0 else "after the year 9999"
    return moment.isoformat(" ", "seconds")
