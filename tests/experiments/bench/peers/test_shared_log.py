"""The log that all contenders read, and how the scripts of the peers read it."""

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import polars as pl
import pytest

from experiments.bench import process
from experiments.bench.peers import contenders, shared_log
from tests.helpers import logs


def script(name):
    """Return a module of the peers' scripts, loaded as they load it: by its path."""
    spec = importlib.util.spec_from_file_location(name, contenders.SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clock():
    """Return the module that the peers' scripts share."""
    return script("clock")


@pytest.fixture
def histories(clock, monkeypatch):
    """Return the module with the histories that a search trains on and holds out."""
    monkeypatch.setitem(sys.modules, "clock", clock)
    return script("histories")


def test_a_whole_log_is_the_prepared_one(tmp_path):
    """Bug: leave out the test events, which the histories of later cases contain."""
    npz = tmp_path / "log.npz"
    cost = process.measure(
        *process.of_module(
            "bench.peers.shared_log",
            "--dataset=events",
            f"--events={logs.write(tmp_path / 'log.csv')}",
            "--min_support=1",
            f"--prepared_dir={tmp_path / 'prepared'}",
            f"--npz={npz}",
        )
    )
    [folder] = (tmp_path / "prepared").glob("events-*")
    prepared = pl.read_parquet(folder / "events.parquet")
    with np.load(npz) as file:
        for name in prepared.columns:
            np.testing.assert_array_equal(file[name], prepared[name].to_numpy(), err_msg=name)
        items = pl.scan_parquet(folder / "items.parquet").collect()
        assert file["n_items"] == len(items)
    sizes = json.loads(cost.last_line)["sizes"]
    assert sizes["users"] == 30
    assert sizes["training events"] == prepared.filter(~pl.col("test")).height
    assert sizes["test cases"] == 90  # all but the first event of 30 sessions of 4


def test_a_cut_log_has_the_first_users_and_the_items_they_train_on(monkeypatch):
    """Bug: keep the numbers of the items, so that the catalogue has items without an event."""
    log = logs.random(3, users=20, n_items=60)
    users_of = lambda cut: sorted({*cut.user.tolist()})  # noqa: E731
    assert users_of(shared_log.first_users(log, 0.5)) == [*range(10)]
    assert users_of(shared_log.first_users(log, 1e-5)) == [0]
    trained_by = [np.count_nonzero(~log.test & (log.user == user)) for user in range(20)]
    monkeypatch.setattr(shared_log, "MOST_EVENTS", sum(trained_by[:7]))
    cut = shared_log.first_users(log, 1.0)
    assert users_of(cut) == [
        user for user in range(8) if sum(trained_by[: user + 1]) <= sum(trained_by[:7])
    ]
    first = [n for n in range(len(log)) if log.user[n] <= cut.user.max()]
    items = sorted({int(log.item[n]) for n in first if not log.test[n]})
    kept = [n for n in first if log.item[n] in items]
    assert len(kept) < len(first)  # else this log tests nothing of test events
    assert cut.n_items == len(items)
    assert cut.item.tolist() == [items.index(log.item[n]) for n in kept]
    assert cut.time.tolist() == log.time[kept].tolist()


def test_the_scripts_read_the_same_cases(tmp_path, clock):
    """Bug: take the first event of a test session for a case."""
    log = logs.random(1, users=30)
    shared_log.write(log, tmp_path / "log.npz")
    read = clock.Log(str(tmp_path / "log.npz"))
    np.testing.assert_array_equal(np.flatnonzero(read.is_case), log.cases)
    place = [sum(log.user[:n] == log.user[n]) for n in range(len(log))]
    np.testing.assert_array_equal(read.place, place)
    np.testing.assert_array_equal(shared_log.read(tmp_path / "log.npz").item, log.item)


def test_times_keep_the_order_where_sessions_of_a_user_overlap(tmp_path, clock):
    """Bug: a peer that sorts by time moves events of one session among those of another."""
    log = logs.random(1, users=3)
    time = np.where(log.user == 1, log.time[::-1], log.time)  # as odd as can be
    shared_log.write(dataclasses.replace(log, time=time), tmp_path / "log.npz")
    read = clock.Log(str(tmp_path / "log.npz"))
    assert read.has_times
    wanted = [max(time[: n + 1][log.user[: n + 1] == log.user[n]]) for n in range(len(log))]
    assert wanted != time.tolist()
    np.testing.assert_array_equal(read.time, wanted)


def test_the_clock_counts_whole_batches_after_the_warm_up(monkeypatch, clock):
    """Bug: count the batch that begins when the time is up, which is not trained."""
    now = iter([0.0, 2.9, 3.5, 5.0, 9.0, 14.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    measured = clock.Clock(10)
    # The batches that begin at 3.5, 5 and 9 are counted: 3.5 is the first beyond 3 s.
    assert [measured.next_batch(events) for events in (1, 2, 4, 8, 16, 32)] == [False] * 5 + [True]
    assert (measured.events, measured.batches, measured.seconds) == (4 + 8 + 16, 3, 14.0 - 3.5)


def test_a_search_holds_out_the_last_training_session_of_who_has_two(tmp_path, clock, histories):
    """Bugs: hold out a test session, or all that a user of one session has."""
    log = logs.random(5, users=12, sessions=4, n_items=30)
    first_two = log.user >= 6
    log = log.where(first_two | log.test | (log.session == log.session[log.opens_user][log.user]))
    shared_log.write(log, tmp_path / "log.npz")
    read = clock.Log(str(tmp_path / "log.npz"))
    wanted = np.zeros(len(log), bool)
    for user in np.unique(log.user):
        sessions = np.unique(log.session[(log.user == user) & ~log.test])
        if len(sessions) > 1:
            wanted |= log.session == sessions[-1]
    assert 0 < np.count_nonzero(wanted) < np.count_nonzero(~log.test)
    np.testing.assert_array_equal(histories.last_training_session(read), wanted)
    assert read.has_repeats == (
        len({*zip(log.session.tolist(), log.item.tolist(), strict=True)}) < len(log)
    )


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_each_event_but_the_first_is_a_target_of_one_part(histories, length):
    """Bugs: train on a user's last events alone, or on the event between two parts twice."""
    user = np.repeat([0, 3, 4, 9], [1, 8, 7, 2])
    part, row = histories.parts(user, length)
    targets = []
    for one in range(part[-1] + 1):
        events = row[part == one]
        assert len({*user[events].tolist()}) == 1
        np.testing.assert_array_equal(np.diff(events), 1)
        assert len(events) <= length + 1
        targets += events[1:].tolist()
    firsts = np.flatnonzero(np.diff(user, prepend=-1))
    assert sorted(targets) == [*np.setdiff1d(np.arange(len(user)), firsts)]


def test_the_events_before_a_case_are_the_last_ones(histories):
    """Bugs: leave out the one before the case, or shift all cases after one without events."""
    of, events = histories.events_before(np.array([4, 5, 9]), np.array([2, 0, 3]))
    assert of.tolist() == [0, 0, 2, 2, 2]
    assert events.tolist() == [2, 3, 6, 7, 8]
