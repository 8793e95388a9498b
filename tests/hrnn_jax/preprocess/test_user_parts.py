"""walk.py: parts by users hold just the events that one part holds."""

import dataclasses
import pathlib
import re
import sys
import zlib
from typing import Any

import distributed
import hypothesis
import numpy as np
import polars as pl
import psutil
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import strategies as st

from experiments.common import data_flags
from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import prepared, protocols, read_log, sessions
from hrnn_jax.preprocess.event_hash import event_hash
from hrnn_jax.preprocess.user_parts import log_parts, walk
from hrnn_jax.preprocess.user_parts.parallel import Parts
from tests.helpers import log_files as written_files
from tests.helpers import logs as written
from tests.hrnn_jax.preprocess.test_protocols import split_first
from tests.hrnn_jax.preprocess.test_sessions import frame, logs, recipes

ITEMS = 5  # of the drawn logs
LOOSE = DataConfig(min_support=1, min_session_events=2, min_user_sessions=2)


def walked(log: pl.DataFrame, recipe: DataConfig, continued: np.ndarray, parts: int):
    """Return the events of all parts in the order of one part, and the counts of each step."""
    log = log.rename({"session": "given"}, strict=False)
    user = log["user"]
    each = [walk.Walked(log.filter(user % parts == part)) for part in range(parts)]
    totals, counts = {}, []
    while True:
        each = [walk.walk(part, recipe, continued, totals) for part in each]
        steps = zip(*(part.counts for part in each), strict=True)
        counts += [walk.merged_counts(step) for step in steps]
        asks = each[0].asks
        if asks is None:
            break
        totals[asks] = walk.merged_tallies(asks, [part.tally for part in each])
    left = pl.concat([part.events.drop("session") for part in each])
    return left.sort("user", maintain_order=True), counts


@hypothesis.settings(max_examples=250, deadline=None)
@hypothesis.given(
    logs(),
    st.one_of(recipes, split_first),
    st.one_of(st.just(()), st.sets(st.integers(0, 4))),
    st.integers(1, 4),
)
def test_any_log_in_parts_keeps_the_events_and_counts_of_one_part(log, recipe, before, parts):
    """Bugs: count support, trained items, or the last day in a part alone."""
    if "type" not in log[0]:
        recipe = dataclasses.replace(recipe, drop_types=())
    continued = np.isin(np.arange(ITEMS), list(before))
    events = frame(log)
    left, counts = walked(events, recipe, continued, parts)
    try:
        of_run = continued if continued.any() else None
        expected, _, expected_counts = sessions.apply_recipe(events, recipe, continued=of_run)
    except errors.InputError:
        return  # the test of the folders has the message
    assert left.equals(expected.drop("session"))
    assert counts == expected_counts[1:]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    logs(), st.integers(0, 99), st.sampled_from(["test", "validation"]), st.integers(1, 4)
)
def test_a_log_that_brings_its_split_keeps_it_in_parts(log, seed, split, parts):
    """Bug: ask one part alone whether there are validation events."""
    words = np.random.default_rng(seed).choice(["train", "train", "validation", "test"], len(log))
    if set(words[:3]) == {"train"}:
        words[words == "validation"] = "train"
        split = "test"
    events = frame(log).with_columns(pl.Series("part", words))
    recipe = DataConfig(
        protocol="given", split=split, min_support=1, min_session_events=1, min_user_sessions=1
    )
    try:
        expected, *_ = sessions.apply_recipe(events, recipe)
    except errors.InputError:
        return
    left, _ = walked(events, recipe, np.zeros(ITEMS, bool), parts)
    assert left.equals(expected.drop("session"))
    assert protocols.HELD in left.columns


