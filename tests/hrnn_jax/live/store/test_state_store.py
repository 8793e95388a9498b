"""States survive a restart, use bounded memory, and never serve other weights."""

import contextlib
import functools
import gc
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import types
import zlib
from concurrent import futures

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.files import atomic
from hrnn_jax.live import batched_model
from hrnn_jax.live.events import Event, OpenSession, Request, StoredEvent
from hrnn_jax.live.recommender import load_recommender
from hrnn_jax.live.states import rebuilding
from hrnn_jax.live.store import sqlite_store, state_file, state_store
from hrnn_jax.live.store.opening import open_store
from hrnn_jax.live.store.sqlite_store import SqliteStore
from hrnn_jax.live.store.state_rows import StoredState, crc_of
from tests.helpers import live_users, stored_states, weights

ROOT = pathlib.Path(__file__).parents[4]
OLD_RUNS = ROOT / "tests" / "data" / "run_format_1"
NOW = live_users.NOW


@pytest.fixture
def path(tmp_path):
    return tmp_path / "states.sqlite"


@pytest.mark.parametrize("can_be_written", [True, False])
@pytest.mark.parametrize("of_sqlite", [True, False])
def test_an_error_in_writing_says_room_or_right(path, monkeypatch, can_be_written, of_sqlite):
    """Bug: ask for room on a disk that is mounted read-only, where SQLite has an I/O error."""
    path.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: can_be_written)
    error: Exception = OSError(5, "I/O error")
    if of_sqlite:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    words = "make room on its disk" if can_be_written else "give the process the right to write it"
    with (
        pytest.raises(errors.StorageError, match=f"^{path} cannot be written .*: {words}"),
        state_file.one_line_errors(path),
    ):
        raise error


def test_a_file_without_a_byte_is_removed_and_one_of_states_is_not(path):
    state_file.remove_empty(path)
    path.touch()
    assert state_file.is_new(path)
    state_file.remove_empty(path)
    assert not path.exists()
    filled(path)
    state_file.remove_empty(path)
    assert path.exists()
    assert not state_file.is_new(path)


def filled(path, **settings):
    """Write the states of ten users; return their recommendations."""
    with live_users.recommender(path, **settings) as recommender:
        recommender.observe_many(live_users.random_events(0))
        return live_users.all_lists(recommender)


def test_states_survive_a_restart(states):
    expected = filled(states)
    with live_users.recommender(states) as recommender:
        assert live_users.all_lists(recommender) == expected
        events = live_users.random_events(1)
        recommender.observe_many(events)
        after = live_users.all_lists(recommender)
    with live_users.recommender(states) as recommender:
        assert live_users.all_lists(recommender) == after != expected


def left_by_a_kill(path):
    """Leave a state file and the -wal of a process that was killed."""
    filled(path.with_name("live.sqlite"))
    with live_users.recommender(path.with_name("live.sqlite")) as recommender:
        recommender.observe_many(live_users.events(1, user="late"))
        for file in path.parent.glob("live.sqlite*"):
            shutil.copy(file, path.with_name(file.name.replace("live", "states")))
    assert path.with_name("states.sqlite-wal").stat().st_size


@pytest.mark.parametrize("empty", [False, True])
def test_the_states_of_a_removed_file_do_not_come_back(path, empty):
    """Bug: let SQLite read the -wal of the removed file into the new one."""
    left_by_a_kill(path)
    path.write_bytes(b"") if empty else path.unlink()
    before = path.with_name("states.sqlite-wal").read_bytes()
    with pytest.raises(errors.InputError) as raised:
        live_users.recommender(path)
    assert re.search(r"but states.sqlite-wal .*of a former one do(es)?: move", str(raised.value))
    assert path.with_name("states.sqlite-wal").read_bytes() == before
    for stray in path.parent.glob("states.sqlite?*"):
        stray.unlink()  # as the message advises
    with live_users.recommender(path) as recommender:
        assert len(recommender) == 0


