"""Read an event log of any format into the one event schema (Section 4.1, before its filters).

The frame that `read` returns has a row per event, by user, a user's events by time, and those of
the same time in the order of the file:

    user     u32           0.., in the order of the raw ids (see `Events.raw_ids`)
    item     u32           0.., likewise
    time     datetime[us]  UTC
    session  u32           only when a session column is named
    type     str           only when a type column is named; may be null

Rows that repeat exactly are events like any other: the paper keeps repeats, and a user may click
twice in a second. Their number is logged; `DataConfig.drop_repeats` drops them inside sessions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import logging
import pathlib
from collections.abc import Callable, Generator, Mapping

import numpy as np
import polars as pl

from hrnn_jax.errors import InputError, reason
from hrnn_jax.ids_and_times import ID_TYPES, MAX_MILLISECONDS, MAX_SECONDS

USER, ITEM, TIME, SESSION, TYPE = "user", "item", "time", "session", "type"
RAW_ID = "raw_id"

PARQUET, JSON_LINES = (".parquet", ".pq"), (".jsonl", ".ndjson")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, *PARQUET, *JSON_LINES)
COMPRESSED = (".gz", ".zst")
INSTANT = pl.Datetime("us")
MAX_SPAN = 4  # integers per event that ids may span to be indexed by a table of that span

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of a log's columns. Without a session column, sessions are cut at idle gaps."""

    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str = "ts"
    session_column: str | None = None
    type_column: str | None = None

    @classmethod
    def of(cls, columns: Mapping[str, str | None]) -> Columns:
        """Make the columns from what `by_name` returned, as a prepared folder's meta.json holds."""
        return cls(**{f"{name}_column": column for name, column in columns.items()})  # type: ignore

    @property
    def by_name(self) -> dict[str, str | None]:
        """The schema's name of each column -> its name in the file."""
        return {name.removesuffix("_column"): column for name, column in vars(self).items()}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a log is, and how to read it."""

    name: str  # of the data set
    path: pathlib.Path
    columns: Columns = Columns()
    separator: str | None = None  # of a text table whose suffix stands for another one
    simulated: bool = False
    shape: str | None = None  # the key in statistics.PAPER of what it is, or is shaped like
    notes: tuple[str, ...] = ()  # what a reader of results on it must know


@dataclasses.dataclass(frozen=True)
class Events:
    """A log in memory, its ids replaced by dense indices."""

    frame: pl.DataFrame  # the schema above
    raw_ids: dict[str, pl.Series]  # by USER, ITEM, ..: [index] Int64 where all fit, else String


def read(source: Source) -> Events:
    """Read a log.

    Args:
        source: the file, whose name ends in one of `SUFFIXES`, and how to read it.

    Returns:
        The events in the schema and order above, and the raw ids of their indices.

    Raises:
        InputError: the file, a column or a row cannot be read; the message names it.
    """
    path, columns = source.path, source.columns
    named = {name: column for name, column in columns.by_name.items() if column is not None}
    with _input_errors(path):
        scan = _scan(path, source.separator)
        schema = scan.collect_schema()
    if missing := {name: column for name, column in named.items() if column not in schema}:
        raise InputError(
            f"{path}: no column {', '.join(map(repr, missing.values()))}; name "
            f"{', '.join(f'the {name} column with `{name}_column`' for name in missing)}; the "
            f"file has: {', '.join(map(repr, schema))}"
        )
    ids = {name: column for name, column in named.items() if name in (USER, ITEM, SESSION)}
    time_format, time = _time_format(scan, path, columns.time_column)
    selected = scan.select(
        time.alias(TIME),
        *(_id_values(column, schema, path).alias(name) for name, column in ids.items()),
        *([pl.col(named[TYPE]).cast(pl.String).alias(TYPE)] if TYPE in named else []),
    )
    with _input_errors(path):
        # A text row with too many fields is only noticed when all its columns are read.
        whole_rows = pl.QueryOptFlags(projection_pushdown=suffix(path) in PARQUET)
        frame = selected.collect(engine="streaming", optimizations=whole_rows)
    _check_values(frame, scan, source, time_format)
    days = frame.select(pl.col(TIME).min().dt.date(), last=pl.col(TIME).max().dt.date()).row(0)
    logger.info("time column %r: %s, %s .. %s UTC", columns.time_column, time_format, *days)
    raw_ids = {}
    for name in ids:
        index, raw_ids[name] = _index(frame[name])
        frame = frame.with_columns(index.alias(name))
    frame = _in_order(frame)
    logger.info(
        "%s: %d events, %d users, %d items; %d events repeat another exactly and are kept",
        path,
        len(frame),
        len(raw_ids[USER]),
        len(raw_ids[ITEM]),
        _count_repeats(frame),
    )
    return Events(frame, raw_ids)


def _check_values(
    frame: pl.DataFrame, scan: pl.LazyFrame, source: Source, time_format: str
) -> None:
    """Raise InputError for a log without events, or an event without an id or a readable time."""
    path, columns = source.path, source.columns
    if frame.is_empty():
        raise InputError(f"{path}: has no events; give a log with at least one row")
    for name in frame.columns:
        if name in (USER, ITEM, SESSION) and (row := _first_null(frame[name])):
            raise InputError(
                f"{path}, row {row}: no {name} id (column {columns.by_name[name]!r}); remove the "
                "row or fill it in"
            )
    if row := _first_null(frame[TIME]):
        value = scan.slice(row - 1, 1).select(columns.time_column).collect().item()
        raise InputError(
            f"{path}, row {row}: time {value!r} (column {columns.time_column!r}) is not in "
            f"{time_format} as in row 1; write all times in one format"
        )


def suffix(path: pathlib.Path) -> str:
    """Return the suffix of the format in lower case, without the suffix of a compression."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


