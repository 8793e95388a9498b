"""Read an event log of any format into the one event schema (Section 4.1, before its filters).

The frame that `read` returns has a row per event, by user, a user's events by time, and those of
the same time in the order of the file:

    user     u32           0.., in the order of the raw ids (see `Events.raw_ids`)
    item     u32           0.., likewise
    time     datetime[us]  UTC; without a time column the event's place among its user's, in
                           seconds after 1970
    session  u32           only when a session column is named
    type     str           only when a type column is named; may be null
    part     str           only when asked for: train, validation or test

Rows that repeat exactly are events like any other: the paper keeps repeats, and a user may click
twice in a second. Their number is logged; `DataConfig.drop_repeats` drops them inside sessions.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import parts as split_parts
from hrnn_jax.preprocess.public_logs import DERIVED
from hrnn_jax.preprocess.reading import files, ids, log_file
from hrnn_jax.preprocess.reading.checks import Skipped
from hrnn_jax.preprocess.reading.columns import Columns
from hrnn_jax.preprocess.reading.files import COMPRESSED, SUFFIXES
from hrnn_jax.preprocess.reading.table import (
    IDS,
    ITEM,
    PART,
    SESSION,
    TIME,
    TYPE,
    USER,
    parts_of,
)

__all__ = [
    "COMPRESSED",
    "ITEM",
    "PART",
    "RAW_ID",
    "SESSION",
    "SUFFIXES",
    "TIME",
    "TYPE",
    "USER",
    "Columns",
    "Events",
    "Skipped",
    "Source",
    "read",
    "time_format",
]
RAW_ID = "raw_id"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a log is, and how to read it."""

    name: str  # of the data set
    path: pathlib.Path  # of a file or a folder; or several paths or a pattern, see `files`
    columns: Columns = dataclasses.field(default_factory=Columns)
    reading: ReadConfig = dataclasses.field(default_factory=ReadConfig)
    simulated: bool = False
    shape: str | None = None  # the key in statistics.PAPER of what it is, or is shaped like
    notes: tuple[str, ...] = ()  # what a reader of results on it must know

    @property
    def named(self) -> dict[str, str]:
        """The column of each role. Without a header, columns may be named by their roles."""
        named = {role: name for role, name in self.columns.by_name.items() if name is not None}
        for role in (USER, ITEM, TIME, SESSION, TYPE):
            default = getattr(Columns(), f"{role}_column")
            if role in self.reading.columns and named.get(role) == default:
                named[role] = role
        return named


@dataclasses.dataclass(frozen=True)
class Events:
    """A log in memory, its ids replaced by dense indices."""

    frame: pl.DataFrame  # the schema above
    raw_ids: dict[str, pl.Series]  # by USER, ITEM, ..: [index] Int64 where all fit, else String
    skipped: Skipped = dataclasses.field(default_factory=Skipped)  # the rows that were dropped


def read(source: Source, *, parts: bool = False) -> Events:
    """Read a log.

    Args:
        source: the file or files, and how to read them. The end of a name, one of `SUFFIXES`, tells
            the format.
        parts: whether each event is of a part of a split that the log brings. Without a column of
            parts the names of the files tell, and files are read in the order of the parts, also
            where each is newest first.

    Returns:
        The events in the schema and order above, and the raw ids of their indices.

    Raises:
        InputError: a file, a column or a row cannot be read; the message names it.
    """
    categories = new_categories(source)
    read = [read_file(source, file, categories) for file in files_of(source, parts=parts)]
    frame, said = _joined([file.frame for file in read], categories), [file.said for file in read]
    skipped = say_read(source, said)
    del read
    raw_ids = {}
    for name in categories:
        index, raw_ids[name] = ids.index(frame[name])
        frame = frame.with_columns(index.alias(name))
    frame = in_order(frame, source)
    say_size(source, [len(frame), len(raw_ids[USER]), len(raw_ids[ITEM])], count_repeats(frame))
    return Events(frame, raw_ids, skipped)


class InPart(NamedTuple):
    """A file of a log, and the part of a split that its name tells."""

    file: files.LogFile
    part: str | None


@dataclasses.dataclass(frozen=True)
class Said:
    """What is said of a file once it is read."""

    events: int
    skipped: Skipped
    form: str | None  # of its times
    first: datetime.datetime | None  # of the times; None without events or times
    last: datetime.datetime | None


class ReadFile(NamedTuple):
    """The events of a file, oldest first, with ids as integers or categories."""

    frame: pl.DataFrame
    said: Said


def files_of(source: Source, *, parts: bool) -> list[InPart]:
    """Return the files of a log in the order in which they are read; parts: see `read`.

    Raises:
        InputError: there is none, a name tells no part of a split, or a column has two roles.
    """
    named = {role: column for role, column in source.named.items() if role in (USER, ITEM, TIME)}
    for one, other in itertools.combinations(named, 2):
        if named[one] == named[other]:
            raise InputError(
                f"`{other}_column`={named[other]} is the column of the {one}s too: name another one"
            )
    if TIME not in source.named and source.reading.time_format is not None:
        raise InputError("`time_format` needs times; name their column with `time_column`")
    found = files.find(source.path)
    if source.reading.descending:  # `read_file` turns each
        found.reverse()
    if parts and PART not in source.named:
        return [InPart(*file) for file in split_parts.in_order(found)]
    return [InPart(file, None) for file in found]