def test_a_copy_that_is_put_back_as_the_message_advises_brings_back_its_own_states_alone(path):
    """Bug: name the state file alone; the -wal next to it has later users."""
    copy = path.with_name("copy.sqlite")
    with live_users.recommender(copy) as recommender:
        recommender.observe_many(live_users.events(1, user="early"))
    left_by_a_kill(path)
    path.write_bytes(b"damaged!" * (path.stat().st_size // 8))
    with pytest.raises(errors.StorageError, match="move it away together with") as raised:
        live_users.recommender(path)
    for name in re.findall(r"states\.sqlite-\w+", str(raised.value)):
        path.with_name(name).unlink(missing_ok=True)
    shutil.copy(copy, path)
    with live_users.recommender(path) as recommender:
        assert recommender.users() == [("early", 1)]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def removed(path):
    path.unlink()


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("end", ["", "-wal"])
@pytest.mark.parametrize("lose", [removed, replaced, truncate])
def test_no_event_is_acknowledged_once_the_file_is_lost(path, lose, end):
    """Bug: let SQLite go on with the file that it has open, which nobody finds again."""
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected = live_users.all_lists(recommender)
        recommender.check_file()
        lose(path.with_name(path.name + end))
        for call in (
            recommender.check_file,
            lambda: recommender.observe_many(live_users.random_events(1)),
            lambda: recommender.forget(user="u0"),
        ):
            with pytest.raises(
                errors.StorageError, match=f"{path.name}{end} was removed, replaced"
            ):
                call()
        if lose is not truncate:
            assert live_users.all_lists(recommender) == expected
    live_users.recommender().check_file()  # in memory there is none to lose


def test_a_small_cache_changes_nothing(path):
    expected = filled(state_store.IN_MEMORY)
    with live_users.recommender(path, keep={"cached_users": 2}) as recommender:
        for event in live_users.random_events(0):
            recommender.observe_many([event])
        live_users.assert_same_lists(live_users.all_lists(recommender), expected)
        store = recommender._states.store
        assert isinstance(store, SqliteStore)
        assert len(store._cache) == 2
        assert len(recommender) == 10


def test_the_garbage_collector_does_not_pass_over_cached_states(path):
    """Bug: cache them as named tuples, over which it passes for 50 ms for 100,000 users."""
    with live_users.recommender(path) as live:
        live.observe_many([Event("i1", f"u{n}") for n in range(600)])
        gc.collect()
        before = len(gc.get_objects())
        live.observe_many([Event("i1", f"v{n}") for n in range(600)])
        gc.collect()
        assert len(gc.get_objects()) - before < 300


def test_only_the_newest_events_are_stored(states):
    with live_users.recommender(states, keep={"kept_events": 3}) as recommender:
        recommender.observe_many(live_users.events(1, 2, 3, 4, 5))
        assert [step.item for step in recommender.history(user="u")] == ["i3", "i4", "i5"]
        recommender.observe_many(live_users.events(6, time=live_users.NOW + 600))
        assert [step.item for step in recommender.history(user="u")] == ["i4", "i5", "i6"]
        assert recommender.users() == [("u", 6)]


def test_a_start_that_keeps_fewer_events_deletes_those_of_idle_users_too(states, tmp_path):
    """Bug: shorten what is stored of a user at the user's next event, which may never come."""
    with live_users.recommender(states) as live:
        live.observe_many(live_users.events(1, 2, 3, 4, 5) + live_users.events(6, 7, user="v"))
        live.export_states(tmp_path / "exported")
    for begin in (lambda live: None, lambda live: live.import_states(tmp_path / "exported")):
        with live_users.recommender(states, keep={"kept_events": 3}) as live:
            begin(live)
            assert [event.item for event in live._states.store.events("uu")] == ["i3", "i4", "i5"]
            assert [event.item for event in live._states.store.events("uv")] == ["i6", "i7"]
    with live_users.recommender(states) as live:
        live.observe_many(live_users.events(6, time=live_users.NOW + 600))
        assert [event.place for event in live._states.store.events("uu")] == [2, 3, 4, 5]


def test_an_event_with_a_changed_place_does_not_delete_others_as_old(states):
    """Bug: count back from the largest place, which may be of a damaged event."""
    with live_users.recommender(states) as live:
        live.observe_many(live_users.events(1, 2, 3, 4, 5))
    stored_states.execute(states, "UPDATE events SET place = place + 16384 WHERE place = 4")
    with live_users.recommender(states, keep={"kept_events": 4}) as live:
        assert [step.item for step in live.history("u")] == ["i2", "i3", "i4"]


def test_nothing_of_dropped_events_is_left_on_the_disk(path):
    """Bug: leave them in the -wal and in unused parts of pages until the service ends."""
    with live_users.recommender(path) as live:
        live.observe_many([Event("i1", "u", NOW + n, event_id=f"secret{n}") for n in range(300)])
    with live_users.recommender(path, keep={"kept_events": 5}):
        assert bytes_on_disk(path.parent).count(b"secret29") == 2 * 5  # in the table and the index
        assert bytes_on_disk(path.parent).count(b"secret") == 2 * 5


def test_more_events_than_a_column_can_count_are_refused():
    """Bug: OverflowError."""
    with pytest.raises(errors.InputError, match="`kept_events`=100000000000000000000: give"):
        RecommenderConfig(kept_events=10**20)


def test_a_forgotten_user_is_a_new_user(states):
    with live_users.recommender(states) as recommender:
        recommender.observe_many(live_users.events(1, 2))
        assert recommender.forget(user="u")
        assert not recommender.forget(user="u")
        assert recommender.history(user="u") == recommender.users() == []
        recommender.observe_many(live_users.events(3, 4))
        expected = recommender.recommend(user="u")
    with live_users.recommender() as other:
        other.observe_many(live_users.events(3, 4))
        live_users.assert_same_lists([other.recommend(user="u")], [expected])


def bytes_on_disk(folder):
    """Return what a killed process would leave: the bytes of all files, which are still open."""
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("kill", [False, True])
def test_nothing_of_a_forgotten_person_is_left_on_disk(path, kill, monkeypatch):
    """Bug: leave the rows in the -wal, or go on from a kill before it was emptied."""
    with live_users.recommender(path) as recommender:
        for n in range(30):
            recommender.observe(user="a-person", item=f"i{n}", event_id=f"of-a-person-{n}")
            recommender.observe(user="another", item=f"i{n}")
            recommender.observe(session="a-person", item=f"i{n}")
        assert bytes_on_disk(path.parent).count(b"a-person") > 100
        if kill:
            monkeypatch.setattr(SqliteStore, "_erase_traces", lambda store: None)
        assert recommender.forget(user="a-person")
        assert recommender.forget_idle_sessions(-1) == 1
        left = path.parent / "left"
        left.mkdir()
        for file in path.parent.glob("states.sqlite*"):
            shutil.copy(file, left)
        assert (b"a-person" in bytes_on_disk(left)) == kill
        recommender.observe(user="another", item="i1")
    monkeypatch.undo()
    assert b"a-person" not in path.read_bytes()
    with live_users.recommender(left / "states.sqlite") as recommender:
        assert b"a-person" not in bytes_on_disk(left)
        assert recommender.users() == [("another", 30)]


def test_to_forget_again_erases_what_a_full_disk_left_and_says_so(path, monkeypatch):
    """Bug: answer that nothing is stored, though the call that deleted the rows had failed."""
    with live_users.recommender(path) as recommender:
        recommender.observe(user="a-person", item="i1")
        recommender.observe(user="another", item="i1")

        def full(store):
            raise errors.StorageError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "_checkpoint", full)
            for _ in range(2):
                with pytest.raises(errors.StorageError, match="the disk is full"):
                    recommender.forget(user="a-person")
            assert b"a-person" in bytes_on_disk(path.parent)
        assert recommender.forget(user="a-person")
        assert b"a-person" not in bytes_on_disk(path.parent)
        assert not recommender.forget(user="a-person")
        assert recommender.users() == [("another", 1)]


def test_a_start_removes_what_killed_imports_left(path):
    """Bug: leave the copies of all users' events that a killed import was writing."""
    for end in ("a1_b2c3x", "backup", "a1_b2c3d4"):
        folder = path.parent / f".states.sqlite-{end}"
        folder.mkdir()
        (folder / "states.sqlite").write_text("a-person")
    with atomic.writing(path.parent / "states.sqlite") as partial:
        partial.write_text("of a running import")
        live_users.recommender(path).close()
        assert partial.exists()
        path.unlink()
    assert sorted(file.name for file in path.parent.iterdir()) == [
        ".states.sqlite-a1_b2c3d4",
        ".states.sqlite-backup",
        "states.sqlite",
    ]


def test_idle_anonymous_sessions_are_forgotten_and_users_are_not(states):
    with live_users.recommender(states) as recommender:
        recommender.observe_many(
            [Event("i1", session="s", time=live_users.NOW), *live_users.events(1)]
        )
        assert recommender.forget_idle_sessions(3600) == 0
        assert recommender.forget_idle_sessions(-1) == 1
        assert recommender.history(session="s") == []
        assert recommender.users() == [("u", 1)]


@pytest.mark.parametrize("later", [0, -60, 60])
@pytest.mark.parametrize("item", ["i1", "i2", "unknown"])
def test_every_event_begins_the_idle_time_anew(states, monkeypatch, item, later):
    """Bug: not an event that leaves the session as it is, of an unknown or a repeated item."""
    hour, start = 3600, float(live_users.NOW)
    now = {"wall": start}
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    monkeypatch.setattr(time, "clock_gettime", lambda _: now["wall"])
    with live_users.recommender(states, drop_repeats=True) as recommender:
        recommender.observe(item="i1", session="s", time=start)
        recommender.observe(item="i1", session="idle", time=start)
        now["wall"] += 10 * hour
        recommender.observe(item=item, session="s", time=start + later)
        now["wall"] += 10 * hour
        assert recommender.forget_idle_sessions(15 * hour) == 1
        assert recommender.history(session="s")[0].item == "i1"
        now["wall"] += 10 * hour
        assert recommender.forget_idle_sessions(15 * hour) == 1


def test_idle_sessions_are_forgotten_some_at_a_time(states, monkeypatch):
    """Bug: all in one transaction, for which requests wait; or look at the first ones alone."""
    monkeypatch.setattr("hrnn_jax.live.states.idle_sessions._SESSIONS_OF_A_STEP", 2)
    with live_users.recommender(states) as recommender:
        recommender.observe_many([Event("i1", session=f"s{n}") for n in range(7)])
        steps = recommender.forgetting_idle_sessions(-1)
        assert next(steps) == 2
        recommender.observe(item="i1", session="s9")  # between the steps
        assert list(steps) == [2, 2, 2, 0]
        assert len(recommender) == 0


def test_a_clock_that_jumps_ahead_for_a_moment_ends_no_session(monkeypatch):
    """Bug: take the age of a session from a clock that somebody sets."""
    now = {"wall": float(live_users.NOW), "steady": 5.0}
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    monkeypatch.setattr(time, "clock_gettime", lambda _: now["steady"])

    def after(wall, steady):
        now["wall"] += wall
        now["steady"] += steady
        return recommender.forget_idle_sessions(7200)

    with live_users.recommender() as recommender:
        recommender.observe(item="i1", session="s")
        assert after(3600, 3600) == 0
        assert after(3600 + 86_400, 3600) == 0  # jumps
        assert after(3000 - 86_400, 3000) == 1  # idle for so long indeed
        recommender.observe(item="i1", session="t")
        assert after(8000, 1) == 0  # set, and stays so
        assert after(3600, 3600) == 1


def test_users_are_listed_by_a_prefix_of_their_ids(states):
    with live_users.recommender(states) as recommender:
        for user in ("anna", "änne", "ann", "bo", "%", "_"):
            recommender.observe(user=user, item="i1", time=live_users.NOW)
        assert [user for user, _ in recommender.users("ann")] == ["ann", "anna"]
        assert [user for user, _ in recommender.users("ä")] == ["änne"]
        assert [user for user, _ in recommender.users("%")] == ["%"]
        last = "\U0010ffff" * 64  # the id that sorts after all others; bug: end a range before it
        recommender.observe(user=last, item="i1", time=live_users.NOW)
        recommender.observe(session=last, item="i1", time=live_users.NOW)
        assert [user for user, _ in recommender.users()][-1] == last
        assert recommender.forget_idle_sessions(-1) == 1
        assert len(recommender.users(limit=4)) == 4


def test_imported_states_equal_the_exported_ones(states, tmp_path):
    expected = filled(states)
    with live_users.recommender(states) as recommender:
        recommender.export_states(tmp_path / "export")
        histories = [recommender.history(user=f"u{n}") for n in range(10)]
    table = pl.read_parquet(tmp_path / "export" / "states.parquet")
    assert table["carry"].list.len().unique().to_list() == [2 * 6]
    with live_users.recommender() as other:
        other.observe_many(live_users.events(9))  # replaced by the import
        other.import_states(tmp_path / "export")
        assert live_users.all_lists(other) == expected
        assert [other.history(user=f"u{n}") for n in range(10)] == histories
        assert len(other) == 10


def test_an_export_to_a_path_that_is_a_file_is_an_error_that_names_it(tmp_path):
    """Bug: raise FileExistsError."""
    (tmp_path / "export").touch()
    with (
        live_users.recommender() as recommender,
        pytest.raises(errors.InputError, match=r"cannot make .*/export: File exists"),
    ):
        recommender.export_states(tmp_path / "export")


@pytest.mark.parametrize("table", ["states", "events", "about"])
def test_a_damaged_export_is_an_error_that_names_the_file_and_changes_nothing(
    states, tmp_path, table
):
    expected = filled(states)
    with live_users.recommender(states) as recommender:
        recommender.export_states(tmp_path / "export")
        damaged = tmp_path / "export" / f"{table}.parquet"
        damaged.write_bytes(damaged.read_bytes()[:100])
        with pytest.raises(errors.InputError, match=f"{table}.parquet is missing or damaged"):
            recommender.import_states(tmp_path / "export")
        assert live_users.all_lists(recommender) == expected


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("about", {"value": "9"}, "are in format 9, not 3"),
        ("states", {"crc": 1}, "row 1: its bytes have changed"),
        ("states", {"item": "none"}, "row 1: its item 'none' is not in the catalogue"),
        ("states", {"carry": [1.0]}, "row 1: its bytes have changed"),
        ("states", {"number": 7, "row_crc": 1}, "row 1: its bytes have changed"),
        ("events", {"time": 7.0}, r"events.parquet, row 1: its bytes have changed"),
        ("states", {"carry": [1.0], "past": [], "crc": zlib.crc32(b"\0\0\x80?")}, "another shape"),
        (
            "states",
            {"carry": [float("nan")] * 12, "crc": zlib.crc32(b"\0\0\xc0\x7f" * 12)},
            "row 1: it has numbers that are not finite",
        ),
    ],
)
def test_an_export_with_a_bad_row_changes_nothing(states, tmp_path, table, change, says):
    """Bug: replace all states first, and find the bad one when its user comes."""
    with live_users.recommender() as exported:
        exported.observe_many(live_users.events(1, 2))
        exported.export_states(tmp_path / "export")
    file = tmp_path / "export" / f"{table}.parquet"
    frame = pl.read_parquet(file)
    row = pl.col("name") == "format" if table == "about" else True
    for name, value in change.items():
        new = pl.lit(pl.Series([value], dtype=frame.schema[name])).first()
        frame = frame.with_columns(pl.when(row).then(new).otherwise(pl.col(name)).alias(name))
    if table == "states" and "row_crc" not in change:
        values = frame.drop("carry", "past", "row_crc").rows()
        frame = frame.with_columns(pl.Series("row_crc", [crc_of(some) for some in values]))
    frame.write_parquet(file)
    with live_users.recommender(states) as recommender:
        recommender.observe_many(live_users.events(3, user="mine"))
        with pytest.raises(errors.InputError, match=says):
            recommender.import_states(tmp_path / "export")
        assert recommender.users() == [("mine", 1)]


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize(
    ("table", "column", "value", "says"),
    [
        ("states", "carry", "x", "states.parquet is missing or damaged"),
        ("states", "number", 2**63, "states.parquet is missing or damaged"),
        ("states", "item", ["i1"], "states.parquet is missing or damaged"),
        ("states", "item", None, "states.parquet, row 1: no item; export it again"),
        ("states", "who", 7, "states.parquet, row 1: its bytes have changed"),
        ("events", "time", None, "events.parquet, row 1: no time; export it again"),
        ("about", "value", None, "about.parquet, row 1: no value; export it again"),
    ],
)
def test_an_export_with_a_column_of_another_type_changes_nothing(
    states, tmp_path, table, column, value, says, rebuild
):
    """Bug: a traceback, an error that blames the live states, or no states at all."""
    with live_users.recommender() as exported:
        exported.observe_many(live_users.events(1, 2))
        exported.export_states(tmp_path / "export")
    file = tmp_path / "export" / f"{table}.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    lineage = ("other" if rebuild else "ours",)
    with live_users.recommender(states, lineage=lineage) as recommender:
        recommender.observe_many(live_users.events(3, user="mine"))
        with pytest.raises(errors.InputError, match=says):
            recommender.import_states(tmp_path / "export", rebuild=rebuild)
        assert recommender.users() == [("mine", 1)]


