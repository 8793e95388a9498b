"""Simulated logs: Table 1 after the paper's filter, and the behaviour each shape is for."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from hrnn_jax.preprocess import datasets, describe, prepared, simulate


def numbers(cell: str) -> list[float]:
    return [float(part) for part in cell.replace(",", "").split("/")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Table 1 of the whole shapes, by the package's own preparation."""
    root = tmp_path_factory.mktemp("simulated")
    result = {}
    for shape in ("video", "xing"):
        source = datasets.source("simulated", root, shape=shape)
        recipe = datasets.recipe("simulated", shape=shape)
        result[shape] = prepared.load_meta(prepared.prepare(source, recipe, root))["table1"]
    return result


@pytest.mark.parametrize("shape", ["video", "xing"])
def test_every_row_of_table_1_is_within_a_tenth_of_the_papers(tables, shape):
    ours = tables[shape]
    for row in ours:
        mine = list(ours[row].values()) if isinstance(ours[row], dict) else [ours[row]]
        np.testing.assert_allclose(mine, numbers(describe.PAPER[shape][row]), rtol=0.1, err_msg=row)


def test_videoxxl_scaled_down_has_the_papers_totals_in_proportion(tmp_path):
    source = datasets.source("simulated", tmp_path, shape="videoxxl", scale=0.02)
    recipe = datasets.recipe("simulated", shape="videoxxl")
    table = prepared.load_meta(prepared.prepare(source, recipe, tmp_path))["table1"]
    totals = [table[row] / 0.02 for row in ("users", "items", "sessions", "events")]
    np.testing.assert_allclose(totals, [810e3, 380e3, 8.5e6, 33e6], rtol=0.1)


def test_the_seed_decides_the_file_byte_for_byte(tmp_path):
    paths = [tmp_path / name for name in ("one", "again", "other")]
    for path, seed in zip(paths, (5, 5, 6), strict=True):
        simulate.write("video", path, seed=seed, scale=0.01)
    one, again, other = (path.read_bytes() for path in paths)
    assert one == again
    assert one != other
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_rows_are_in_the_order_of_time_and_within_the_days(tmp_path):
    simulate.write("xing", tmp_path / "log.parquet", seed=1, scale=0.01)
    table = pl.read_parquet(tmp_path / "log.parquet")
    assert table.schema == {"user_id": pl.UInt32, "item_id": pl.UInt32, "ts": pl.Int64}
    days = (table["ts"] - simulate.EPOCH) / simulate.DAY
    assert table["ts"].is_sorted()
    assert days.min() >= 0
    assert 79 < days.max() <= 80


def test_scale_shrinks_users_and_items_alike_so_that_items_keep_their_support():
    def users_items_support(scale):
        user, item, _ = simulate.log("video", seed=2, scale=scale)
        support = np.bincount(item)
        return np.array([len(np.unique(user)), (support >= 10).sum(), np.median(support)])

    ratio = users_items_support(0.25) / users_items_support(0.125)
    np.testing.assert_allclose(ratio, [2, 2, 1], rtol=0.1)


def test_popular_items_and_active_users_have_ids_like_any_others():
    user, item, _ = simulate.log("video", seed=3, scale=0.1)
    for ids in (user, item):
        count = np.bincount(ids)
        top = np.argsort(-count)[:200]
        assert abs(top.mean() / len(count) - 0.5) < 0.1  # 5 standard errors


def test_law_draws_its_own_distribution():
    law = simulate.Law(6, 2.0, 2.5)
    edges = (np.arange(7) + law.shift) ** (1 - law.exponent)
    drawn = np.bincount(law.draw(np.random.default_rng(4), 100_000), minlength=6) / 100_000
    np.testing.assert_allclose(drawn, np.diff(edges) / (edges[-1] - edges[0]), atol=0.01)


@pytest.fixture(scope="module")
def video():
    """Four thousand users of VIDEO shape without revisits, before their ids are hidden."""
    shape = dataclasses.replace(simulate.VIDEO, users=4000, revisit=0.0, open_revisit=0.0)
    rng = np.random.default_rng(5)
    count = -np.sort(-(1 + shape.sessions.draw(rng, shape.users)))
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


def test_a_session_holds_one_topic_besides_hits(video):
    shape, rng, count, length = video
    item = simulate._items(rng, shape, count, length)
    session = np.repeat(np.arange(len(length)), length)[item >= shape.hits.size]
    topic = simulate._topic(shape, item[item >= shape.hits.size])
    assert (topic[1:] == topic[:-1])[session[1:] == session[:-1]].all()
    assert len(np.unique(topic)) == shape.topics


def test_the_history_tells_the_taste_of_the_next_session(video):
    shape, rng, count, _ = video
    taste, _ = simulate._openings(rng, shape, count)
    several = count >= 5
    end = np.cumsum(count)[several]
    history = [taste[e - c : e - 1] for e, c in zip(end, count[several], strict=True)]
    series = [(h - shape.hits.size) // shape.items for h in history]
    last = (taste[end - 1] - shape.hits.size) // shape.items
    own = np.mean([s in past for s, past in zip(last, series, strict=True)])
    others = np.mean([s in past for s, past in zip(last, series[1:] + series[:1], strict=True)])
    assert own > 0.6
    assert others < 0.15


def test_users_return_to_the_same_items_more_on_xing_than_on_video():
    def returns(shape):
        """The share of events whose item an earlier session of the user held; hits set aside."""
        user, item, time = simulate.log(shape, seed=6, scale=0.05)
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
