"""walk.py: parts by users hold just the events that one part holds."""

import dataclasses
import zlib

import hypothesis
import numpy as np
import polars as pl
import psutil
from hypothesis import strategies as st

from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import prepared, protocols, read_log, sessions
from hrnn_jax.preprocess.event_hash import event_hash
from hrnn_jax.preprocess.user_parts import log_parts, walk
from hrnn_jax.preprocess.user_parts.parallel import Parts
from tests.helpers import logs as written
from tests.hrnn_jax.preprocess.test_protocols import split_first
from tests.hrnn_jax.preprocess.test_sessions import frame, logs, recipes

ITEMS = 5  # of the drawn logs


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


def test_a_folder_of_parts_is_the_same_by_one_process_and_by_two_that_are_killed(tmp_path):
    """It holds the events of a folder of one part."""
    source = read_log.Source("toy", written.write(tmp_path / "log.csv"))
    recipe = DataConfig(min_support=1, min_session_events=2, min_user_sessions=2)
    one = prepared.prepare(source, recipe, tmp_path / "one")
    alone = prepared.prepare(source, recipe, tmp_path / "a", parts=Parts(3))
    killed = []

    def kill(*_):
        if not killed:  # after the first part of the first pass
            workers = psutil.Process().children(recursive=True)
            killed.extend(w for w in workers if "spawn_main" in " ".join(w.cmdline()))
            for worker in killed:
                worker.kill()

    spread = Parts(3, workers=2, progress=kill)
    two = prepared.prepare(source, recipe, tmp_path / "b", parts=spread)
    assert len(killed) == 2
    assert contents(alone) == contents(two)
    assert list((tmp_path / "b").iterdir()) == [two]
    whole, first = prepared.load(alone), prepared.load(alone, parts=[1])
    assert event_hash(whole) == event_hash(prepared.load(one))
    assert 0 < len(first) < len(whole)
    assert first.time.tolist() == whole.time[np.isin(whole.user, first.user)].tolist()
    ours, theirs = prepared.load_meta(alone), prepared.load_meta(one)
    assert ours["counts"] == theirs["counts"]
    assert ours["table1"]["events"] == theirs["table1"]["events"]
    assert prepared.load_items(alone) == prepared.load_items(one)