def test_states_of_other_weights_are_an_error_unless_rebuilt(states):
    filled(states)
    other = {"seed": 1, "lineage": ("other",)}
    with pytest.raises(errors.InputError, match="were made by other weights"):
        live_users.recommender(states, **other)
    expected = filled(state_store.IN_MEMORY, **other)
    with live_users.recommender(states, rebuild=True, **other) as recommender:
        live_users.assert_same_lists(live_users.all_lists(recommender), expected)
    with live_users.recommender(states, **other) as recommender:  # they belong to these weights now
        live_users.assert_same_lists(live_users.all_lists(recommender), expected)


def test_states_of_another_shape_can_be_rebuilt(states):
    filled(states)
    other = {"lineage": ("other",), "network": {"layers": 2}}
    with pytest.raises(errors.InputError, match="were made by other weights"):
        live_users.recommender(states, **other)
    with live_users.recommender(states, rebuild=True, **other) as recommender:
        live_users.assert_same_lists(
            live_users.all_lists(recommender), filled(state_store.IN_MEMORY, **other)
        )


def test_states_of_an_interrupted_rebuild_are_refused_by_all_weights(path, tmp_path, monkeypatch):
    """Bug: let the old weights go on with states of which some are of the new ones."""
    expected = filled(path)
    new = {"seed": 1, "lineage": ("other",)}
    with live_users.recommender(path) as recommender:
        recommender.export_states(tmp_path / "export")
    monkeypatch.setattr(rebuilding, "WIDTHS", (4,))  # users of a transaction
    compute, calls = rebuilding.states_of_events, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(rebuilding, "states_of_events", killed)
    with pytest.raises(KeyboardInterrupt):
        live_users.recommender(path, rebuild=True, **new)
    other = live_users.recommender(tmp_path / "other.sqlite", **new)
    with pytest.raises(KeyboardInterrupt):
        other.import_states(tmp_path / "export", rebuild=True)
    with pytest.raises(errors.InputError, match="is closed: load the recommender again"):
        other.recommend(user="u0")
    monkeypatch.undo()
    for file in (path, tmp_path / "other.sqlite"):
        for weights_ in ({}, new):
            with pytest.raises(errors.InputError, match=r"interrupted.* start again with"):
                live_users.recommender(file, **weights_)
        with live_users.recommender(file, rebuild=True) as recommender:
            live_users.assert_same_lists(live_users.all_lists(recommender), expected)
        live_users.recommender(file).close()


