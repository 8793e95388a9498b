"""Read any event log into the one event schema (the raw side of Section 4.1).

The frame that `read` returns has a row per event, by user, a user's events by time, and those of
the same time in the order of the file:

    user     u32           0.., in the order of the raw ids (see `Events.raw_ids`)
    item     u32           0.., likewise
    time     datetime[us]  UTC
    session  u32           only when a session column is named
    type     str           only when a type column is named; may be null

Rows that repeat exactly are events like any other: the paper keeps repeats, and a second click in
the same second is one. Their number is logged; `Recipe.drop_repeats` drops them inside sessions.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import logging
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax.ids_and_times import ID_TYPES, MAX_MILLISECONDS, MAX_SECONDS

USER, ITEM, TIME, SESSION, TYPE = "user", "item", "time", "session", "type"
RAW_ID = "raw_id"

# Suffix -> separator; None are the formats without one.
SUFFIXES = {
    **{".csv": ",", ".tsv": "\t"},
    **{".parquet": None, ".pq": None, ".jsonl": None, ".ndjson": None},
}
PARQUET, COMPRESSED = (".parquet", ".pq"), (".gz", ".zst")
INSTANT = pl.Datetime("us")
SPREAD = 4  # ids that span up to so many integers per event are indexed by a table of that span

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Name the columns of a log. Without a session column, sessions are cut at idle gaps."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "ts"
    session: str | None = None
    type: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The schema's name of each column -> its name in the file."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclasses.dataclass(frozen=True)
class Source:
    """Say where a log is and how to read it."""

    name: str  # of the data set
    path: pathlib.Path
    columns: Columns = Columns()
    separator: str | None = None  # of a text table whose suffix says another
    simulated: bool = False
    shape: str | None = None  # the key in describe.PAPER of what it is, or is shaped like
    notes: tuple[str, ...] = ()  # what a reader of results on it must know


@dataclasses.dataclass(frozen=True)
class Events:
    """Hold a log in memory, its ids replaced by dense indices."""

    frame: pl.DataFrame  # the schema above
    raw_ids: dict[str, pl.Series]  # of users and items: [index] Int64 where all fit, else String


def read(source: Source) -> Events:
    """Read the log at `source.path`; raise InputError, with file and row, for what cannot be."""
    path, columns = source.path, source.columns
    with _explained(path):
        scan = _scan(path, source.separator)
        schema = scan.collect_schema()
    for what, column in columns.named.items():
        if column not in schema:
            raise errors.InputError(
                f"{path}: no column {column!r}; name the {what} column with --{what}_column, the "
                f"file has: {', '.join(map(repr, schema))}"
            )
    ids = [name for name in (USER, ITEM, SESSION) if name in columns.named]
    clock, parsed_time = _clock(scan, path, columns.time)
    selected = scan.select(
        parsed_time.alias(TIME),
        *(_id(columns.named[name], schema, path).alias(name) for name in ids),
        *([pl.col(columns.type).cast(pl.String).alias(TYPE)] if columns.type else []),
    )
    with _explained(path):
        # A text row with too many fields is only noticed when all its columns are read.
        whole_rows = pl.QueryOptFlags(projection_pushdown=suffix(path) in PARQUET)
        frame = selected.collect(engine="streaming", optimizations=whole_rows)
    if frame.is_empty():
        raise errors.InputError(f"{path}: has no events; give a log with at least one row")
    for name in ids:
        if row := _first_null(frame[name]):
            raise errors.InputError(
                f"{path}, row {row}: no {name} id (column {columns.named[name]!r}); "
                "remove the row or fill it in"
            )
    if row := _first_null(frame[TIME]):
        value = scan.slice(row - 1, 1).select(columns.time).collect().item()
        raise errors.InputError(
            f"{path}, row {row}: time {value!r} (column {columns.time!r}) is not in {clock} as in "
            "row 1; write all times in one format"
        )
    log.info(
        "time column %r: %s, %s .. %s UTC",
        columns.time,
        clock,
        *(f"{time:%Y-%m-%d}" for time in (frame[TIME].min(), frame[TIME].max())),
    )
    raw_ids = {}
    for name in ids:
        index, raw_ids[name] = _index(frame[name])
        frame = frame.with_columns(index.alias(name))
    frame = _in_order(frame)
    log.info(
        "%s: %d events, %d users, %d items; %d events repeat another exactly and are kept",
        *(path, len(frame), len(raw_ids[USER]), len(raw_ids[ITEM]), _repeats(frame)),
    )
    return Events(frame, raw_ids)


def suffix(path: pathlib.Path) -> str:
    """Tell the format's suffix, under the suffix of a compression."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


def _scan(path: pathlib.Path, separator: str | None) -> pl.LazyFrame:
    """Open a log lazily, with its row numbers; polars itself decompresses text."""
    if path.is_dir():
        raise errors.InputError(f"{path}: is a folder; give one file")
    if not path.exists():
        raise errors.InputError(f"{path}: no such file")
    kind = suffix(path)
    if kind not in SUFFIXES:
        raise errors.InputError(
            f"{path}: cannot tell the format by its name; it must end in one of "
            f"{' '.join(SUFFIXES)}, optionally followed by {' or '.join(COMPRESSED)}"
        )
    if path.stat().st_size == 0:
        raise errors.InputError(f"{path}: is empty")
    if kind in PARQUET:
        return pl.scan_parquet(_uncompressed(path), glob=False)
    if separator := separator or SUFFIXES[kind]:
        return pl.scan_csv(path, separator=separator, infer_schema=False, glob=False)
    # Values are read as text, like those of a table: 10 and "10" are the same id.
    names = pl.scan_ndjson(path, infer_schema_length=1000).collect_schema().names()
    return pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))