def new_categories(source: Source) -> dict[str, pl.Categories]:
    """Return categories for the ids of each role, for the files that one process reads."""
    return {name: pl.Categories.random() for name in source.named if name in IDS}


def read_file(source: Source, of_log: InPart, categories: Mapping[str, pl.Categories]) -> ReadFile:
    """Read a file of a log.

    Raises:
        InputError: the file, a column or a row cannot be read; the message names it.
    """
    named = source.named
    form = log_file.Form(named, source.reading, DERIVED.get(source.name))
    frame, skipped, form_of_times = log_file.read_file(of_log.file, form, categories)
    if source.reading.descending:
        frame = frame.reverse()
    if of_log.part is not None:
        frame = frame.with_columns(pl.lit(of_log.part, pl.String).alias(PART))
    elif PART in named:
        frame = frame.with_columns(parts_of(frame[PART]))
    first, last = None, None
    if TIME in named:
        first, last = frame.select(pl.col(TIME).min(), last=pl.col(TIME).max()).row(0)
    return ReadFile(frame, Said(len(frame), skipped, form_of_times, first, last))


def say_read(source: Source, said: Sequence[Said]) -> Skipped:
    """Say what was dropped from the files of a log, and of when it is; return what was dropped.

    Raises:
        InputError: the log has no event.
    """
    dropped = sum((file.skipped for file in said), Skipped())
    _say_dropped(source, dropped)
    if not any(file.events for file in said):
        if dropped.bad:
            raise InputError(
                f"{source.path}: has no events, as {dropped.bad:,} bad rows were dropped; read it "
                f"without `on_bad_row`=skip to see what mends them. The first is "
                f"{dropped.first[0]}"
            )
        raise InputError(f"{source.path}: has no events; give a log with at least one row")
    if TIME in source.named:
        first = min(file.first for file in said if file.first is not None)
        last = max(file.last for file in said if file.last is not None)
        times = " or ".join(dict.fromkeys(file.form for file in said if file.events and file.form))
        days = f"{first.date()} .. {last.date()} UTC"
        logger.info("time column %r: %s, %s", source.named[TIME], times, days)
    return dropped


def say_size(source: Source, size: Sequence[int], repeats: int) -> None:
    """Say how large a log is; size: its events, users and items."""
    kept = f"; {repeats} events repeat another exactly and are kept" if repeats else ""
    logger.info("%s: %d events, %d users, %d items%s", source.path, *size, kept)


def types(frame: pl.DataFrame) -> dict[str, int]:
    """Return how many events have each type."""
    return dict(frame[TYPE].drop_nulls().value_counts().iter_rows())


def in_order(frame: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Order the events of whole users, which are in the order of the files, as `read` does."""
    return _in_order(frame if TIME in source.named else frame.with_columns(_place().alias(TIME)))


def time_format(source: Source) -> str:
    """Return the form in which the times of a log are read: that of its first file.

    Raises:
        InputError: the file or its times cannot be read.
    """
    if TIME not in source.named:
        return "no times: the order of the file"
    form = log_file.Form(source.named, source.reading, DERIVED.get(source.name))
    return log_file.time_form(files.find(source.path)[0], form)


def _joined(
    frames: Sequence[pl.DataFrame], categories: Mapping[str, pl.Categories]
) -> pl.DataFrame:
    """Join the events of files; ids are texts where they are in one of the files."""
    if len(frames) == 1:
        return frames[0]
    for name, of_name in categories.items():
        if not all(frame[name].dtype.is_integer() for frame in frames):
            texts = pl.col(name).cast(pl.String).cast(pl.Categorical(of_name))
            frames = [frame.with_columns(texts) for frame in frames]
    return pl.concat(frames, how="vertical_relaxed")


def _say_dropped(source: Source, dropped: Skipped) -> None:
    """Say how many rows were dropped, and show the first ones."""
    if dropped.without_id:
        words = ",".join(source.reading.null_values or ())
        logger.info("%s: %d rows dropped whose id is %s", source.path, dropped.without_id, words)
    if dropped.bad:
        logger.warning("%s: %d bad rows dropped, such as:", source.path, dropped.bad)
        for row in dropped.first:
            logger.warning("  %s", row)


def _place() -> pl.Expr:
    """Return an event's place among its user's, as seconds after 1970."""
    seconds = pl.int_range(pl.len(), dtype=pl.Int64).over(USER)
    return (seconds * 10**6).cast(pl.Datetime("us"))


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Order events by user and time, and keep the order of those of one time."""
    if not frame[TIME].is_sorted():  # most logs are written as time goes by
        frame = frame.sort(TIME, maintain_order=True)
    # One u64 that holds user and place sorts several times faster than columns do.
    place = pl.int_range(pl.len(), dtype=pl.UInt64)
    keys = frame.select(pl.col(USER).cast(pl.UInt64) * 2**32 + place).to_series().sort()
    ordered = frame.select(pl.all().gather(keys % 2**32))
    return ordered.with_columns(pl.col(USER).set_sorted())


def count_repeats(frame: pl.DataFrame) -> int:
    """Count the events that equal an earlier one in all columns, in an ordered frame."""
    again = (pl.col(TIME) == pl.col(TIME).shift()).fill_null(False)
    tied = frame.lazy().filter(again | again.shift(-1, fill_value=False))
    return tied.select(pl.len() - pl.struct(pl.all()).hash().n_unique()).collect().item()
