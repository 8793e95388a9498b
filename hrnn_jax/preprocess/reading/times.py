"""Times in any usual form -> instants."""

from __future__ import annotations

import datetime
import pathlib
import time as clock
from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError, reason
from hrnn_jax.ids_and_times import (
    EARLIEST,
    FLOAT32_TIMES,
    MAX_MICROSECONDS,
    MAX_MILLISECONDS,
    MAX_SECONDS,
    time_bounds,
)

INSTANT = pl.Datetime("us")
SAMPLE = 100  # values that the form is found by, where it reads them all
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
# The forms that `suggestion` tries.
_DIGITS = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
_DATES = (
    "%y-%m-%d",
    "%d-%m-%y",
    "%d-%m-%Y",
    "%d.%m.%y",
    "%d.%m.%Y",
    "%m/%d/%y",
    "%m/%d/%Y",
    "%d/%m/%y",
    "%d/%m/%Y",
    "%Y/%m/%d",
    "%d %b %Y",
    "%b %d %Y",
)
_HOURS = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p", "T%H:%M:%S")
_WHOLE = ("%a %b %d %H:%M:%S %z %Y", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z")


class TimeForm(NamedTuple):
    """A form of times: what it is called, and the expression that reads it, else null."""

    name: str
    parse: Callable[[pl.Expr], pl.Expr]


UNKNOWN = TimeForm("no known form", lambda _: pl.lit(None, INSTANT))


def detect(
    values: pl.LazyFrame, name: str, column: str, config: ReadConfig, path: pathlib.Path
) -> TimeForm:
    """Return the form of a column of times.

    It is the given one, or the one that reads all of the first values, or else the one that reads
    most of the column. Times that no log has count only where no form reads any others.

    Args:
        values: the table.
        name: of its column.
        column: what the column is called in the file, for messages.
        config: how the file is read.
        path: for messages.

    Returns:
        The form; `UNKNOWN` where none reads any value.

    Raises:
        InputError: the column is of a type that holds no times.
    """
    where = f"{path}: column {column!r}"
    dtype = values.collect_schema()[name]
    if config.time_format is not None:
        return _given(dtype, config.time_format, where)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return _typed(dtype)
    if isinstance(dtype, pl.Time):
        raise InputError(f"{where} holds times of day without a date; give a column with both")
    if isinstance(dtype, pl.Float32):
        raise InputError(f"{where} holds Float32, {FLOAT32_TIMES}")
    texts = pl.String | pl.Categorical | pl.Enum | pl.Binary
    if not dtype.is_numeric() and not isinstance(dtype, texts | pl.Null):
        raise InputError(f"{where} holds {dtype}; it cannot be a time")
    filled = values.select(name).filter(pl.col(name).is_not_null())
    sample = filled.head(SAMPLE).collect()
    forms = _UNIX if dtype.is_numeric() else _OF_TEXT
    read = _counts(sample.lazy(), forms, any_year=config.any_year)
    if max(read)[0] < len(sample):
        read = _counts(filled, forms, any_year=config.any_year)
    best = max(read)
    return forms[read.index(best)] if any(best) else UNKNOWN


def _counts(
    values: pl.LazyFrame, forms: Sequence[TimeForm], *, any_year: bool
) -> list[tuple[int, int]]:
    """Return how many values each form reads as times that a log has, and as any times."""
    low, high = (int(bound * 1e6) for bound in time_bounds(clock.time(), any_year=any_year))
    counts = []
    for form in forms:
        instant = form.parse(pl.first())
        counts += [instant.to_physical().is_between(low, high).sum(), instant.count()]
    read = values.select(of.alias(str(n)) for n, of in enumerate(counts))
    numbers = read.collect(engine="streaming").row(0)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def suggestion(values: list[object]) -> str:
    """Return which `time_format` reads times, as the end of a message; "" where none does."""
    texts = [str(value).removesuffix(".0").strip() for value in values]
    for text_form in _candidates():
        if texts and all(_is_recent(text, text_form) for text in texts):
            return f", or give `time_format`={text_form!r} if they are such dates"
    return ""


def _candidates() -> list[str]:
    return [*_DIGITS, *(f"{day}{hour}" for hour in _HOURS for day in _DATES), *_WHOLE]


def _is_recent(text: str, form: str) -> bool:
    """Tell whether a text is a date of that form between 1990 and now."""
    if text.isdigit() and len(text) != len(_digits(form)):
        return False
    try:
        moment = datetime.datetime.strptime(text, form)
    except ValueError:
        return False
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    first = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=EARLIEST)
    return first <= moment.replace(tzinfo=None) <= now + datetime.timedelta(days=1)


def _digits(form: str) -> str:
    return datetime.datetime(2000, 10, 10, 10, 10, 10).strftime(form)


