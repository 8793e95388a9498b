"""Logs from files and frames of any library, and their parts."""

import dataclasses
import logging
import uuid

import numpy as np
import polars as pl
import pytest

import hrnn_jax
from hrnn_jax import datasets, errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import datasets as recipes
from hrnn_jax.preprocess import past_sessions
from tests.helpers import frames, logs


@pytest.fixture
def frame(tmp_path):
    return pl.read_csv(logs.write(tmp_path / "log.csv"))


def columns(part):
    """Return the events of a part's log as one array."""
    log = part.events
    return np.stack([log.user, log.session, log.item, log.time, log.test])


@pytest.mark.parametrize("library", frames.LIBRARIES)
def test_a_frame_of_any_library_is_the_file(frame, parts, tmp_path, library):
    given = frames.of_library(frame, library)
    train, test = hrnn_jax.read(given, min_support=1, prepared_dir=tmp_path / "new").split()
    np.testing.assert_array_equal(columns(train), columns(parts[0]))
    assert train.items == parts[0].items
    assert len(train) + len(test) == len(frame)


@pytest.mark.parametrize("library", ["polars", "lazy", "pandas"])
def test_a_column_that_is_not_used_may_hold_anything(frame, parts, tmp_path, library):
    """Bug: refuse the frame without the column's name, or a traceback."""
    notes = [object() for _ in range(len(frame))]
    if library == "pandas":
        given = frames.of_library(frame, "pandas").assign(note=notes)
    else:
        given = frame.with_columns(pl.Series("note", notes, dtype=pl.Object))
        given = given.lazy() if library == "lazy" else given
    read = hrnn_jax.read(given, min_support=1, prepared_dir=tmp_path).split()
    for part, expected in zip(read, parts, strict=True):
        np.testing.assert_array_equal(columns(part), columns(expected))
    with pytest.raises(errors.InputError, match="the frame cannot be"):
        hrnn_jax.read(given, user="note", prepared_dir=tmp_path)


def test_a_lazy_frame_of_no_file_is_refused(tmp_path):
    """Bug: FileNotFoundError."""
    with pytest.raises(errors.InputError, match="the frame cannot be read: No such file"):
        hrnn_jax.read(pl.scan_csv(tmp_path / "missing.csv"))


def test_the_parts_are_all_events_and_disjoint(frame, parts):
    both = pl.concat([part.frame() for part in parts])
    key = ["user_id", "item_id", "ts"]
    assert both.select(key).sort(key).equals(frame.select(key).sort(key))
    train, test = (part.frame()["session_id"].unique() for part in parts)
    assert not set(train) & set(test)
    assert repr(parts[1]).startswith("<test part of ")
    assert "30 users, 20 items, 30 sessions, 120 events" in repr(parts[1])


def test_a_log_says_how_it_is_read_and_its_parts_what_is_kept(log, frame, tmp_path):
    """Bug: count the kept events only, or fail where the log cannot be split."""
    assert repr(log).endswith("log.csv: times of column 'ts' in Unix seconds>")
    some = pl.concat([frame, frame.head(1).with_columns(user_id=pl.lit("once"))])
    train, _ = hrnn_jax.read(some, min_support=1, prepared_dir=tmp_path).split()
    n = len(frame)
    kept = f"with the other part 30 of 31 users, 20 of 20 items, {n} of {n + 1} events of the log"
    assert kept in repr(train)
    wrong = frame.with_columns(ts=pl.lit("yesterday"))
    said = repr(hrnn_jax.read(wrong, prepared_dir=tmp_path))
    assert said == "<log a data frame: times of column 'ts' in no known form>"


def test_the_validation_split_has_no_test_session(log, parts):
    train, validation = log.split("validation")
    last = parts[1].frame()["session_id"]
    assert len(validation) == len(parts[1]) == len(train) / 4
    assert validation.frame()["ts"].max() < parts[1].frame()["ts"].min()
    assert len(last) == 120


def test_the_same_log_is_prepared_once(log, parts):
    again, _ = log.split("last_session")
    assert again.folder == parts[0].folder


def test_columns_may_have_any_name_and_an_error_names_the_argument(frame, tmp_path):
    renamed = frame.rename({"user_id": "who", "item_id": "what", "ts": "when"})
    settings = {"min_support": 1, "prepared_dir": tmp_path / "new"}
    train, _ = hrnn_jax.read(renamed, user="who", item="what", time="when", **settings).split()
    assert len(train) == 600


@pytest.mark.parametrize("is_file", [True, False])
def test_an_error_about_a_log_names_the_argument_and_the_file_or_frame(
    frame, network, tmp_path, is_file
):
    """Bug: name `item_column` where `split` did not raise it, or the kept file of a frame."""
    path = logs.write(tmp_path / "log.csv")
    log = hrnn_jax.read(path if is_file else frame, item="what", prepared_dir=tmp_path / "new")
    said = (
        f"{path if is_file else 'a data frame'}: no column 'what'; name the item column with `item`"
    )
    for call in (log.split, log.frame, lambda: network.live(history=log)):
        with pytest.raises(errors.InputError) as raised:
            call()
        assert str(raised.value).startswith(said)