def test_the_part_of_a_user_is_the_crc_32_of_the_text_of_the_id():
    """The same for a number and its text, on every machine."""
    texts = ["7", "10", "-3", "12345"]
    expected = [zlib.crc32(text.encode()) % 4 for text in texts]
    assert log_parts.part_of(pl.Series(texts), 4).tolist() == expected
    assert log_parts.part_of(pl.Series(texts).cast(pl.Int64), 4).tolist() == expected
    assert log_parts.part_of(pl.Series(["123456789"]), 2**32).tolist() == [0xCBF43926]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same_log(folder, other):
    """Say whether two prepared folders load the same to the bit, so that training is the same."""
    ours, theirs = (vars(prepared.load(each)) for each in (folder, other))
    assert ours.keys() == theirs.keys()
    arrays = all(np.array_equal(ours[name], theirs[name]) for name in ours)
    names = (prepared.USERS, prepared.SESSIONS, prepared.ITEMS)
    tables = (prepared.load_table(folder, n).equals(prepared.load_table(other, n)) for n in names)
    return arrays and all(tables)


@pytest.fixture
def toy(tmp_path):
    return read_log.Source("toy", written.write(tmp_path / "log.csv"))


def workers_of_this_process():
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_folder_of_parts_is_the_same_by_one_process_and_by_two_that_are_killed(tmp_path, toy):
    """It loads as a folder of one part does. Bug: number users by part."""
    one = prepared.prepare(toy, LOOSE, tmp_path / "one")
    alone = prepared.prepare(toy, LOOSE, tmp_path / "a", parts=Parts(3))
    killed = []

    def kill(*_):
        if not killed:  # after the first task
            killed.extend(workers_of_this_process())
            for worker in killed:
                worker.kill()

    spread = Parts(3, workers=2, progress=kill)
    two = prepared.prepare(toy, LOOSE, tmp_path / "b", parts=spread)
    assert len(killed) == 2
    assert contents(alone) == contents(two)
    assert list((tmp_path / "b").iterdir()) == [two]
    assert same_log(alone, one)
    whole, first = prepared.load(alone), prepared.load(alone, parts=[1])
    assert event_hash(whole) == event_hash(prepared.load(one))
    assert 0 < len(first) < len(whole)
    assert first.session.tolist() == whole.session[np.isin(whole.user, first.user)].tolist()
    ours, theirs = prepared.load_meta(alone), prepared.load_meta(one)
    assert ours["counts"] == theirs["counts"]
    assert ours["table1"]["events"] == theirs["table1"]["events"]


@pytest.mark.parametrize("parts", [2, 15])
def test_files_with_sessions_types_and_both_kinds_of_ids_are_read_into_parts(tmp_path, parts):
    """More parts than users too. Bugs: keep a file's own ids; order a part by its files alone."""
    rng = np.random.default_rng(1)
    for name, prefix in (("a", ""), ("b", "x"), ("c", "")):
        rows = [
            f"{prefix * (user % 2)}{user},{rng.integers(6)},{1_600_000_000 + rng.integers(9) * 60},"
            f"{prefix}{rng.integers(3)},{rng.choice(['view', 'buy'])}"
            for user in rng.integers(12, size=150)
        ]
        text = "\n".join(["user_id,item_id,ts,s,t", *rows])
        written_files.write(tmp_path / "log" / f"{name}.csv", text)
    columns = read_log.Columns(session_column="s", type_column="t")
    source = read_log.Source("files", tmp_path / "log", columns)
    recipe = dataclasses.replace(LOOSE, drop_types=("buy",))
    one = prepared.prepare(source, recipe, tmp_path)
    in_parts = prepared.prepare(source, recipe, tmp_path, parts=Parts(parts))
    assert same_log(in_parts, one)
    assert prepared.load_meta(in_parts)["counts"] == prepared.load_meta(one)["counts"]


def test_a_log_without_times_is_read_into_parts_in_its_order(tmp_path):
    rows = [f"u{user},i{(3 * user + place) % 7}" for place in range(6) for user in range(9)]
    written_files.write(tmp_path / "log.csv", "\n".join(["user_id,item_id", *rows]))
    columns = read_log.Columns(time_column=None)
    source = read_log.Source("places", tmp_path / "log.csv", columns)
    recipe = dataclasses.replace(LOOSE, min_user_sessions=1, protocol="leave_one_out")
    one = prepared.prepare(source, recipe, tmp_path)
    assert same_log(prepared.prepare(source, recipe, tmp_path, parts=Parts(4)), one)


