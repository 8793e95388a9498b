"""Logs without times: the order of a user's events is that of the file."""

import dataclasses
import pathlib

import polars as pl
import pytest

import hrnn_jax
from hrnn_jax import errors
from hrnn_jax.config import MAX_GAP_MINUTES, DataConfig
from hrnn_jax.preprocess import datasets, prepared
from hrnn_jax.preprocess.past_sessions import of_log
from tests.helpers.log_files import T, events, refusal, source, write

LENIENT = DataConfig(min_support=1, min_session_events=1, min_user_sessions=1)
CONTENT = "user_id,item_id,visit\nb,3,1\na,9,1\nb,1,1\nb,2,2\na,8,2\n"


def test_places_stand_for_times(tmp_path):
    """Bug: number all events in one, or sort items."""
    path = write(tmp_path / "log.csv", CONTENT)
    expected = [("a", 9, 0), ("a", 8, 1), ("b", 3, 0), ("b", 1, 1), ("b", 2, 2)]
    assert events(path, time_column=None) == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_format_is_read_without_times(suffix, tmp_path):
    frame = pl.DataFrame({"user_id": [7, 7, 7], "item_id": [3, 1, 2]})
    path = tmp_path / f"log{suffix}"
    frame.write_ndjson(path) if suffix == ".jsonl" else frame.write_parquet(path)
    assert [item for _, item, _ in events(path, time_column=None)] == [3, 1, 2]


def test_a_log_that_is_newest_first_is_turned_round(tmp_path):
    path = write(tmp_path / "log.csv", CONTENT)
    turned = [item for _, item, _ in events(path, time_column=None, descending=True)]
    assert turned == [8, 9, 2, 1, 3]


def test_files_follow_each_other_in_their_order(tmp_path):
    for name, item in (("b", 1), ("a", 2)):
        write(tmp_path / f"{name}.csv", f"user_id,item_id\n7,{item}\n")
    both = pathlib.Path(f"{tmp_path}/b.csv,{tmp_path}/a.csv")
    assert events(both, time_column=None) == [(7, 1, 0), (7, 2, 1)]


def test_dropped_rows_have_no_place(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id\n7,1\n7,\n7,2\n")
    assert "row 2: no item id" in refusal(path, time_column=None)
    assert events(path, time_column=None, on_bad_row="skip") == [(7, 1, 0), (7, 2, 1)]


def test_a_user_has_one_session_unless_sessions_are_given(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id,visit\n" + "7,1,1\n7,2,1\n" * 3 + "7,1,2\n")
    one = of_log(source(path, time_column=None), LENIENT)
    assert one["session"].n_unique() == 1
    two = source(path, time_column=None, session_column="visit")
    assert of_log(two, LENIENT)["session"].to_list() == [0] * 6 + [1]


def test_a_gap_in_time_is_refused_where_there_are_no_times(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id,visit\n" + "7,1,1\n7,2,1\n7,1,2\n7,2,2\n")
    given = source(path, time_column=None, session_column="visit")
    hour = dataclasses.replace(LENIENT, session_gap_minutes=60)
    with pytest.raises(errors.InputError, match=r"^`session_gap_minutes`=60 needs times"):
        prepared.prepare(given, hour, tmp_path)
    by_time = dataclasses.replace(LENIENT, protocol="global_time")
    with pytest.raises(errors.InputError, match=r"^`protocol`=global_time needs times"):
        prepared.prepare(given, by_time, tmp_path)
    meta = prepared.load_meta(prepared.prepare(given, LENIENT, tmp_path))
    assert meta["recipe"]["session_gap_minutes"] == MAX_GAP_MINUTES
    assert not prepared.load(prepared.prepare(given, LENIENT, tmp_path)).has_times
    assert prepared.source_of(meta) == given
    with pytest.raises(errors.InputError, match="`time_format` needs times"):
        events(path, time_column=None, time_format="%Y")


def test_the_library_reads_a_frame_without_times(tmp_path):
    frame = pl.DataFrame({"user_id": [7, 7], "item_id": [2, 1], "ts": [T, T - 1]})
    log = hrnn_jax.read(frame, time=None, prepared_dir=tmp_path)
    assert log.frame()["item_id"].to_list() == [2, 1]
    assert repr(log) == "<log a data frame: no times: the order of the file>"


def test_lines_of_a_user_and_items_are_sequences(tmp_path):
    """Blank lines, a user without items, tabs and a user's second line are no fault."""
    path = write(tmp_path / "Beauty.txt", "u1 5 5 7\n\nu2\nu3\tx  y \nu1 6\n")
    given = datasets.source("sequences", tmp_path, events=path)
    log = of_log(given, LENIENT)
    assert log.select("user_id", "item_id").rows() == [
        *[("u1", item) for item in ("5", "5", "7", "6")],
        *[("u3", item) for item in ("x", "y")],
    ]
