"""Times: any usual form is read, and numbers or dates that are no such time are refused."""

import datetime
import decimal
import pathlib

import polars as pl
import pytest

from hrnn_jax import errors
from tests.helpers.log_files import H, T, events, refusal, seconds, write

DATA = pathlib.Path(__file__).parents[3] / "data"


def log(path, *times, suffix=".csv"):
    return write(path / f"log{suffix}", H + "".join(f"u,i{n},{t}\n" for n, t in enumerate(times)))


def times(path, **given):
    return [time for _, _, time in events(path, **given)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1400000000000000", T),
        ("1400000000000000123", T),
        ("2014-05-13 16:53:20 UTC", T),
        ("2014-05-13T16:53Z", T - 20),
        ("2014-05-13T18:53+02:00", T - 20),
        ("2014-05-13T16:53:20.5Z", T + 0.5),
        ('"1400000000,5"', T + 0.5),
        ('"2014-05-13T16:53:20,5"', T + 0.5),
        (" 1400000000 ", T),
    ],
)
def test_usual_forms_are_found_out(text, expected, tmp_path):
    assert times(log(tmp_path, text, text)) == [expected] * 2


@pytest.mark.parametrize("unit", [10**6, 10**9])
def test_small_units_keep_the_order_inside_a_second(unit, tmp_path):
    frame = pl.DataFrame(
        {
            "user_id": [1] * 3,
            "item_id": [1, 2, 3],
            "ts": [T * unit + n * unit // 1000 for n in (2, 1, 0)],
        }
    )
    for path in (tmp_path / "log.parquet", tmp_path / "log.csv"):
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
        assert events(path) == [(1, 3, T), (1, 2, T + 0.001), (1, 1, T + 0.002)]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("20140407", "%Y%m%d"),
        ("2014040108", "%Y%m%d%H"),
        ("201404071051", "%Y%m%d%H%M"),
        ("20140407105109", "%Y%m%d%H%M%S"),
        ("14-04-07 10:51:09", "%y-%m-%d %H:%M:%S"),
        ("30-04-14", "%d-%m-%y"),
        ("5/13/2014 4:53:20 PM", "%m/%d/%Y %I:%M:%S %p"),
        ("Tue May 13 16:53:20 +0000 2014", "%a %b %d %H:%M:%S %z %Y"),
    ],
)
def test_dates_of_another_form_are_named_and_read_with_it(text, form, tmp_path):
    path = log(tmp_path, text)
    message = refusal(path)
    assert "row 1: " in message
    assert repr(text) in message
    assert f"`time_format`={form!r}" in message
    moment = datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC)
    assert times(path, time_format=form) == [moment.timestamp()]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Categorical, pl.String])
def test_a_given_form_reads_columns_of_other_types(dtype, tmp_path):
    day = pl.Series(["20140407"]).cast(pl.Int64 if dtype.is_numeric() else pl.String).cast(dtype)
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "ts": day})
    path = write(tmp_path / "log.parquet", frame)
    assert times(path, time_format="%Y%m%d") == [seconds(2014, 4, 7)]
    assert "`time_format`='%Y%m%d'" in refusal(path)


def test_days_before_months_keep_their_order(tmp_path):
    """Bug: 30-04-14 and 01-05-14 are the years 30 and 1, in reverse."""
    path = log(tmp_path, "30-04-14", "01-05-14")
    expected = [seconds(2014, 4, 30), seconds(2014, 5, 1)]
    assert times(path, time_format="%d-%m-%y") == expected


@pytest.mark.parametrize("form", ["%Q", "%Y-%m-%d"])
def test_a_form_that_reads_nothing_is_refused(form, tmp_path):
    path = log(tmp_path, "13.5.2014")
    with pytest.raises(ValueError, match=r"time_format|cannot read|is not in the form"):
        events(path, time_format=form)


@pytest.mark.parametrize(
    "text",
    [
        *("0829", "41736.45", "14000", "631151999", "2524608000", "253402214400"),
        *("1989-12-31", "9999-12-31", "0000-01-01", "+12019-01-01"),
    ],
)
def test_times_that_no_log_has_are_refused_by_row(text, tmp_path):
    message = refusal(log(tmp_path, T if text.isdigit() or "." in text else "2014-01-01", text))
    assert "row 2: time " in message
    assert repr(text) in message
    assert "1990 .. tomorrow" in message or "is not in" in message


def test_a_cut_last_line_is_refused_and_not_moved_to_the_front(tmp_path):
    assert "row 2: time '14000'" in refusal(log(tmp_path, T, "14000"))