def test_states_of_ancestor_weights_are_accepted(states):
    expected = filled(states)
    with live_users.recommender(states, lineage=("newer", "ours")) as recommender:
        assert live_users.all_lists(recommender) == expected
    with pytest.raises(errors.InputError, match="other weights"):  # but not by their ancestors
        live_users.recommender(states)


def test_a_file_in_use_is_an_error(path):
    with live_users.recommender(path), pytest.raises(errors.InputError, match="in use by another"):
        live_users.recommender(path)


@contextlib.contextmanager
def before_statement(beginning, act, monkeypatch):
    """Call a function before the next statement of a store that begins like this."""
    waiting = [act]

    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if waiting and statement.strip().startswith(beginning):
                waiting.pop()()
            return super().execute(statement, *values)

    connect = functools.partial(sqlite3.connect, factory=Connection)
    module = types.SimpleNamespace(**vars(sqlite3) | {"connect": connect})
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "sqlite3", module)
        yield
    assert not waiting


@pytest.mark.parametrize(
    "moment", ["PRAGMA locking_mode", "PRAGMA synchronous", "CREATE TABLE about", "PRAGMA shrink"]
)
def test_of_two_that_make_a_file_at_once_one_has_it_and_the_other_gets_one_line(
    path, moment, monkeypatch
):
    refused, opened = [], []

    def start():
        try:
            opened.append(live_users.recommender(path))
        except errors.InputError as error:
            refused.append(str(error))

    with before_statement(moment, start, monkeypatch):
        start()
    [recommender], [line] = opened, refused
    assert "\n" not in line
    with recommender:
        assert recommender.observe(user="u", item="i1") == "observed"
    with live_users.recommender(path) as again:
        assert again.users() == [("u", 1)]


