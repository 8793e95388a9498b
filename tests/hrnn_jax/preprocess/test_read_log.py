"""read_log.read: every format reads the same, and what cannot be read is refused in one line."""

import datetime
import gzip
import logging
import pathlib
import zoneinfo

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.preprocess import read_log

LOG = pl.DataFrame(
    {
        "user_id": [20, 3, 20, 100, 3],
        "item_id": [7, 10**18, -5, 7, 7],
        "ts": [1_700_000_000, 1_700_000_060, 1_700_000_001, 1_700_000_002, 1_700_000_002],
    }
)
T = 1_700_000_000
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")


def write(path: pathlib.Path, log: pl.DataFrame = LOG) -> pathlib.Path:
    """Write a log in the format of the path's suffix."""
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix in (".csv", ".tsv"):
        log.write_csv(
            path if path.suffix == ".zst" else plain,
            separator="\t" if plain.suffix == ".tsv" else ",",
            compression="zstd" if path.suffix == ".zst" else "uncompressed",
        )
    elif plain.suffix in (".jsonl", ".ndjson"):
        log.write_ndjson(
            path if path.suffix == ".zst" else plain,
            compression="zstd" if path.suffix == ".zst" else "uncompressed",
        )
    else:
        log.write_parquet(plain)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


def read(path: pathlib.Path, **columns: str) -> read_log.Events:
    return read_log.read(read_log.Source("events", path, read_log.Columns.of(columns)))


def refusal(path: pathlib.Path, **columns: str) -> str:
    """Return the message of the refusal, after checking that it is a line that names the file."""
    with pytest.raises(errors.InputError) as raised:
        read(path, **columns)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "suffix",
    [
        *SUFFIXES,
        *(f"{suffix}.gz" for suffix in SUFFIXES),
        *(f"{suffix}.zst" for suffix in SUFFIXES[:4]),
    ],
)
def test_a_log_reads_the_same_in_every_format(suffix, tmp_path):
    got = read(write(tmp_path / f"log{suffix}"))
    assert got.raw_ids["user"].to_list() == [3, 20, 100]
    assert got.raw_ids["item"].to_list() == [-5, 7, 10**18]
    assert got.frame.select("user", "item").rows() == [(0, 1), (0, 2), (1, 1), (1, 0), (2, 1)]
    seconds = got.frame["time"].dt.epoch("s") - 1_700_000_000
    assert seconds.to_list() == [2, 60, 0, 1, 2]
    assert got.frame.schema["user"] == got.frame.schema["item"] == pl.UInt32


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Int8, pl.UInt64])
def test_ids_of_any_type_are_indexed_in_their_order(dtype, tmp_path):
    log = LOG.with_columns(pl.col("user_id").cast(pl.String).cast(dtype))
    got = read(write(tmp_path / "log.parquet", log))
    assert got.raw_ids["user"].to_list() == [3, 20, 100]
    assert got.frame["user"].to_list() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("ids", [[7, -128, 127, -128, 0], [7, -(2**63), 2**63 - 1, -(2**63), 0]])
def test_ids_are_indexed_however_far_apart(ids, tmp_path):
    log = pl.DataFrame({"user_id": [1] * 250, "item_id": pl.Series(ids * 50).shrink_dtype()})
    times = pl.int_range(1_700_000_000, 1_700_000_250)
    got = read(write(tmp_path / "log.parquet", log.with_columns(ts=times)))
    assert got.raw_ids["item"].to_list() == sorted(set(ids))
    assert got.raw_ids["item"].dtype == pl.Int64
    assert got.raw_ids["item"].gather(got.frame["item"]).to_list() == ids * 50


def test_events_are_in_the_order_of_user_time_and_file(tmp_path):
    times = [1_700_000_000 + at * 7 % 5 for at in range(200)]
    log = pl.DataFrame({"user_id": [at % 3 for at in range(200)], "item_id": range(200)})
    got = read(write(tmp_path / "log.csv", log.with_columns(ts=pl.Series(times))))
    expected = sorted(range(200), key=lambda at: (at % 3, times[at], at))
    assert got.frame["item"].to_list() == expected
    assert got.frame["user"].to_list() == [at % 3 for at in expected]


def test_ids_that_are_not_written_as_integers_stay_strings(tmp_path):
    log = LOG.with_columns(user_id=pl.Series(["7", "007", "7", "b", str(10**30)]))
    got = read(write(tmp_path / "log.csv", log))
    assert got.raw_ids["user"].to_list() == ["007", str(10**30), "7", "b"]
    assert got.frame["user"].to_list() == [0, 1, 2, 2, 3]
    padded = LOG.with_columns(user_id=pl.Series(["7", "007", "7", "8", "9"]))
    got = read(write(tmp_path / "padded.csv", padded))
    assert got.raw_ids["user"].to_list() == ["007", "7", "8", "9"]