def _given(dtype: pl.DataType, time_format: str, where: str) -> TimeForm:
    """Return the form that the caller gives."""
    if dtype.is_temporal():
        raise InputError(f"{where} holds {dtype}: `time_format` is for text; drop it")
    form = time_format.replace(".%f", "%.f")
    ending = ""
    if ("%H" in form or "%I" in form) and "%M" not in form:  # polars wants both
        form, ending = f"{form}%M", "00"
    has_zone = any(directive in form for directive in ("%z", "%#z", "%:z"))
    if "%Z" in form.replace("%%", "") and not has_zone:  # polars passes over the name
        raise InputError(
            f"`time_format`={time_format}: %Z is the name of a zone, which is not read: write the "
            "times with offsets such as +02:00, which %z reads, or in UTC without a name"
        )

    def parse(column: pl.Expr) -> pl.Expr:
        text = _text(column).str.strip_suffix(".0") + ending
        read = text.str.to_datetime(form, time_unit="us", strict=False)
        return read.dt.replace_time_zone(None) if has_zone else read

    try:
        pl.select(parse(pl.lit("2000")))
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"`time_format`={time_format}: is no form of dates ({reason(error)}); %Y %m %d %H %M "
            "%S stand for year, month, day, hour, minute and second"
        ) from error
    return TimeForm(f"the form {time_format}", parse)


def _typed(dtype: pl.Datetime | pl.Date) -> TimeForm:
    """Return the form of a column with a type of its own; instants are stored in UTC."""
    if isinstance(dtype, pl.Date):
        return TimeForm(f"{dtype} without a zone, read as UTC", lambda column: column.cast(INSTANT))
    name = f"{dtype}" if dtype.time_zone else f"{dtype} without a zone, read as UTC"
    per_second = _PER_SECOND[dtype.time_unit]

    def parse(column: pl.Expr) -> pl.Expr:
        number, most = column.to_physical(), 2 * int(MAX_SECONDS) * per_second
        if dtype.time_unit == "ns":
            return (number // 10**3).cast(INSTANT)
        return (number.clip(-most, most) * (10**6 // per_second)).cast(INSTANT)

    return TimeForm(name, parse)


def _text(column: pl.Expr) -> pl.Expr:
    return column.cast(pl.String, strict=False).str.strip_chars()


def _unix(low: float, high: float, per_second: int) -> Callable[[pl.Expr], pl.Expr]:
    def parse(column: pl.Expr) -> pl.Expr:
        number = column.cast(pl.Float64, strict=False)
        if per_second > 10**6:  # of nanoseconds, a float has not all digits
            instant = column.cast(pl.Int64, strict=False) // (per_second // 10**6)
        else:
            instant = (number * (10**6 // per_second)).round().cast(pl.Int64, strict=False)
        is_within = number.is_between(low, high, closed="left")
        return pl.when(is_within).then(instant.cast(INSTANT))

    return parse


def _iso(*forms: str) -> Callable[[pl.Expr], pl.Expr]:
    def parse(column: pl.Expr) -> pl.Expr:
        text = column.str.replace(" ", "T", literal=True)
        return pl.coalesce(text.str.to_datetime(f, time_unit="us", strict=False) for f in forms)

    return parse


def _with_offset(column: pl.Expr) -> pl.Expr:
    return _iso("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")(column).dt.replace_time_zone(None)


def _in_utc(column: pl.Expr) -> pl.Expr:
    is_utc = column.str.ends_with("UTC")
    text = column.str.strip_suffix("UTC").str.strip_chars_end(" ")
    return pl.when(is_utc).then(_local(text))


def _date(column: pl.Expr) -> pl.Expr:
    return column.str.to_date("%Y-%m-%d", strict=False).cast(INSTANT)


_local = _iso("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
# Of numbers, and of numbers that are written as text.
_UNIX = (
    TimeForm("Unix seconds", _unix(0, MAX_SECONDS, 1)),
    TimeForm("Unix milliseconds", _unix(MAX_SECONDS, MAX_MILLISECONDS, 10**3)),
    TimeForm("Unix microseconds", _unix(MAX_MILLISECONDS, MAX_MICROSECONDS, 10**6)),
    TimeForm("Unix nanoseconds", _unix(MAX_MICROSECONDS, 2.0**63, 10**9)),
)
_TEXTS = (
    *_UNIX,
    TimeForm("ISO 8601 with an offset", _with_offset),
    TimeForm("ISO 8601 in UTC", _in_utc),
    TimeForm("ISO 8601 without an offset, read as UTC", _local),
    TimeForm("ISO 8601 dates, read as midnight UTC", _date),
)


def _of_text(form: TimeForm) -> TimeForm:
    """Return the form for text, in which a decimal comma is a point."""
    return TimeForm(
        form.name, lambda column: form.parse(_text(column).str.replace(",", ".", literal=True))
    )


_OF_TEXT = tuple(map(_of_text, _TEXTS))