def asked_by_another_process(path, function="refuse_strays"):
    """Return what another process says of the files next to a state file."""
    code = (
        "import pathlib, sys; from hrnn_jax.errors import InputError\n"
        "from hrnn_jax.live.store import state_file\n"
        f"try: state_file.{function}(pathlib.Path(sys.argv[1]))\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert not done.stderr
    return done.stdout


def test_files_of_one_who_makes_a_state_file_are_not_said_to_be_of_another_one(path, monkeypatch):
    """Bug: advise to move away a -journal or -wal that is in use, with all it holds."""
    said = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN", "CREATE TABLE a (b)"):
            db.execute(statement)
        assert not path.stat().st_size
        assert path.with_name(path.name + "-journal").exists()
        said.append(asked_by_another_process(path))
        said.append(asked_by_another_process(path, "remove_empty"))
        assert path.exists()
    path.unlink()
    wal, refused = path.with_name(path.name + "-wal"), []

    def ask():
        assert wal.stat().st_size
        refused.append(asked_by_another_process(path))  # opening the file then says it is in use

    with before_statement("PRAGMA wal_checkpoint(FULL)", ask, monkeypatch):
        live_users.recommender(path).close()
    assert refused == [""]
    assert [line.partition(": ")[0] for line in said] == [
        f"{path} is in use by another process"
    ] * 2


def test_a_state_file_of_an_earlier_version_gives_the_same_recommendations(path):
    run = OLD_RUNS / "hrnn_init"
    shutil.copy(run / "states.sqlite", path)  # of format 2
    expected = json.loads((OLD_RUNS / "recommendations.json").read_text())[run.name]
    with load_recommender(run, states=path) as recommender:
        requests = [Request(user=user, k=20) for user in expected]
        lists = [[tuple(row) for row in rows] for rows in expected.values()]
        live_users.assert_same_lists(recommender.recommend_many(requests), lists)
        assert recommender.users() == [("u1", 4), ("u2", 1)]
        assert recommender.observe(user="u1", item="i1", time=1700090120) == "observed"
        assert [step.session for step in recommender.history("u1")] == [0, 0, 1, 1, 1]


KILLED = """
import os, sys, types
from hrnn_jax.live.store import sqlite_store, state_schema

def die(*args):
    os._exit(9)  # as kill -9: nothing is closed

module, name = sys.argv[2].split(":")
setattr(getattr(sqlite_store, module, state_schema), name, die)
start = types.SimpleNamespace()
sqlite_store.SqliteStore(sys.argv[1], {}, start, cached_users=9, kept_events=1000)
"""


@pytest.mark.parametrize(
    ("of_format_2", "at"),
    [
        (True, "state_schema:crc_of"),
        (True, "SqliteStore:_checkpoint"),
        (False, "SqliteStore:_insert"),
        (False, "SqliteStore:_checkpoint"),
    ],
)
def test_a_start_killed_in_its_first_transaction_can_be_repeated(path, of_format_2, at):
    """Bug: take the -wal that begins at a file's first version, 0, for that of another file."""
    run = OLD_RUNS / "hrnn_init"
    if of_format_2:
        shutil.copy(run / "states.sqlite", path)
    killed = subprocess.run([sys.executable, "-c", KILLED, path, at], cwd=ROOT, check=False)
    assert killed.returncode == 9
    with load_recommender(run, states=path) as recommender:
        assert recommender.users() == ([("u1", 4), ("u2", 1)] if of_format_2 else [])


def test_a_text_of_format_2_that_is_not_utf_8_loses_its_event_alone(path):
    """Bug: refuse the whole file."""
    run = OLD_RUNS / "hrnn_init"
    shutil.copy(run / "states.sqlite", path)
    changed = "UPDATE events SET item = CAST(x'69ff32' AS TEXT) WHERE who = 'uu1' AND place = 1"
    stored_states.execute(path, changed)
    with load_recommender(run, states=path) as recommender:
        assert len(recommender.history("u1")) == 3
        assert len(recommender.history("u2")) == 1


def test_queries_of_several_keys_return_the_rows_of_each_key(states):
    start = batched_model.BatchedModel(
        weights.drawn(live_users.config()), live_users.config()
    ).start
    keys = ["ua", "u\"'", "uü😀", "u%"]
    config = RecommenderConfig(cached_users=1, kept_events=9)
    store = open_store(states, {"a": 0, "b": 1}, start, config)
    live = start._replace(item=1)
    states = {
        key: StoredState(live, OpenSession(n, n, None, number=1, n_events=2))
        for n, key in enumerate(keys)
    }
    events = {
        key: [StoredEvent(0, 0, "a", 0.0, None), StoredEvent(1, 1, "b", 1.0, f"{key} 1")]
        for key in keys
    }
    store.write(states, events)
    read, damaged = store.get([*keys, "uno"])
    assert not damaged
    assert {key: state.session for key, state in read.items()} == {
        key: state.session for key, state in states.items()
    }
    numbers = {"ua": 0, "u\"'": 1, "uü😀": 2, "uno": 0}
    items = {"ua": {"a"}, "u\"'": {"b"}, "uü😀": set(), "uno": set()}
    assert store.session_items(numbers) == items
    event_ids = {(key, f"{key} 1") for key in keys} | {("ua", "no"), ("u%", "ua 1")}
    assert store.delivered(event_ids) == {(key, f"{key} 1") for key in keys}
    store.close()


def overwrite(path):
    path.write_text("id,item\n" * 1000)


@pytest.mark.parametrize("damage", [truncate, overwrite])
def test_a_damaged_file_is_an_error_that_names_it(path, damage):
    filled(path)
    damage(path)
    with (
        pytest.raises(errors.StorageError, match=r"states\.sqlite is damaged") as raised,
        live_users.recommender(path) as recommender,
    ):
        live_users.all_lists(recommender)
    assert "\n" not in str(raised.value)


def flipped(row):
    return {"carry": bytes([row["carry"][0] ^ 1, *row["carry"][1:]])}


def shortened(row):
    carry = row["carry"][:-4]
    return {"carry": carry, "crc": zlib.crc32(carry + row["past"])}


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        shortened,
        lambda _: {"item": "none of the catalogue"},
        lambda _: {"carry": 5},
        lambda _: {"gap": 999, "number": "x"},
        None,
    ],
)
def test_a_damaged_state_is_computed_again_and_no_other_is_touched(path, damage, monkeypatch):
    """Bug: one row of another shape makes the lists of a whole batch fail."""
    filled(path)
    with live_users.recommender(path) as recommender:
        recommender.observe(user="u3", item="i1", time=live_users.NOW * 1.01, session="a")
        expected = live_users.all_lists(recommender)
        sessions = [step.session for step in recommender.history(user="u3")]
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        row = db.execute("SELECT * FROM states WHERE who = 'uu3'").fetchone()
        for name, value in damage(row).items() if damage else []:
            db.execute(f"UPDATE states SET {name} = ? WHERE who = 'uu3'", (value,))
        if not damage:
            db.execute("UPDATE states SET item = CAST(x'69ff' AS TEXT) WHERE who = 'uu3'")
    db.close()
    logged = []
    monkeypatch.setattr(rebuilding.logger, "warning", logged.append)
    shutil.copy(path, path.with_name("copy.sqlite"))
    with live_users.recommender(path.with_name("copy.sqlite")) as recommender:
        assert recommender.forget(user="u3")
        live_users.all_lists(recommender)
        assert not recommender.counts
    with live_users.recommender(path) as recommender:
        live_users.assert_same_lists(live_users.all_lists(recommender), expected)
        assert recommender.counts["rebuilt"] == 1
        if damage and set(damage(row)) == {"carry"}:  # the session's id is in no event
            recommender.observe(user="u3", item="i2", time=live_users.NOW * 1.02, session="a")
            assert [step.session for step in recommender.history(user="u3")][-1] == sessions[-1]
    [line] = logged
    assert line.startswith(f"1 damaged state in {path} computed again from ")
    assert "u3" not in line.replace(str(path), "")
    with live_users.recommender(path) as recommender:  # it was written
        live_users.all_lists(recommender)
        assert not recommender.counts