@pytest.mark.parametrize("parts", [1, 2])
def test_files_of_a_given_split_that_are_newest_first_are_read_training_first(tmp_path, parts):
    """Without times the order is that of the files. Bug: turn all files as one, test first."""
    files = {"train_b": ("i3", "i2"), "train_a": ("i1", "i0"), "valid": ("i2",), "test": ("i1",)}
    for name, items in files.items():
        text = "\n".join(["user_id,item_id", *(f"u{u},{item}" for item in items for u in (0, 1))])
        written_files.write(tmp_path / "log" / f"{name}.csv", text)
    names = ",".join(str(tmp_path / "log" / f"{name}.csv") for name in files)
    source = written_files.source(pathlib.Path(names), time_column=None, descending=True)
    recipe = DataConfig(protocol="given", min_support=1, min_session_events=1, min_user_sessions=1)
    folder = prepared.prepare(source, recipe, tmp_path, parts=Parts(parts))
    assert prepared.load(folder).item.tolist() == [0, 1, 2, 3, 2, 1] * 2
    assert prepared.load(folder).test.tolist() == [*[False] * 5, True] * 2


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        ({"test_days": 100}, "leaves no event to train on, lower `test_days`:"),
        ({"test_days": 1, "min_support": 999}, "leaves no user, lower `min_support`:"),
        ({"test_days": 1, "min_test_events": 9}, "to test on, lower `min_test_events`:"),
    ],
)
def test_a_recipe_that_leaves_nothing_is_refused_in_parts_as_in_one(tmp_path, toy, given, advised):
    """Bug: of parts, advise to lower `min_support` where the days leave no training event."""
    recipe = dataclasses.replace(LOOSE, protocol="global_time", **given)
    messages = set()
    for parts in (Parts(), Parts(3)):
        with pytest.raises(errors.InputError, match=re.escape(advised)) as raised:
            prepared.prepare(toy, recipe, tmp_path, parts=parts)
        messages.add(str(raised.value))
    assert len(messages) == 1


def test_an_interrupt_ends_the_workers_and_leaves_nothing(tmp_path, toy):
    def interrupt(*_):
        assert len(workers_of_this_process()) == 2
        raise KeyboardInterrupt

    spread = Parts(3, workers=2, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared.prepare(toy, LOOSE, tmp_path / "prepared", parts=spread)
    assert not workers_of_this_process()
    assert not list((tmp_path / "prepared").iterdir())


def by_flags(tmp_path, **given):
    flags.FLAGS(["test"])
    values = {name: str(value) for name, value in given.items()}
    with flagsaver.as_parsed(
        dataset="events", min_support="1", prepared_dir=str(tmp_path), **values
    ):
        return data_flags.prepare()


def test_the_workers_of_a_scheduler_make_the_folder_of_one_process(tmp_path, toy, capsys):
    """By the flags of a command; what is done is said by line. Bug: ignore --scheduler."""
    in_one = by_flags(tmp_path / "a", events=toy.path, parts=2)
    cluster: Any
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        address = str(cluster.scheduler_address).removeprefix("tcp://")
        spread = by_flags(tmp_path / "b", events=toy.path, parts=2, scheduler=address)
    assert contents(in_one) == contents(spread)
    assert capsys.readouterr().out.count("parts written: 2 done") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 2}, "`workers`=2 has no effect on a log of one part: give `parts`"),
        ({"scheduler": "a:1"}, "`scheduler`=a:1 has no effect on a log of one part: give `parts`"),
        ({"parts": 2, "scheduler": "here"}, "`scheduler`=here: give the HOST:PORT"),
        ({"parts": 2, "scheduler": "a:1", "workers": 2}, "drop one of the two"),
    ],
)
def test_flags_of_parts_that_do_not_go_together_are_refused(tmp_path, toy, given, message):
    with pytest.raises(errors.InputError, match=re.escape(message)):
        by_flags(tmp_path, events=toy.path, **given)


def test_workers_without_the_extra_are_answered_by_how_to_install_it(tmp_path, toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(errors.InputError, match=re.escape("pip install 'hrnn_jax[parts]'")):
        prepared.prepare(toy, LOOSE, tmp_path / "out", parts=Parts(2, workers=2))
    assert not list((tmp_path / "out").iterdir())
