"""The forms of well-known public logs, each a data set under its name; their files are not here.

docs/how-to/public_logs.md has the same as flags, and where each log is published.
"""

from __future__ import annotations

import dataclasses

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.preprocess.reading.columns import Columns
from hrnn_jax.preprocess.reading.log_file import Derive
from hrnn_jax.preprocess.reading.table import ITEM, SESSION, TIME, USER


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a log.

    Attributes:
        file: Its file, as it is published.
        columns: The names of its columns.
        reading: How it is read.
    """

    file: str
    columns: Columns = dataclasses.field(default_factory=Columns)
    reading: ReadConfig = dataclasses.field(default_factory=ReadConfig)


FORMS = {
    "xing": Form(
        "interactions.csv",
        Columns(time_column="created_at", type_column="interaction_type"),
        ReadConfig(separator="\t"),  # its files end in .csv all the same
    ),
    "yoochoose": Form(
        "yoochoose-clicks.dat",
        reading=ReadConfig(separator=",", no_header=True, columns=(USER, TIME, ITEM, "_")),
    ),
    "diginetica": Form(
        "train-item-views.csv",
        Columns("userId", "itemId", "time", "sessionId"),
        ReadConfig(separator=";", null_values=("NA",)),
    ),
    "retailrocket": Form(
        "events.csv", Columns("visitorid", "itemid", "timestamp", type_column="event")
    ),
    "lastfm_1k": Form(
        "userid-timestamp-artid-artname-traid-traname.tsv",
        reading=ReadConfig(
            no_header=True,
            columns=(USER, TIME, "_", "_", ITEM, "_"),
            quote_char="",
            on_bad_row="skip",  # some tracks have no id
            descending=True,
        ),
    ),
    "30music": Form(
        "sessions.idomaar",
        Columns(USER, ITEM, TIME, SESSION),
        # Each line is read as one value.
        ReadConfig(
            separator="\x1e", no_header=True, columns=("line",), quote_char="", explode="list"
        ),
    ),
    "mind": Form(
        "behaviors.tsv",
        Columns(USER, ITEM, TIME),
        ReadConfig(
            no_header=True,
            columns=("_", USER, TIME, "_", "impressions"),
            quote_char="",
            time_format="%m/%d/%Y %I:%M:%S %p",
            explode="list",
        ),
    ),
    "ebnerd": Form(
        "behaviors.parquet",
        Columns("user_id", "article_ids_clicked", "impression_time", "session_id"),
        ReadConfig(explode="list"),
    ),
    "taobao": Form(
        "UserBehavior.csv",
        Columns(type_column="type"),
        ReadConfig(
            no_header=True,
            columns=(USER, ITEM, "_", "type", TIME),
            on_bad_row="skip",  # some times are not of 2017
        ),
    ),
    "otto": Form(
        "train.jsonl",
        Columns("session", "events.aid", "events.ts", type_column="events.type"),
        ReadConfig(explode="list"),
    ),
    "foursquare": Form(
        "dataset_TSMC2014_NYC.txt",
        reading=ReadConfig(
            separator="\t",
            no_header=True,
            columns=(USER, ITEM, *("_",) * 5, TIME),
            quote_char="",
            encoding="latin-1",
            time_format="%a %b %d %H:%M:%S %z %Y",
        ),
    ),
    "online_retail": Form(
        "online_retail.csv",
        Columns("CustomerID", "StockCode", "InvoiceDate", "InvoiceNo"),
        ReadConfig(
            encoding="latin-1",
            time_format="%m/%d/%Y %H:%M",
            on_bad_row="skip",  # a quarter of the rows has no customer
        ),
    ),
    "ga4": Form(
        "events.jsonl",
        Columns("user_pseudo_id", "items.item_id", "event_timestamp", type_column="event_name"),
        ReadConfig(explode="list"),
    ),
    "sequences": Form(
        "lines of a user and items, as Beauty.txt",
        Columns(USER, ITEM, None),
        # Each line is read as one value.
        ReadConfig(
            separator="\x1e", no_header=True, columns=("line",), quote_char="", explode="space"
        ),
    ),
}


def _diginetica(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Add the time: the day and the milliseconds since the beginning of the session."""
    day = pl.col("eventdate").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms"))
    milliseconds = day.to_physical() + pl.col("timeframe").cast(pl.Int64, strict=False)
    return scan.with_columns(milliseconds.cast(pl.Datetime("ms")).alias(TIME))


def _mind(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Add the items that were clicked: those of N1-1 N2-0 that end in 1."""
    clicked = pl.col("impressions").str.extract_all(r"\S+-1\b")
    return scan.with_columns(clicked.list.eval(pl.element().str.head(-2)).alias(ITEM))


def _music30(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Take the lines of sessions apart: a track is played some seconds after the session began."""
    track = pl.Struct({"id": pl.Int64, "playstart": pl.Int64})
    line = pl.col("line")
    start = line.str.extract(r"^[^\t]*\t\d+\t(\d+)").cast(pl.Int64)
    objects = line.str.extract(r'"objects":\s*(\[.*?\])').str.json_decode(pl.List(track))
    after = objects.list.eval(pl.element().struct.field("playstart").fill_null(0))
    return scan.with_columns(
        line.str.extract(r'"subjects":\s*\[\s*\{[^}]*"id":\s*(\d+)').alias(USER),
        objects.list.eval(pl.element().struct.field("id")).alias(ITEM),
        (after + start).alias(TIME),
        line.str.extract(r"^[^\t]*\t(\d+)").alias(SESSION),
    )


def _sequences(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Take lines of a user and items apart, at white space."""
    line = pl.col("line").str.strip_chars()
    return scan.with_columns(
        line.str.extract(r"^(\S+)").alias(USER),
        line.str.extract(r"^\S+\s+(.*)$").fill_null("").alias(ITEM),
    )


DERIVED: dict[str, Derive] = {
    "diginetica": _diginetica,
    "mind": _mind,
    "30music": _music30,
    "sequences": _sequences,
}