def test_a_damaged_state_without_events_is_a_newcomer_s(states):
    filled(states)
    stored_states.execute(states, "UPDATE states SET crc = crc + 1 WHERE who = 'uu3'")
    stored_states.execute(states, "DELETE FROM events WHERE who = 'uu3'")
    with live_users.recommender(states) as recommender:
        assert recommender.recommend(user="u3") == recommender.recommend(user="new")
        assert recommender.counts["rebuilt"] == 1
        assert len(recommender) == 9


def test_a_damaged_event_is_left_out_with_a_line(states, monkeypatch):
    """Bug: answer with the item that a flipped bit has made of another one."""
    with live_users.recommender(states) as recommender:
        recommender.observe_many(live_users.events(1, 2, 3))
        before = recommender.recommend(user="u")
    stored_states.execute(states, "UPDATE events SET item = 'i9' WHERE place = 1")
    logged = []
    monkeypatch.setattr(state_store.logger, "warning", logged.append)
    with live_users.recommender(states) as recommender:
        assert [step.item for step in recommender.history(user="u")] == ["i1", "i3"]
        assert logged == [
            f"damaged events in {recommender._states.store.name} are left out of their users' "
            "histories"
        ]
        assert recommender.recommend(user="u") == before  # the state is whole
        recommender.observe_many(live_users.events(4))
    # of the last event nothing but its absence tells
    stored_states.execute(states, "UPDATE events SET who = 'ux' WHERE place = 3")
    with live_users.recommender(states) as recommender:
        logged.clear()
        assert [step.item for step in recommender.history(user="u")] == ["i1", "i3"]
        assert len(logged) == 1