def _uncompressed(path: pathlib.Path) -> pathlib.Path | io.BytesIO:
    """Decompress a Parquet file into memory, as it is read from its end."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as file:
            return io.BytesIO(file.read())
    if path.suffix.lower() == ".zst":
        raise errors.InputError(
            f"{path}: Parquet inside zstd cannot be read; run `zstd -d` on it (Parquet compresses "
            "its columns itself)"
        )
    return path


@contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
    """Turn what readers raise for an unreadable file into one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise errors.InputError(
            f"{path}: cannot be read to its end, it may be truncated or malformed ({reason})"
        ) from error


def _id(column: str, schema: pl.Schema, path: pathlib.Path) -> pl.Expr:
    """Read ids as integers or, a u32 in memory, as categories of strings: never as a size."""
    dtype = schema[column]
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
        return pl.col(column)  # in as few bytes as in the file
    if dtype.is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.col(column).cast(pl.String).cast(pl.Categorical(pl.Categories.random()))
    raise errors.InputError(f"{path}: column {column!r} holds {dtype}; {ID_TYPES}")


def _index(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Replace ids by their places in the sorted ids; return these as well."""
    place, found = _rank(ids.to_physical())
    if ids.dtype.is_integer():
        return place, found.cast(pl.Int64)
    text = found.cat.to(ids.dtype).cast(pl.String)
    number = text.cast(pl.Int64, strict=False)
    # "007" is not 7: ids count as integers only where every one is written as its integer is.
    raw_id = number if number.cast(pl.String).equals(text) else text
    order = raw_id.arg_sort()
    return order.arg_sort().gather(place), raw_id.gather(order)


def _rank(keys: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Replace integers by their places in the sorted integers; return these as well."""
    values = keys.to_numpy().astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low >= SPREAD * len(values):
        return keys.rank("dense") - 1, keys.unique().sort()
    values -= low
    seen = np.zeros(high - low + 1, bool)
    seen[values] = True
    place = np.cumsum(seen, dtype=np.uint32) - 1
    return pl.Series(place[values]), pl.Series(low + np.flatnonzero(seen)).cast(keys.dtype)


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Order events by user and time, keeping the order of those that tie."""
    if not frame[TIME].is_sorted():  # most logs are written as time goes by
        frame = frame.sort(TIME, maintain_order=True)
    # One u64 that holds user and place sorts several times faster than columns do.
    place = pl.int_range(pl.len(), dtype=pl.UInt64)
    keys = frame.select(pl.col(USER).cast(pl.UInt64) * 2**32 + place).to_series().sort()
    ordered = frame.select(pl.all().gather(keys % 2**32))
    return ordered.with_columns(pl.col(USER).set_sorted())


def _first_null(column: pl.Series) -> int | None:
    """Tell the 1-based number of the first row without a value, if there is one."""
    nulls = column.is_null().arg_true()
    return nulls[0] + 1 if len(nulls) else None


def _repeats(frame: pl.DataFrame) -> int:
    """Count the events that equal an earlier one in all columns, in a frame in order."""
    again = (pl.col(TIME) == pl.col(TIME).shift()).fill_null(False)
    tied = frame.lazy().filter(again | again.shift(-1, fill_value=False))
    return tied.select(pl.len() - pl.struct(pl.all()).hash().n_unique()).collect().item()


def _clock(scan: pl.LazyFrame, path: pathlib.Path, column: str) -> tuple[str, pl.Expr]:
    """Tell the time format of the first row, and how to read a column of it (null: it is not)."""
    with _explained(path):
        first = scan.select(column).head(1).collect()
    dtype = first.schema[column]
    if isinstance(dtype, pl.Datetime | pl.Date):
        zone = getattr(dtype, "time_zone", None)
        instant = pl.col(column).dt.convert_time_zone("UTC") if zone else pl.col(column)
        stated = f"{dtype}" if zone else f"{dtype} without a zone, read as UTC"
        return stated, instant.cast(INSTANT)
    if not dtype.is_numeric() and not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        raise errors.InputError(f"{path}: column {column!r} holds {dtype}; it cannot be a time")
    for stated, parse in CLOCKS.items():
        if first.select(parse(pl.col(column)).is_not_null().any()).item():
            return stated, parse(pl.col(column))
    if first.is_empty():
        return "no format", pl.lit(None, INSTANT)
    raise errors.InputError(
        f"{path}, row 1: cannot read the time {first.item()!r} (column {column!r}); write Unix "
        "seconds, Unix milliseconds or ISO 8601"
    )


def _unix(column: pl.Expr, low: float, high: float, microseconds: float) -> pl.Expr:
    number = column.cast(pl.Float64, strict=False)
    instant = (number * microseconds).round().cast(pl.Int64, strict=False).cast(INSTANT)
    return pl.when(number.is_between(low, high, closed="left")).then(instant)


def _iso(column: pl.Expr, *formats: str) -> pl.Expr:
    text = column.cast(pl.String).str.replace(" ", "T")
    return pl.coalesce(text.str.to_datetime(f, time_unit="us", strict=False) for f in formats)


CLOCKS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "Unix seconds": lambda column: _unix(column, 0, MAX_SECONDS, 1e6),
    "Unix milliseconds": lambda column: _unix(column, MAX_SECONDS, MAX_MILLISECONDS, 1e3),
    "ISO 8601 with an offset": lambda column: _iso(
        column, "%Y-%m-%dT%H:%M:%S%.f%#z"
    ).dt.replace_time_zone(None),
    "ISO 8601 without an offset, read as UTC": lambda column: _iso(
        column, "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"
    ),
    "ISO 8601 dates, read as midnight UTC": lambda column: (
        column.cast(pl.String).str.to_date("%Y-%m-%d", strict=False).cast(INSTANT)
    ),
}