def test_columns_may_have_any_names_even_those_of_the_schema(tmp_path):
    names = {"user_id": "row", "item_id": "time", "ts": "user"}
    log = LOG.rename(names).with_columns(session=pl.lit("s"), type=pl.Series([1, None, 2, 3, 4]))
    got = read(
        write(tmp_path / "log.csv", log),
        user="row",
        item="time",
        time="user",
        session="session",
        type="type",
    )
    assert got.frame["user"].to_list() == [0, 0, 1, 1, 2]
    assert got.frame["session"].to_list() == [0] * 5
    assert got.frame["type"].to_list() == ["4", None, "1", "2", "3"]


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
INSTANTS = [datetime.datetime(2023, 11, 14, 22, minute, 20) for minute in (13, 14, 15, 16, 17)]


@pytest.mark.parametrize(
    ("write_time", "stated"),
    [
        (lambda t: int(t.timestamp()), "Unix seconds"),
        (lambda t: t.timestamp() + 0.25, "Unix seconds"),
        (lambda t: int(t.timestamp() * 1000), "Unix milliseconds"),
        (lambda t: f"{t:%Y-%m-%dT%H:%M:%S}Z", "ISO 8601 with an offset"),
        (lambda t: f"{t + datetime.timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00", "with an offset"),
        (lambda t: f"{t:%Y-%m-%d %H:%M:%S}", "without an offset, read as UTC"),
        (lambda t: f"{t:%Y-%m-%dT%H:%M:%S}.125", "without an offset, read as UTC"),
        (lambda t: t.replace(tzinfo=None), "without a"),
        (lambda t: t.astimezone(PARIS), "'Europe/Paris'"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_times_are_detected_and_stated(write_time, stated, suffix, tmp_path, caplog):
    instants = [instant.replace(tzinfo=datetime.UTC) for instant in INSTANTS]
    log = LOG.with_columns(ts=pl.Series([write_time(instant) for instant in instants]))
    if "Paris" in stated and suffix == ".jsonl":  # there, text with an offset
        stated = "ISO 8601 with an offset"
    with caplog.at_level(logging.INFO):
        got = read(write(tmp_path / f"log{suffix}", log))
    assert got.frame["time"].dt.truncate("1s").sort().to_list() == INSTANTS
    line = next(message for message in caplog.messages if "time column" in message)
    assert stated in line
    assert "'ts'" in line
    assert "2023-11-14 .. 2023-11-14" in line


def test_dates_are_read_as_midnights(tmp_path, caplog):
    days = [datetime.date(2023, 1, day) for day in range(1, 6)]
    log = LOG.with_columns(ts=pl.Series(days))
    with caplog.at_level(logging.INFO):
        for suffix in (".csv", ".parquet"):
            got = read(write(tmp_path / f"log{suffix}", log)).frame["time"]
            assert got.dt.date().sort().to_list() == days
            assert (got.dt.time() == datetime.time()).all()
    assert "ISO 8601 dates, read as midnight UTC" in caplog.text


def test_milliseconds_order_events_of_the_same_second(tmp_path):
    log = LOG.with_columns(ts=pl.Series([1_700_000_000_900 - at for at in range(5)]))
    got = read(write(tmp_path / "log.csv", log.with_columns(user_id=1, item_id=pl.int_range(5))))
    assert got.frame["item"].to_list() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "times",
    [
        ["1700000000", "1700000001", "2023-11-14", "1700000003", "1700000004"],
        [1_700_000_000, 1_700_000_001, 1_700_000_002_000, 1_700_000_003, 1_700_000_004],
        ["2023-11-14T10:00:00Z", "2023-11-14T10:00:00Z", "2023-11-14T10:00:00", "x", "x"],
        ["2023-11-14", "2023-11-14", "2023-02-30", "2023-11-14", "2023-11-14"],
        ["1700000000", "1700000001", "yesterday", "1700000003", "1700000004"],
        [1_700_000_000, 1_700_000_001, None, 1_700_000_003, 1_700_000_004],
        [1_700_000_000, 1_700_000_001, -3, 1_700_000_003, 1_700_000_004],
        [1.7e9, 1.7e9, float("nan"), 1.7e9, float("inf")],
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_time_in_another_form_than_most_is_refused_by_row(times, suffix, tmp_path):
    log = LOG.with_columns(ts=pl.Series(times, strict=False))
    is_missing = times[2] is None or (suffix == ".jsonl" and times[2] != times[2])  # NaN: null
    what = "no time" if is_missing else "time "
    assert f"row 3: {what}" in refusal(write(tmp_path / f"log{suffix}", log))


@pytest.mark.parametrize("first", ["yesterday", "", "1e300", "-1", "2023-13-01T00:00:00"])
def test_a_first_time_in_no_form_is_refused(first, tmp_path):
    log = LOG.with_columns(ts=pl.Series([first, *["1700000000"] * 4]))
    says = f"row 1: time '{first}'" if first else "row 1: no time"
    assert says in refusal(write(tmp_path / "log.csv", log))
    if first:
        all_so = LOG.with_columns(ts=pl.Series([first] * 5))
        assert "row 1: cannot read the time" in refusal(write(tmp_path / "all.csv", all_so))


def test_rows_that_repeat_exactly_are_kept_and_counted(tmp_path, caplog):
    later = LOG[:1].with_columns(pl.col("ts") + 1)  # the same item again is no repeated row
    between = LOG[:1].with_columns(pl.col("item_id") + 1)  # nor another in the same second
    with caplog.at_level(logging.INFO):
        got = read(write(tmp_path / "log.csv", pl.concat([LOG, LOG[:2], between, LOG[:1], later])))
    assert len(got.frame) == 10
    assert "3 events repeat another exactly and are kept" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        read(write(tmp_path / "once.csv", LOG))
    assert "are kept" not in caplog.text


@pytest.mark.parametrize("column", ["user_id", "item_id", "session"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_id_is_refused_by_row(column, suffix, tmp_path):
    log = LOG.with_columns(session=pl.lit("a")).with_columns(
        pl.when(pl.int_range(pl.len()) != 3).then(pl.col(column)).alias(column)
    )
    message = refusal(write(tmp_path / f"log{suffix}", log), session="session")
    assert "row 4: no " in message
    assert repr(column) in message


def test_a_missing_column_is_refused_with_a_list_of_the_columns(tmp_path):
    message = refusal(write(tmp_path / "log.csv"), item="track")
    assert "'track'" in message
    assert "name the item column with `item_column`" in message
    assert "has: 'user_id', 'item_id', 'ts'" in message


def test_all_missing_columns_are_named_at_once(tmp_path):
    message = refusal(write(tmp_path / "log.csv"), user="who", time="when", session="visit")
    assert "no column 'who', 'when', 'visit'; name" in message
    assert "the user column with `user_column`, the time column with `time_column`, " in message
    assert "the session column with `session_column`; the file has: 'user_id'" in message
    assert "item_column" not in message


@pytest.mark.parametrize(
    "suffix", [".csv.gz", ".csv.zst", ".jsonl.gz", ".jsonl.zst", ".parquet", ".parquet.gz"]
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(suffix, part, tmp_path):
    many = pl.concat([LOG] * 1000).with_columns(noise=pl.int_range(5000).hash())
    path = write(tmp_path / f"log{suffix}", many)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "cannot be read to its end" in refusal(path)


def test_a_damaged_parquet_is_refused(tmp_path):
    path = write(tmp_path / "log.parquet", pl.concat([LOG] * 1000))
    whole = bytearray(path.read_bytes())
    whole[20:60] = bytes(40)
    path.write_bytes(whole)
    assert "cannot be read to its end" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.csv", f"user_id,title,item_id,ts\n1,a,2,{T}\n1,a, b,2,{T}\n", "row 2: has 5 values"),
        ("log.csv", f"user_id,item_id,ts\n1,2,{T}\n4\n", "row 2: no item id"),
        ("log.csv", "user_id,item_id,ts\n", "has no events"),
        ("log.csv", "", "is empty"),
        (
            "log.jsonl",
            f'{{"user_id":1,"item_id":2,"ts":{T}}}\n{{"user_id":1,"it\n',
            "row 2: is no JSON",
        ),
        ("log.jsonl", "[1, 2]\n", "malformed"),
        ("log.parquet", "no parquet", "truncated or malformed"),
        ("log.csv.gz", "no gzip", "no column"),
        ("log.parquet.gz", "no gzip", "truncated or malformed"),
        ("log.parquet.zst", "any", "zstd -d"),
        ("log.xlsx", "any", "must end in one of .csv"),
        ("log", "any", "must end in one of .csv"),
    ],
)
def test_a_malformed_file_is_refused(name, content, says, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    assert says in refusal(path)


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "log.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder without a file of .csv" in refusal(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (
            {"user_id": pl.Series([1.5] * 5)},
            "row 1: the user id 1.5: ids must be integers or strings",
        ),
        ({"user_id": pl.Series([True] * 5)}, "ids must be integers or strings"),
        ({"item_id": pl.Series([[1]] * 5)}, "holds List(Int64), several values in a cell"),
        ({"ts": pl.Series([True] * 5)}, "cannot be a time"),
        ({"ts": pl.Series([datetime.timedelta(1)] * 5)}, "cannot be a time"),
    ],
)
def test_columns_of_other_types_are_refused(column, says, tmp_path):
    assert says in refusal(write(tmp_path / "log.parquet", LOG.with_columns(**column)))


def test_a_name_with_wildcards_is_one_file(tmp_path):
    path = write(tmp_path / "log[1]*.csv")
    write(tmp_path / "log1.csv", LOG[:2])
    assert len(read(path).frame) == 5
