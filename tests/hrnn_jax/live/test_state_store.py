"""States outlive the process, fit in bounded memory, and are never those of other weights."""

import os
import pathlib
import sqlite3
import subprocess
import sys
import textwrap

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.live import state_store
from hrnn_jax.live.events import Event
from tests.helpers import live_users


@pytest.fixture
def path(tmp_path):
    return tmp_path / "states.sqlite"


def filled(path, **settings):
    """Write the states of ten users, and return what they are recommended."""
    with live_users.recommender(path, **settings) as recommender:
        recommender.observe_many(live_users.random_events(0))
        return live_users.everything(recommender)


def test_states_are_there_after_a_restart(path):
    expected = filled(path)
    with live_users.recommender(path) as recommender:
        assert live_users.everything(recommender) == expected
        events = live_users.random_events(1)
        recommender.observe_many(events)
        after = live_users.everything(recommender)
    with live_users.recommender(path) as recommender:
        assert live_users.everything(recommender) == after != expected


def test_no_acknowledged_event_is_lost_by_a_kill(path):
    child = textwrap.dedent(f"""
        import os, signal
        from tests import live
        recommender = live.recommender({str(path)!r})
        for event in live.random_events(0):
            recommender.observe_many([event])
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    root = pathlib.Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", child], cwd=root, check=False)
    assert killed.returncode == -9
    with live_users.recommender(path) as recommender, live_users.recommender() as replayed:
        replayed.observe_many(live_users.random_events(0))
        live_users.assert_alike(live_users.everything(recommender), live_users.everything(replayed))


def test_a_small_cache_changes_nothing(path):
    expected = filled(state_store.IN_MEMORY)
    with live_users.recommender(path, keep={"cached_users": 2}) as recommender:
        for event in live_users.random_events(0):
            recommender.observe_many([event])
        live_users.assert_alike(live_users.everything(recommender), expected)
        assert len(recommender._store._cache) == 2
        assert len(recommender) == 10


def test_only_the_newest_events_are_kept(path):
    with live_users.recommender(path, keep={"kept_events": 3}) as recommender:
        recommender.observe_many(live_users.events(1, 2, 3, 4, 5))
        assert [step.item for step in recommender.history(user="u")] == ["i3", "i4", "i5"]
        recommender.observe_many(live_users.events(6, time=live_users.NOW + 600))
        assert [step.item for step in recommender.history(user="u")] == ["i4", "i5", "i6"]
        assert recommender.users() == [("u", 6)]


def test_who_is_forgotten_is_a_newcomer(path):
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.events(1, 2))
        assert recommender.forget(user="u")
        assert not recommender.forget(user="u")
        assert recommender.history(user="u") == recommender.users() == []
        recommender.observe_many(live_users.events(3, 4))
        expected = recommender.recommend(user="u")
    with live_users.recommender() as other:
        other.observe_many(live_users.events(3, 4))
        live_users.assert_alike([other.recommend(user="u")], [expected])


def test_idle_sessions_of_nobody_are_forgotten_and_users_are_not(path):
    with live_users.recommender(path) as recommender:
        recommender.observe_many(
            [Event("i1", session="s", time=live_users.NOW), *live_users.events(1)]
        )
        assert recommender.forget_idle_sessions(3600) == 0
        assert recommender.forget_idle_sessions(-1) == 1
        assert recommender.history(session="s") == []
        assert recommender.users() == [("u", 1)]


def test_users_are_found_by_how_their_ids_begin():
    with live_users.recommender() as recommender:
        for user in ("anna", "änne", "ann", "bo", "%", "_"):
            recommender.observe(user=user, item="i1", time=live_users.NOW)
        assert [user for user, _ in recommender.users("ann")] == ["ann", "anna"]
        assert [user for user, _ in recommender.users("ä")] == ["änne"]
        assert [user for user, _ in recommender.users("%")] == ["%"]
        assert len(recommender.users(limit=4)) == 4


def test_exported_states_go_on_elsewhere(path, tmp_path):
    expected = filled(path)
    with live_users.recommender(path) as recommender:
        recommender.export_states(tmp_path / "export")
        histories = [recommender.history(user=f"u{n}") for n in range(10)]
    table = pl.read_parquet(tmp_path / "export" / "states.parquet")
    assert table["carry"].list.len().unique().to_list() == [2 * 6]
    with live_users.recommender() as other:
        other.observe_many(live_users.events(9))  # is replaced
        other.import_states(tmp_path / "export")
        assert live_users.everything(other) == expected
        assert [other.history(user=f"u{n}") for n in range(10)] == histories
        assert len(other) == 10


@pytest.mark.parametrize("table", ["states", "events", "about"])
def test_a_damaged_export_is_refused_by_name_and_changes_nothing(path, tmp_path, table):
    expected = filled(path)
    with live_users.recommender(path) as recommender:
        recommender.export_states(tmp_path / "export")
        damaged = tmp_path / "export" / f"{table}.parquet"
        damaged.write_bytes(damaged.read_bytes()[:100])
        with pytest.raises(errors.InputError, match=f"{table}.parquet is missing or damaged"):
            recommender.import_states(tmp_path / "export")
        assert live_users.everything(recommender) == expected


def test_states_of_other_weights_are_refused_unless_rebuilt(path):
    filled(path)
    other = {"seed": 1, "lineage": ("other",)}
    with pytest.raises(errors.InputError, match="were made by other weights"):
        live_users.recommender(path, **other)
    expected = filled(state_store.IN_MEMORY, **other)
    with live_users.recommender(path, rebuild=True, **other) as recommender:
        live_users.assert_alike(live_users.everything(recommender), expected)
    with live_users.recommender(path, **other) as recommender:  # they are its own now
        live_users.assert_alike(live_users.everything(recommender), expected)


def test_states_of_another_shape_can_be_rebuilt(path):
    filled(path)
    other = {"lineage": ("other",), "network": {"layers": 2}}
    with pytest.raises(errors.InputError, match="were made by other weights"):
        live_users.recommender(path, **other)
    with live_users.recommender(path, rebuild=True, **other) as recommender:
        live_users.assert_alike(
            live_users.everything(recommender), filled(state_store.IN_MEMORY, **other)
        )


def test_states_of_the_weights_that_these_went_on_from_go_on(path):
    expected = filled(path)
    with live_users.recommender(path, lineage=("newer", "ours")) as recommender:
        assert live_users.everything(recommender) == expected
    with pytest.raises(errors.InputError, match="other weights"):  # and do not go back
        live_users.recommender(path)


def test_a_file_in_use_is_refused(path):
    with live_users.recommender(path), pytest.raises(errors.InputError, match="in use by another"):
        live_users.recommender(path)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    path.write_text("id,item\n" * 1000)


def flip(path):
    """Flip a bit of each carry, which SQLite itself does not notice."""
    with sqlite3.connect(path) as db:
        for rowid, carry in db.execute("SELECT rowid, carry FROM states").fetchall():
            changed = bytes([carry[0] ^ 1, *carry[1:]])
            db.execute("UPDATE states SET carry = ? WHERE rowid = ?", (changed, rowid))
    db.close()


@pytest.mark.parametrize("damage", [truncate, overwrite, flip])
def test_a_damaged_file_is_refused_by_name(path, damage):
    filled(path)
    damage(path)
    with (
        pytest.raises(errors.StorageError, match=r"states\.sqlite is damaged") as refused,
        live_users.recommender(path) as recommender,
    ):
        live_users.everything(recommender)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(errors.InputError, match="cannot be opened"):
        live_users.recommender(tmp_path / "none" / "states.sqlite")


def test_where_nothing_can_be_written_nothing_changes(path):
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected, before = live_users.everything(recommender), dict(recommender.counts)
        recommender._store._db.execute("PRAGMA max_page_count = 1")  # a full disk
        with pytest.raises(errors.StorageError, match="cannot be written"):
            recommender.observe_many(live_users.random_events(1, users=2000, count=4000))
        assert live_users.everything(recommender) == expected
        assert recommender.counts == before
    with live_users.recommender(path) as recommender:
        assert live_users.everything(recommender) == expected
