"""The -wal of another file is refused, and moved rows leave nothing in unused parts of pages."""

import os
import re
import shutil
import sqlite3

import pytest

from hrnn_jax import errors
from hrnn_jax.live.store import sqlite_pages, sqlite_store
from tests.helpers import live_users


@pytest.fixture
def path(tmp_path):
    return tmp_path / "states.sqlite"


def wal_of(path):
    return path.with_name(f"{path.name}-wal")


def copy_while_running(path, name):
    """Leave a state file and its -wal as a killed process does."""
    copy = path.with_name(name)
    shutil.copy(path, copy)
    shutil.copy(wal_of(path), wal_of(copy))
    return copy


def users(path):
    with live_users.recommender(path) as recommender:
        return recommender.users()


def test_a_copy_next_to_the_wal_of_a_killed_process_is_refused(path):
    """Bug: let SQLite mix the copy with pages of later states. It was the last clean end's copy."""
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.events(1, user="early"))
    backup = path.read_bytes()
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.events(1, user="late"))
        killed = copy_while_running(path, "killed.sqlite")
    assert users(copy_of(killed)) == [("early", 1), ("late", 1)]
    killed.write_bytes(backup)
    before = wal_of(killed).read_bytes()
    with pytest.raises(errors.InputError, match=r"killed.sqlite-wal next to .* another state file"):
        live_users.recommender(killed)
    assert (killed.read_bytes(), wal_of(killed).read_bytes()) == (backup, before)
    wal_of(killed).unlink()
    assert users(killed) == [("early", 1)]


def copy_of(path):
    return copy_while_running(path, f"copy of {path.name}")


def test_a_kill_after_a_checkpoint_leaves_a_wal_that_fits(path, monkeypatch):
    """Bug: refuse a -wal that is in the file already, or that goes on after it."""
    monkeypatch.setattr(sqlite_store, "_WAL_BYTES", 20_000)
    with live_users.recommender(path) as recommender:
        for n in range(6):
            recommender.observe_many(live_users.random_events(n, count=20))
            killed = copy_while_running(path, f"killed {n}.sqlite")
            assert len(users(killed)) == len(recommender.users())


def checked_rows(path):
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT * FROM rows ORDER BY id").fetchall()
    db.close()
    return rows


@pytest.mark.parametrize("page_size", [512, 65_536])
def test_unused_parts_of_pages_are_cleared_and_nothing_else_is(path, page_size):
    """Bug: leave it to secure_delete, which does not clear what SQLite moved to another page."""
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA page_size = {page_size}")
        db.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, long TEXT)")
        long = ["x", "y" * 40, "z" * 3 * page_size]  # one on pages of its own
        rows = [(f"{n * 7919 % 1000:03}", long[n % 3]) for n in range(100)]
        db.executemany("INSERT INTO rows VALUES (?, ?)", rows)
    db.close()
    content = bytearray(path.read_bytes())
    before = bytes(content)
    # Only the unused parts have so many zeros.
    for zeros in re.finditer(rb"\0{100,}", before):
        for begin in range(zeros.start() + 10, zeros.end() - 10):
            content[begin] = ord("p")
    path.write_bytes(content)
    n_pages = len(content) // page_size
    assert content.count(b"pppp") > 10
    assert checked_rows(path) == sorted(rows)
    descriptor = os.open(path, os.O_RDWR)
    sqlite_pages.clear_unused_parts(descriptor, {1, 2, -5, 10**6})
    assert b"pppp" not in path.read_bytes()[: 2 * page_size]
    sqlite_pages.clear_unused_parts(descriptor, range(n_pages + 1))
    written = path.stat().st_mtime_ns
    sqlite_pages.clear_unused_parts(descriptor, range(n_pages + 1))
    os.close(descriptor)
    assert path.stat().st_mtime_ns == written  # clean pages are only read
    assert checked_rows(path) == sorted(rows)
    content = path.read_bytes()
    pages = [content[n : n + page_size] for n in range(0, len(content), page_size)]
    assert {page[0] for page in pages if b"pppp" in page} <= {0}  # of long texts, no tree's pages


def test_a_cut_wal_is_not_written_into_the_file(path):
    """Bug: let SQLite write, at the end, those pages of the -wal that it can still read."""
    with live_users.recommender(path) as recommender:
        recommender.observe_many(live_users.random_events(0))
        before = path.read_bytes()
        os.truncate(wal_of(path), wal_of(path).stat().st_size - 5000)
    assert path.read_bytes() == before
    live_users.recommender(path).close()
