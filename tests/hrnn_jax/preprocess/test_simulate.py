"""Simulated logs: Table 1 after the paper's filter, and the behaviour of each shape."""

import collections
import dataclasses
import hashlib

import numpy as np
import polars as pl
import pytest

from hrnn_jax.preprocess import datasets, prepared, simulate, statistics


def numbers(cell: str) -> list[float]:
    return [float(part) for part in cell.replace(",", "").split("/")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Table 1 of the whole shapes, by the package's own preparation."""
    root = tmp_path_factory.mktemp("simulated")
    result = {}
    for shape in ("video", "xing"):
        source = datasets.source("simulated", root, simulation=datasets.Simulation(shape))
        recipe = datasets.recipe("simulated", simulate_shape=shape)
        result[shape] = prepared.load_meta(prepared.prepare(source, recipe, root))["table1"]
    return result


@pytest.mark.parametrize("shape", ["video", "xing"])
def test_every_row_of_table_1_is_within_a_tenth_of_the_papers(tables, shape):
    ours = tables[shape]
    for row in ours:
        mine = list(ours[row].values()) if isinstance(ours[row], dict) else [ours[row]]
        np.testing.assert_allclose(
            mine, numbers(statistics.PAPER[shape][row]), rtol=0.1, err_msg=row
        )


def test_videoxxl_scaled_down_has_the_papers_totals_in_proportion(tmp_path):
    simulation = datasets.Simulation("videoxxl", simulate_scale=0.02)
    source = datasets.source("simulated", tmp_path, simulation=simulation)
    recipe = datasets.recipe("simulated", simulate_shape="videoxxl")
    table = prepared.load_meta(prepared.prepare(source, recipe, tmp_path))["table1"]
    totals = [table[row] / 0.02 for row in ("users", "items", "sessions", "events")]
    np.testing.assert_allclose(totals, [810e3, 380e3, 8.5e6, 33e6], rtol=0.1)


def test_the_seed_decides_the_file_byte_for_byte(tmp_path):
    paths = [tmp_path / name for name in ("one", "again", "other")]
    for path, seed in zip(paths, (5, 5, 6), strict=True):
        simulate.write_log("video", path, seed=seed, scale=0.01)
    one, again, other = (path.read_bytes() for path in paths)
    assert one == again
    assert one != other
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize(
    ("shape", "digest"),
    [
        ("video", "14ffabd95ac1558e5c71a0a2fb14d21c5c9688ae1f2498d6f3e5c272aa9d63f7"),
        ("xing", "268a6c44495d0a070896f18b42c24ed2149a2ff3e8204c133dd6583f328016f3"),
        ("videoxxl", "71e40e6158bb2ebf655cd1b2c1dc5644ea14e1887638bf560af2fd6ec9dc1d5c"),
    ],
)
def test_the_events_of_a_seed_stay_the_same_in_later_versions(shape, digest):
    user, item, time = simulate.simulate_log(shape, seed=1, scale=0.002)
    found = hashlib.sha256(user.tobytes() + item.tobytes() + time.tobytes())
    assert found.hexdigest() == digest


def test_rows_are_in_the_order_of_time_and_within_the_days(tmp_path):
    simulate.write_log("xing", tmp_path / "log.parquet", seed=1, scale=0.01)
    table = pl.read_parquet(tmp_path / "log.parquet")
    assert table.schema == {"user_id": pl.UInt32, "item_id": pl.UInt32, "ts": pl.Int64}
    days = (table["ts"] - simulate.EPOCH) / simulate.DAY
    assert table["ts"].is_sorted()
    assert days.to_numpy().min() >= 0
    assert 79 < days.to_numpy().max() <= 80


def test_scale_shrinks_users_and_items_alike_so_that_items_keep_their_support():
    def users_items_support(scale):
        user, item, _ = simulate.simulate_log("video", seed=2, scale=scale)
        support = np.bincount(item)
        return np.array([len(np.unique(user)), (support >= 10).sum(), np.median(support)])

    ratio = users_items_support(0.25) / users_items_support(0.125)
    np.testing.assert_allclose(ratio, [2, 2, 1], rtol=0.1)


def test_ids_do_not_depend_on_popularity_or_activity():
    user, item, _ = simulate.simulate_log("video", seed=3, scale=0.1)
    for ids in (user, item):
        count = np.bincount(ids)
        top = np.argsort(-count)[:200]
        assert abs(top.mean() / len(count) - 0.5) < 0.1  # 5 standard errors


def test_a_law_draws_its_distribution():
    law = simulate.Law(6, 2.0, 2.5)
    edges = (np.arange(7) + law.shift) ** (1 - law.exponent)
    drawn = np.bincount(law.draw(np.random.default_rng(4), 100_000), minlength=6) / 100_000
    np.testing.assert_allclose(drawn, np.diff(edges) / (edges[-1] - edges[0]), atol=0.01)


@pytest.fixture(scope="module")
def video():
    """Eight thousand users of VIDEO shape without revisits, before their ids are hidden."""
    shape = dataclasses.replace(simulate.VIDEO, users=8000, revisit=0.0, open_revisit=0.0)
    rng = np.random.default_rng(5)
    count = 1 + shape.sessions.draw(rng, shape.users)
    length = 1 + shape.events.draw(rng, count.sum())
    return shape, rng, count, length


def test_a_pause_of_more_than_half_an_hour_opens_each_session_and_no_other_does(video):
    shape, rng, count, length = video
    time = simulate._times(rng, shape, count, length)
    first = np.cumsum(length) - length
    user_first = first[np.cumsum(count) - count]
    gap = np.diff(time)
    opens = np.zeros(len(time), bool)
    opens[first] = True
    same_user = np.ones(len(time), bool)
    same_user[user_first] = False
    np.testing.assert_array_equal((gap > simulate.IDLE)[same_user[1:]], opens[1:][same_user[1:]])


def test_a_session_holds_one_series_besides_hits_and_series_are_of_all_topics(video):
    shape, rng, count, length = video
    item = simulate._items(rng, shape, count, length) - shape.hits.size
    session = np.repeat(np.arange(len(length)), length)[item >= 0]
    series = item[item >= 0] // shape.items
    assert (series[1:] == series[:-1])[session[1:] == session[:-1]].all()
    assert len(np.unique(series % shape.topics)) == shape.topics


def test_a_series_is_viewed_in_its_order_a_few_items_at_a_time(video):
    shape, rng, count, length = video
    item = simulate._items(rng, shape, count, length) - shape.hits.size
    session = np.repeat(np.arange(len(length)), length)[item >= 0]
    item = item[item >= 0]
    steps = (np.diff(item) % shape.items)[np.diff(session) == 0]
    assert abs((steps == 1).mean() - shape.pace) < 0.01
    assert (steps <= 5).mean() > 0.95


def test_topics_of_earlier_sessions_predict_the_second_event_after_a_hit(video):
    """Counting which items follow an opening hit, by the topic watched before, beats counting."""
    shape, rng, count, length = video
    item = simulate._items(rng, shape, count, length)
    topic = (item - shape.hits.size) // shape.items % shape.topics
    topic[item < shape.hits.size] = -1
    cases = []  # the topic last watched, the second event
    first = np.cumsum(length) - length
    user = np.repeat(np.arange(len(count)), count)
    for s in np.flatnonzero((length > 1) & (np.diff(user, prepend=-1) == 0)):
        past = topic[first[s - 1] : first[s]]
        if item[first[s]] < shape.hits.size and past.max() >= 0:
            cases.append((past.max(), item[first[s] + 1]))
    half = len(cases) // 2  # of other users

    def recall(by_topic):
        counts = collections.defaultdict(collections.Counter)
        for past, target in cases[:half]:
            counts[past * by_topic][target] += 1
        best = {past: {i for i, _ in seen.most_common(5)} for past, seen in counts.items()}
        return np.mean([target in best.get(past * by_topic, ()) for past, target in cases[half:]])

    assert recall(by_topic=1) > 1.5 * recall(by_topic=0), (recall(1), recall(0))


def test_a_user_who_only_revisits_the_session_before_keeps_the_first_item():
    """Each revisit is of a revisit, back to the first session, whose first item has no other."""
    shape = dataclasses.replace(simulate.XING, revisit=1.0, open_revisit=1.0, recency=1.0)
    count = np.array([4, 1, 3])
    length = np.array([2, 1, 3, 1, 2, 1, 2, 2])
    item = simulate._items(np.random.default_rng(7), shape, count, length)
    user = np.repeat(np.arange(3), [7, 2, 5])
    later = np.array([0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1], bool)
    np.testing.assert_array_equal(item[later], item[[0, 7, 9]][user[later]])
    assert item[~later].min() >= shape.hits.size  # nothing to revisit: they go on in the series


def test_users_return_to_the_same_items_more_on_xing_than_on_video():
    def returns(shape):
        """The share of events whose item an earlier session of the user held; hits set aside."""
        user, item, time = simulate.simulate_log(shape, seed=6, scale=0.05)
        order = np.lexsort((time, user))
        log = pl.DataFrame({"user": user[order], "item": item[order], "time": time[order]})
        opens = pl.col("time").diff().over("user").fill_null(simulate.DAY) > simulate.IDLE
        log = log.with_columns(session=opens.cum_sum().over("user"))
        log = log.filter(pl.len().over("item") < len(log) / 200)
        log = log.filter(pl.col("session").max().over("user") >= 10)
        return log.select(
            (pl.col("session") > pl.col("session").min().over("user", "item")).mean()
        ).item()

    video, xing = returns("video"), returns("xing")
    assert xing > 1.3 * video, (xing, video)
    assert xing > 0.15