def test_any_year_takes_times_from_1970_to_5138(tmp_path):
    path = log(tmp_path, 0, 1, 4_102_444_800)
    assert times(path, any_year=True) == [0, 1, 4_102_444_800]
    for text in ("9999-12-31", "1969-12-31", "0000-01-01", "+12019-01-01"):
        assert "1970 .. 5138" in refusal(log(tmp_path, text), any_year=True)


def test_tomorrow_is_taken_and_the_day_after_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: float(T))
    assert times(log(tmp_path, T + 86_399)) == [T + 86_399]
    assert "1990 .. tomorrow" in refusal(log(tmp_path, T + 86_400))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_typed_instants_out_of_bounds_are_refused(unit, tmp_path):
    for number in (-(10**18), 9 * 10**18):
        moments = pl.Series([number]).cast(pl.Datetime(unit))
        frame = pl.DataFrame({"user_id": [1], "item_id": [2], "ts": moments})
        assert "row 1: time " in refusal(write(tmp_path / "log.parquet", frame))


def test_seconds_as_float32_are_refused(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "ts": [T, T + 60]})
    path = write(tmp_path / "log.parquet", frame.with_columns(pl.col("ts").cast(pl.Float32)))
    assert "in steps of 128" in refusal(path)


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(["2014-05-13T16:53:20"], dtype=pl.Categorical),
        pl.Series(["2014-05-13T16:53:20"], dtype=pl.Enum(["2014-05-13T16:53:20"])),
        pl.Series([b"2014-05-13 16:53:20"]),
        pl.Series([decimal.Decimal(T)]),
        pl.Series([T], dtype=pl.UInt64),
    ],
)
def test_times_of_any_type_of_text_or_number_are_read(values, tmp_path):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "ts": values})
    assert times(write(tmp_path / "log.parquet", frame)) == [T]


def test_times_of_day_are_refused(tmp_path):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "ts": [datetime.time(1)]})
    assert "without a date" in refusal(write(tmp_path / "log.parquet", frame))


def test_a_missing_first_time_is_called_missing(tmp_path):
    assert "row 1: no time (column 'ts')" in refusal(log(tmp_path, "", T))


@pytest.mark.parametrize("first", ["n/a", 0])
def test_the_form_of_most_times_is_found_after_many_bad_ones(first, tmp_path):
    """Bug: the first 100 values alone tell the form; the good rows are refused or dropped."""
    path = log(tmp_path, *[first] * 100, *[1000 * T] * 300)
    assert times(path, on_bad_row="skip") == [T] * 300
    message = refusal(path)
    assert f"row 1: time '{first}' (column 'ts') is not in Unix milliseconds" in message
    assert "as in 99 more rows" in message
    assert "`on_bad_row`=skip" in message


def test_a_time_in_no_form_is_refused_by_its_row(tmp_path):
    """Bug: the first time is said to be in row 1."""
    message = refusal(log(tmp_path, "", "", "yesterday", "yesterday"))
    assert "row 1: no time (column 'ts'), as in 1 more row; remove the row or fill" in message
    path = write(tmp_path / "log.csv", f"{H}1,a,\n\n1,a,yesterday\n1,b,{T}\n")
    assert "row 1: no time (column 'ts'); remove" in refusal(path)
    path = write(tmp_path / "log.csv", f"{H}\n1,a,yesterday\n1,b,yesterday\n")
    message = refusal(path)
    assert "row 2: cannot read the time 'yesterday' (column 'ts'), as in 1 more row" in message
    assert "`on_bad_row`=skip" in message
    assert "has no events, as 2 bad rows were dropped" in refusal(path, on_bad_row="skip")


def test_names_of_zones_are_refused(tmp_path):
    """Bug: the name is passed over, and the times are of another zone."""
    path = log(tmp_path, "2014-05-13 16:53:20 EST")
    with pytest.raises(errors.InputError, match="%Z is the name of a zone, which is not read"):
        events(path, time_format="%Y-%m-%d %H:%M:%S %Z")
    path = log(tmp_path, "2014-05-13 18:53:20 +0200 CEST")
    assert times(path, time_format="%Y-%m-%d %H:%M:%S %z %Z") == [T]


@pytest.mark.parametrize("column", ["ts", "other"])
def test_fixed_offsets_of_parquet_are_read_in_used_and_unused_columns(column):
    """The files are of pyarrow: a zone such as +05:30 is none that polars knows.

    Bug: a panic, even where the column is not read.
    """
    paths = sorted((DATA / "time_zones").glob("*.parquet"))
    assert len(paths) == 6
    for path in paths:
        assert times(path, time_column=column) == [T, T + 60]
