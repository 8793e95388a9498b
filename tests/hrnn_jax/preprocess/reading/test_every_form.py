"""One small log in any accepted format, encoding, form of times and type of ids is one log."""

import datetime
import decimal
import gzip
import io
import json
import pathlib
import tempfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import prepared
from tests.helpers.log_files import T, source

RECIPE = DataConfig(min_support=1, min_session_events=2, min_user_sessions=2)
RNG = np.random.default_rng(5)
# 6 users with 3 sessions of 3 events, in the order of time.
EVENTS = sorted(
    (T + 86_400 * session + 600 * user + 60 * n, 7 * user - 10, int(RNG.integers(4)) * 1001)
    for user in range(6)
    for session in range(3)
    for n in range(3)
)
UTC = datetime.UTC


def moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, UTC)


# The form of a time -> how it is written in text, and the flags that it needs.
TIMES = {
    "seconds": (str, {}),
    "seconds.5": (lambda t: f"{t}.5", {}),
    "seconds,5": (lambda t: f"{t},5", {}),
    "milliseconds": (lambda t: str(1000 * t), {}),
    "microseconds": (lambda t: str(10**6 * t), {}),
    "nanoseconds": (lambda t: str(10**9 * t), {}),
    "iso": (lambda t: f"{moment(t):%Y-%m-%dT%H:%M:%S}", {}),
    "iso z": (lambda t: f"{moment(t):%Y-%m-%dT%H:%M:%S}Z", {}),
    "iso utc": (lambda t: f"{moment(t):%Y-%m-%d %H:%M:%S} UTC", {}),
    "iso offset": (
        lambda t: f"{moment(t + 19_800):%Y-%m-%d %H:%M:%S}+05:30",
        {},
    ),
    "digits": (lambda t: f"{moment(t):%Y%m%d%H%M%S}", {"time_format": "%Y%m%d%H%M%S"}),
    "american": (
        lambda t: f"{moment(t):%m/%d/%Y %I:%M:%S %p}",
        {"time_format": "%m/%d/%Y %I:%M:%S %p"},
    ),
    "twitter": (
        lambda t: f"{moment(t):%a %b %d %H:%M:%S +0000 %Y}",
        {"time_format": "%a %b %d %H:%M:%S %z %Y"},
    ),
}
TYPED_TIMES = {
    "i64 s": lambda t: t.cast(pl.Int64),
    "u32 s": lambda t: t.cast(pl.UInt32),
    "f64 s": lambda t: t.cast(pl.Float64),
    "decimal s": lambda t: t.cast(pl.Decimal(20, 2)),
    "i64 ns": lambda t: t * 10**9,
    "f64 us": lambda t: t.cast(pl.Float64) * 1e6,
    "ms": lambda t: (t * 1000).cast(pl.Datetime("ms")),
    "us Paris": lambda t: (t * 10**6).cast(pl.Datetime("us", "Europe/Paris")),
    "ns UTC": lambda t: (t * 10**9).cast(pl.Datetime("ns", "UTC")),
    "text": lambda t: t.cast(pl.String),
    "category": lambda t: t.cast(pl.String).cast(pl.Categorical),
}
TYPED_IDS = {
    "i16": lambda ids: ids.cast(pl.Int16),
    "i64": lambda ids: ids.cast(pl.Int64),
    "f32": lambda ids: ids.cast(pl.Float32),
    "f64": lambda ids: ids.cast(pl.Float64),
    "decimal": lambda ids: pl.Series([decimal.Decimal(f"{i}.00") for i in ids]),
    "binary": lambda ids: pl.Series([str(i).encode() for i in ids]),
    "text": lambda ids: ids.cast(pl.String),
    "text.0": lambda ids: pl.Series([f"{i}.0" for i in ids]),
    "category": lambda ids: ids.cast(pl.String).cast(pl.Categorical),
    "enum": lambda ids: ids.cast(pl.String).cast(pl.Enum(sorted({str(i) for i in ids}))),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252")


@st.composite
def tables(draw) -> tuple[str, bytes, dict]:
    """Draw a text table: its suffix, content and flags."""
    write, flags = TIMES[draw(st.sampled_from(sorted(TIMES)))]
    suffix, separator = draw(
        st.sampled_from(
            [(".csv", ","), (".tsv", "\t"), (".csv", ";"), (".dat", "|"), (".txt", "::")]
        )
    )
    flags = dict(flags)
    if (suffix, separator) not in ((".csv", ","), (".tsv", "\t")):
        flags["separator"] = separator
    is_quoted = draw(st.booleans())
    note = draw(st.sampled_from(["", "x", 'é"', '12" disc']))  # a column that is not read
    end = draw(st.sampled_from(["", ".0"]))
    rows = []
    for t, user, item in EVENTS:
        row = [f"{user}{end}", str(item), write(t)]
        must = separator in row[2]
        rows.append(
            [f'"{of}"' if is_quoted or (must and of == row[2]) else of for of in row] + [note]
        )
    if draw(st.booleans()):
        flags |= {"no_header": True, "columns": ("user", "item", "time", "_")}
    else:
        rows.insert(0, ["user_id", "item_id", "ts", "note"])
    if draw(st.booleans()):
        rows.reverse() if "no_header" in flags else rows.__setitem__(slice(1, None), rows[:0:-1])
        flags["descending"] = True
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [separator.join(row) for row in rows]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines))), "")
    encoding = draw(st.sampled_from(ENCODINGS))
    if encoding in ("latin-1", "cp1252"):
        flags["encoding"] = encoding
    content = line_end.join([*lines, ""]).encode(encoding)
    if draw(st.booleans()):
        suffix, content = (
            f"{suffix}.gz",
            gzip.compress(content) + bytes(draw(st.sampled_from([0, 512]))),
        )
    return suffix, content, flags