def test_a_row_that_is_left_out_is_one_of_the_frame(frame, tmp_path, caplog):
    """Bug: name the file that keeps the frame."""
    without_item = frame.with_columns(pl.when(pl.int_range(pl.len()) != 2).then("item_id"))
    hrnn_jax.read(without_item, on_bad_row="skip", min_support=1, prepared_dir=tmp_path).split()
    warnings = [line.message for line in caplog.records if line.levelno >= logging.WARNING]
    assert warnings == [
        "a data frame: 1 bad rows dropped, such as:",
        "  a data frame, row 3: no item id (column 'item_id')",
    ]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ("nothing.csv", "no such file; give another file to `read`"),
        ("", "`events`='': give a path"),
        ([1, 2], "give a path, or a frame"),
        (3, "int: give a path, or a frame"),
    ],
)
def test_what_is_no_log_is_refused(events, words, tmp_path):
    with pytest.raises(errors.InputError, match=words):
        hrnn_jax.read(events, prepared_dir=tmp_path)


def test_what_pandas_has_and_no_log_is_refused(frame, tmp_path):
    """Bug: an AttributeError, or words about bytes that do not name the column."""
    of_pandas = frames.of_library(frame, "pandas")
    ids = [uuid.UUID(int=255 << 120 | n) for n in range(len(frame))]
    for events, words in (
        (of_pandas["user_id"], "Series: give a path, or a frame"),
        (of_pandas.index, "RangeIndex: give a path, or a frame"),
        (of_pandas.assign(user_id=ids), "column 'user_id' has bytes that are no text: ids must"),
    ):
        with pytest.raises(errors.InputError, match=words):
            hrnn_jax.read(events, prepared_dir=tmp_path).split()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"user": None}, "`user`=None: give the name of a column"),
        ({"item": 1}, "`item`=1: give the name of a column"),
        ({"time": 2}, "`time`=2: give the name of a column"),
        ({"part": ["part"]}, r"`part`=\['part'\]: give the name of a column"),
        ({"prepared_dir": None}, "`prepared_dir`=None: give a path"),
    ],
)
def test_what_names_no_column_or_folder_is_refused(frame, given, words):
    """Bug: leave it to polars, which finds no column None."""
    with pytest.raises(errors.InputError, match=words):
        hrnn_jax.read(frame, **given)


def test_settings_that_cannot_be_are_refused(frame, log, tmp_path):
    with pytest.raises(errors.InputError, match="`min_support`=0"):
        hrnn_jax.read(frame, min_support=0)
    for wrong, near in (
        ("min_suport", "min_support"),
        ("usr", "user"),
        ("prepare_dir", "prepared_dir"),
    ):
        words = (
            f"'{wrong}' is no setting of a log: did you mean {near}\\? It takes user, item, time"
        )
        with pytest.raises(TypeError, match=words):
            hrnn_jax.read(frame, **{wrong: 3})
    for by in ("random", []):
        with pytest.raises(errors.InputError, match="give last_session, test or validation"):
            log.split(by)
    with pytest.raises(errors.InputError, match="`item`=user_id is the column of the users too"):
        hrnn_jax.read(frame, item="user_id", prepared_dir=tmp_path).split()


def test_the_named_logs_are_simulated_by_name(tmp_path):
    assert {"journey", "xing", "simulated_video", "simulated_xing"} <= {*datasets.names()}
    log = datasets.load("simulated_xing", scale=0.003, seed=4, prepared_dir=tmp_path)
    assert log.recipe == dataclasses.replace(recipes.XING, drop_types=())
    assert "XING at scale 0.003" in log.title
    lower = datasets.load("simulated_video", scale=0.003, prepared_dir=tmp_path, min_support=2)
    assert lower.recipe == DataConfig(min_support=2)
    assert lower.frame()["user_id"].n_unique() > 10


@pytest.mark.parametrize(
    ("name", "words"), [("movielens", "give one of journey"), ("xing", "interactions.csv")]
)
def test_a_log_that_is_not_there_is_refused(name, words, tmp_path):
    with pytest.raises(errors.InputError, match=words):
        datasets.load(name, prepared_dir=tmp_path)


def test_a_log_is_split_by_its_protocol(frame, tmp_path):
    """The last event of each user is the test part. Bug: hold out the last session all the same."""
    log = hrnn_jax.read(
        frame, protocol="leave_one_out", task="last_item", min_support=1, prepared_dir=tmp_path
    )
    train, test = log.split()
    assert len(test) == 30 == len(test.events.cases)
    both = pl.concat([train.frame(), test.frame()])
    last = both.sort("user_id", "ts").group_by("user_id", maintain_order=True).last()
    assert test.frame().sort("user_id")["ts"].equals(last["ts"])
    with pytest.raises(errors.InputError, match="`protocol`=leave_one_out; give test"):
        log.split("last_session")


def test_sessions_of_one_part_end_with_its_last_event(frame, tmp_path):
    """Bug: the training part knows when the held-out event of its last session was."""
    log = hrnn_jax.read(frame, protocol="leave_one_out", min_support=1, prepared_dir=tmp_path)
    train, _ = log.split()
    past = past_sessions.of_folder(train.folder, test=False)
    assert (past["end"] >= past["ts"]).all()
    assert past.group_by("session").last().select((pl.col("end") == pl.col("ts")).all()).item()
    whole = past_sessions.of_folder(train.folder)
    assert (whole["end"].to_numpy() > past["end"].max()).any()