def _scan(path: pathlib.Path, separator: str | None) -> pl.LazyFrame:
    """Open a log lazily; polars itself decompresses text."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    kind = suffix(path)
    if kind not in SUFFIXES:
        raise InputError(
            f"{path}: cannot tell the format by its name; it must end in one of "
            f"{' '.join(SUFFIXES)}, optionally followed by {' or '.join(COMPRESSED)}"
        )
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    if kind in PARQUET:
        return pl.scan_parquet(_uncompressed(path), glob=False)
    if separator := separator or SEPARATORS.get(kind):
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
        raise InputError(
            f"{path}: Parquet inside zstd cannot be read; run `zstd -d` on it (Parquet compresses "
            "its columns itself)"
        )
    return path


@contextlib.contextmanager
def _input_errors(path: pathlib.Path) -> Generator[None]:
    """Raise the errors of readers as InputError, in one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read to its end, it may be truncated or malformed ({reason(error)})"
        ) from error


def _id_values(column: str, schema: pl.Schema, path: pathlib.Path) -> pl.Expr:
    """Read ids as integers or as categories, which take 4 bytes an event, of their texts."""
    dtype = schema[column]
    if dtype.is_integer() and not isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128):
        return pl.col(column)  # in as few bytes as in the file
    if dtype.is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.col(column).cast(pl.String).cast(pl.Categorical(pl.Categories.random()))
    raise InputError(f"{path}: column {column!r} holds {dtype}; {ID_TYPES}")


def _index(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the index of each id among the sorted different ids, and those ids."""
    index, unique = _index_integers(ids.to_physical())
    if ids.dtype.is_integer():
        return index, unique.cast(pl.Int64)
    text = unique.cat.to(ids.dtype).cast(pl.String)
    number = text.cast(pl.Int64, strict=False)
    # "007" is not 7: ids count as integers only where every one is written as its integer is.
    raw_id = number if number.cast(pl.String).equals(text) else text
    order = raw_id.arg_sort()
    return order.arg_sort().gather(index), raw_id.gather(order)


def _index_integers(keys: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the index of each integer among the sorted different integers, and those integers."""
    values = keys.to_numpy().astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low >= MAX_SPAN * len(values):
        return keys.rank("dense") - 1, keys.unique().sort()
    values -= low
    occurs = np.zeros(high - low + 1, bool)
    occurs[values] = True
    index = np.cumsum(occurs, dtype=np.uint32) - 1
    return pl.Series(index[values]), pl.Series(low + np.flatnonzero(occurs)).cast(keys.dtype)


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Order events by user and time, and keep the order of those of one time."""
    if not frame[TIME].is_sorted():  # most logs are written as time goes by
        frame = frame.sort(TIME, maintain_order=True)
    # One u64 that holds user and place sorts several times faster than columns do.
    place = pl.int_range(pl.len(), dtype=pl.UInt64)
    keys = frame.select(pl.col(USER).cast(pl.UInt64) * 2**32 + place).to_series().sort()
    ordered = frame.select(pl.all().gather(keys % 2**32))
    return ordered.with_columns(pl.col(USER).set_sorted())


def _first_null(column: pl.Series) -> int | None:
    """Return the number, from 1, of the first row without a value, if there is one."""
    nulls = column.is_null().arg_true()
    return nulls[0] + 1 if len(nulls) else None


def _count_repeats(frame: pl.DataFrame) -> int:
    """Count the events that equal an earlier one in all columns, in an ordered frame."""
    again = (pl.col(TIME) == pl.col(TIME).shift()).fill_null(False)
    tied = frame.lazy().filter(again | again.shift(-1, fill_value=False))
    return tied.select(pl.len() - pl.struct(pl.all()).hash().n_unique()).collect().item()


def time_format(source: Source) -> str:
    """Return the format in which the times of a log are read, as its first event has it.

    Raises:
        InputError: the file or the time cannot be read.
    """
    scan = _scan(source.path, source.separator)
    return _time_format(scan, source.path, source.columns.time_column)[0]


def _time_format(scan: pl.LazyFrame, path: pathlib.Path, column: str) -> tuple[str, pl.Expr]:
    """Return the format of the first time, and an expression that reads it (else null)."""
    with _input_errors(path):
        first = scan.select(column).head(1).collect()
    dtype = first.schema[column]
    if isinstance(dtype, pl.Datetime | pl.Date):
        zone = getattr(dtype, "time_zone", None)
        time = pl.col(column).dt.convert_time_zone("UTC") if zone else pl.col(column)
        return f"{dtype}" if zone else f"{dtype} without a zone, read as UTC", time.cast(INSTANT)
    if not dtype.is_numeric() and not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        raise InputError(f"{path}: column {column!r} holds {dtype}; it cannot be a time")
    for name, parse in TIME_FORMATS.items():
        if first.select(parse(pl.col(column)).is_not_null().any()).item():
            return name, parse(pl.col(column))
    if first.is_empty():
        return "no format", pl.lit(None, INSTANT)
    raise InputError(
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


TIME_FORMATS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
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