@st.composite
def json_lines(draw) -> tuple[str, bytes, dict]:
    """Draw JSON lines, each with one event or with all events of a session."""
    write, flags = TIMES[draw(st.sampled_from(sorted(TIMES)))]
    as_number = draw(st.booleans())
    make = draw(st.sampled_from([int, float, str, lambda i: f"{i}.0"]))
    flags = dict(flags)

    def time(t: int) -> object:
        text = write(t)
        return int(text) if as_number and text.isdigit() else text

    if draw(st.booleans()):
        objects = [{"user_id": make(u), "item_id": make(i), "ts": time(t)} for t, u, i in EVENTS]
    else:
        sessions: dict = {}
        for t, u, i in EVENTS:
            sessions.setdefault((u, t // 86_400), []).append({"aid": make(i), "at": time(t)})
        objects = [{"user_id": make(u), "events": of} for (u, _), of in sessions.items()]
        flags |= {"item_column": "events.aid", "time_column": "events.at", "explode": "list"}
    text = "".join(
        f"{json.dumps(each)}\n" + draw(st.sampled_from(["", "", "\n"])) for each in objects
    )
    return (
        draw(st.sampled_from([".jsonl", ".ndjson"])),
        text.encode(draw(st.sampled_from(ENCODINGS[:5]))),
        flags,
    )


@st.composite
def parquet(draw) -> tuple[str, bytes, dict]:
    """Draw a Parquet file, with columns of any type that is accepted."""
    t, users, items = (pl.Series(values) for values in zip(*EVENTS, strict=True))
    of_ids = st.sampled_from(sorted(TYPED_IDS))
    frame = pl.DataFrame(
        {
            "user_id": TYPED_IDS[draw(of_ids)](users),
            "item_id": TYPED_IDS[draw(of_ids)](items),
            "ts": TYPED_TIMES[draw(st.sampled_from(sorted(TYPED_TIMES)))](t),
        }
    )
    file = io.BytesIO()
    frame.write_parquet(file)
    return draw(st.sampled_from([".parquet", ".pq"])), file.getvalue(), {}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The prepared tables of the log as a plain table."""
    path = tmp_path_factory.mktemp("plain") / "log.csv"
    rows = "".join(f"{user},{item},{t}\n" for t, user, item in EVENTS)
    path.write_text(f"user_id,item_id,ts\n{rows}")
    return contents(path, {})


def contents(path: pathlib.Path, flags: dict) -> dict[str, list]:
    """Return the tables of the prepared folder."""
    folder = prepared.prepare(source(path, **flags), RECIPE, path.parent / "prepared")
    tables = {}
    for name in ("events.parquet", "items.parquet", "users.parquet"):
        table = pl.read_parquet(folder / name, glob=False)
        tables[name] = [table.schema, table.rows()]
    return tables


@settings(max_examples=60, deadline=None, database=None)
@given(file=st.one_of(tables(), json_lines(), parquet()))
def test_every_accepted_form_prepares_to_the_same_events(file, expected):
    suffix, content, flags = file
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"log[1]{suffix}"
        path.write_bytes(content)
        assert contents(path, flags) == expected, (suffix, flags, content[:200])


@settings(max_examples=80, deadline=None, database=None)
@given(
    file=st.one_of(tables(), json_lines(), parquet()),
    part=st.floats(0, 1),
    inserted=st.sampled_from([b"", b'"', b",", b"\n", b"\x00", b"\xff", b"[{", b"9" * 40, b"NA"]),
    length=st.integers(0, 40),
    more=st.sampled_from(
        [{}, {"on_bad_row": "skip"}, {"any_year": True}, {"time_format": "%Y"}, {"explode": "list"}]
    ),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(file, part, inserted, length, more):
    """Whatever bytes are lost or added: no other error, and nothing is written."""
    suffix, content, flags = file
    at = int(part * len(content))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"log{suffix}"
        path.write_bytes(content[:at] + inserted + content[at + length :])
        try:
            contents(path, flags | more)
            message = None
        except errors.InputError as error:
            message = str(error)
        assert message is None or "\n" not in message
        assert (path.parent / "prepared").exists() == (message is None)
