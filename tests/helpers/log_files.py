"""Small logs as files, and what the reader makes of them."""

import datetime
import pathlib

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.config import ReadConfig
from hrnn_jax.preprocess import read_log

H = "user_id,item_id,ts\n"
T = 1_400_000_000  # 2014-05-13 16:53:20 UTC
Content = str | bytes | pl.DataFrame


def write(path: pathlib.Path, content: Content) -> pathlib.Path:
    """Write text, bytes, or a frame as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(path: pathlib.Path, **given) -> read_log.Source:
    """Return a log of columns named as in `Columns` and settings as in `ReadConfig`."""
    names = {name: given.pop(name) for name in list(given) if name.endswith("_column")}
    return read_log.Source("events", path, read_log.Columns(**names), ReadConfig(**given))


def events(path: pathlib.Path, **given) -> list[tuple]:
    """Return (user, item, Unix seconds) of each event, by user and time."""
    return rows(read_log.read(source(path, **given)))


def rows(log: read_log.Events) -> list[tuple]:
    """Return (user, item, Unix seconds) of each event of a log."""
    users, items = log.raw_ids["user"], log.raw_ids["item"]
    frame = log.frame.select("user", "item", (pl.col("time").dt.epoch("us") / 1e6).round(6))
    return [(users[user], items[item], time) for user, item, time in frame.rows()]


def refusal(path: pathlib.Path, **given) -> str:
    """Return the message of the refusal, after checking that it is a line that names the file."""
    with pytest.raises(errors.InputError) as raised:
        read_log.read(source(path, **given))
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def seconds(*moment: int) -> int:
    """Return the Unix seconds of a moment in UTC."""
    return int(datetime.datetime(*moment, tzinfo=datetime.UTC).timestamp())  # type: ignore[arg-type]