def test_an_export_of_a_damaged_value_is_an_error_in_one_line(path):
    """Bug: pass on the error of polars, which knows no state file."""
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET place = x'00ff' WHERE who = 'uu3' AND place = 0")
    db.close()
    with live_users.recommender(path) as recommender:
        with pytest.raises(errors.InputError, match="the table events is damaged") as raised:
            recommender.export_states(path.parent / "export")
        assert "\n" not in str(raised.value)


def test_a_file_that_has_lost_the_name_of_its_weights_is_refused(states):
    """Bug: take it for a new one, of any weights."""
    filled(states)
    stored_states.execute(states, "UPDATE about SET name = 'Weights' WHERE name = 'weights'")
    with pytest.raises(errors.InputError, match="other weights"):
        live_users.recommender(states)


def test_what_sqlite_finds_damaged_is_told_in_one_line(path):
    """Bug: pass on the several lines of its check."""
    filled(path)
    content = bytearray(path.read_bytes())
    page = 4096 * (len(content) // 4096 - 1)
    content[page + 3 : page + 5] = b"\0\0"
    path.write_bytes(content)
    with pytest.raises(errors.StorageError, match="is damaged") as raised:
        live_users.recommender(path)
    assert "\n" not in str(raised.value)


def test_a_definition_with_a_flipped_bit_is_refused_at_the_start(path):
    """Bug: leave it to SQLite, which finds some when a reload renames a table, and some never."""
    filled(path)
    whole = path.read_bytes()
    begin = whole.index(b"indexdeliveries")
    bits = random.Random(0).sample(range(8 * begin, 8 * len(whole[:4096].rstrip(b"\0"))), 60)
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(errors.StorageError, match=r"^[^\n]* is damaged \([^\n]*$"):
            opened(path)
        assert path.read_bytes() == flipped, bit
    path.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ANALYZE")
        db.execute("VACUUM")
    opened(path).close()


def opened(path):
    """Open a store of some network; return it."""
    config = live_users.config()
    start = batched_model.BatchedModel(weights.drawn(config), config).start
    return open_store(path, {"a": 0, "b": 1}, start, RecommenderConfig())


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(errors.InputError, match="cannot be opened"):
        live_users.recommender(tmp_path / "none" / "states.sqlite")


def test_a_full_disk_is_an_error_and_changes_nothing(path):
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected, before = live_users.all_lists(recommender), dict(recommender.counts)
        store = recommender._states.store
        assert isinstance(store, SqliteStore)
        store._db.execute("PRAGMA max_page_count = 1")  # a full disk
        with pytest.raises(errors.StorageError, match="cannot be written"):
            recommender.observe_many(live_users.random_events(1, users=2000, count=4000))
        assert live_users.all_lists(recommender) == expected
        assert recommender.counts == before
    with live_users.recommender(path) as recommender:
        assert live_users.all_lists(recommender) == expected


def test_a_list_of_a_state_in_memory_does_not_wait_for_a_commit():
    """Bug: take the lock, which is held while the disk is synced."""
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2))
    expected = recommender.recommend("u")
    with futures.ThreadPoolExecutor(1) as thread, recommender.alone():
        assert thread.submit(recommender.recommend, "u").result(60) == expected
