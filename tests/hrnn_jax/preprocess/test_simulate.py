"""Simulated logs: Table 1, PPOP and Item-KNN after the paper's filter; how items are drawn."""

import dataclasses
import hashlib

import numpy as np
import polars as pl
import pytest

from hrnn_jax.baselines import by_name
from hrnn_jax.config import EvaluationConfig, ItemKnnConfig
from hrnn_jax.preprocess import datasets, prepared, simulate, statistics


def numbers(cell: str) -> list[float]:
    return [float(part) for part in cell.replace(",", "").split("/")]


# Recall@5 and MRR@5 of Table 3.
BASELINES = {
    ("xing", "ppop"): (0.1326, 0.0939),
    ("xing", "item_knn"): (0.0697, 0.0406),
    ("video", "ppop"): (0.3887, 0.3031),
    ("video", "item_knn"): (0.4192, 0.2916),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The whole shapes, by the package's own preparation."""
    root = tmp_path_factory.mktemp("simulated")
    result = {}
    for shape in ("video", "xing"):
        source = datasets.source("simulated", root, simulation=datasets.Simulation(shape))
        recipe = datasets.recipe("simulated", simulate_shape=shape)
        result[shape] = prepared.prepare(source, recipe, root)
    return result


@pytest.mark.parametrize("shape", ["video", "xing"])
def test_every_row_of_table_1_is_near_the_papers(folders, shape):
    """Counts and means within 5%, medians within 1, standard deviations within 15%."""
    ours = prepared.load_meta(folders[shape])["table1"]
    for row, value in ours.items():
        paper = numbers(statistics.PAPER[shape][row])
        if isinstance(value, dict):
            assert abs(value["median"] - paper[0]) <= 1, row
            assert value["mean"] == pytest.approx(paper[1], rel=0.05), row
            assert value["std"] == pytest.approx(paper[2], rel=0.15), row
        else:
            # XING's catalogue changes, this one does not: see simulate.py.
            rel = 0.15 if (shape, row) == ("xing", "test_events") else 0.05
            assert value == pytest.approx(paper[0], rel=rel), row


@pytest.mark.parametrize(("shape", "baseline"), BASELINES)
def test_ppop_and_item_knn_find_as_much_as_in_table_3(folders, shape, baseline):
    settings = ItemKnnConfig() if baseline == "item_knn" else None
    rank = by_name.rank(baseline, prepared.load(folders[shape]), settings, EvaluationConfig()).rank
    recall, mrr = BASELINES[shape, baseline]
    assert (rank <= 5).mean() == pytest.approx(recall, rel=0.05)
    # XING has repeats of another type inside sessions, this log has not: see simulate.py.
    rel = 0.25 if (shape, baseline) == ("xing", "ppop") else 0.15
    assert np.where(rank <= 5, 1 / rank, 0).mean() == pytest.approx(mrr, rel=rel)


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
        ("video", "fb99df7925b0119807e42d97479fa8c48b1ce7b1888deda58636e19fc4c644c9"),
        ("xing", "6993bf8c58cbe62919a25cbb21d8335ab6c7c250a8a69ba0f6c273278da27074"),
        ("videoxxl", "a933fca2b33884f32331801d1e7970a2b4358ad3b1e1e8ec08bc20d90ce9bad8"),
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
    """Eight thousand users of VIDEO shape who hardly repeat, before their ids are hidden."""
    shape = dataclasses.replace(simulate.VIDEO, users=8000, repeat=1e-9)
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


def test_a_session_that_only_follows_walks_one_series_from_its_first_item(video):
    shape, rng, count, length = video
    item = simulate._items(rng, dataclasses.replace(shape, follow=1.0), count, length)
    first = np.cumsum(length) - length
    session = np.repeat(np.arange(len(length)), length)
    series, place = np.divmod(item, shape.items)
    np.testing.assert_array_equal(series, series[first][session])
    assert (place[first] == 0).all()
    steps = (np.diff(place) % shape.items)[np.diff(session) == 0]
    assert abs((steps == 1).mean() - shape.pace) < 0.01


def test_events_that_neither_repeat_nor_follow_begin_series_by_their_law(video):
    shape, rng, count, length = video
    item = simulate._items(rng, dataclasses.replace(shape, follow=0.0), count, length)
    law = shape.series
    edges = (np.arange(12) + law.shift) ** (1 - law.exponent)
    whole = edges[0] - (law.size + law.shift) ** (1 - law.exponent)
    assert (item % shape.items == 0).all()
    share = np.bincount(item // shape.items)[:11] / len(item)
    np.testing.assert_allclose(share, -np.diff(edges) / whole, atol=0.005)


def test_a_user_who_only_repeats_keeps_the_first_item():
    shape = dataclasses.replace(simulate.XING, repeat=1.0)
    count = np.array([4, 1, 3])
    length = np.array([2, 1, 3, 1, 2, 1, 2, 2])
    item = simulate._items(np.random.default_rng(7), shape, count, length)
    np.testing.assert_array_equal(item, np.repeat(item[[0, 7, 9]], [7, 2, 5]))


def test_an_item_returns_in_proportion_to_its_events():
    """Of four events a, a, b, x with x in {a, b}, two in three have x = a."""
    series = simulate.Law(10**9, 1e9, 1.01)  # no series is begun twice
    shape = dataclasses.replace(simulate.VIDEO, series=series, follow=0.0, repeat=0.5)
    users = 100_000
    length = np.tile([3, 1], users)  # across sessions too
    item = simulate._items(np.random.default_rng(8), shape, np.full(users, 2), length)
    a, a2, b, x = item.reshape(users, 4).T
    x = x - a
    b = b - a
    cases = (a2 == a) & (b != 0) & ((x == 0) | (x == b))
    assert cases.sum() > 5000
    assert abs((x[cases] == 0).mean() - 2 / 3) < 0.03


def test_users_differ_in_how_often_they_repeat_around_the_shapes_mean():
    """The mean is `repeat`, m; two events of a user both repeat in m / (2 - m) of the users."""
    series = simulate.Law(10**9, 1e9, 1.01)
    mean = 0.4
    shape = dataclasses.replace(simulate.VIDEO, series=series, follow=0.0, repeat=mean)
    users = 100_000
    length = np.full(users, 3)
    item = simulate._items(np.random.default_rng(9), shape, np.ones(users, int), length)
    first, second, third = item.reshape(users, 3).T
    repeats = [second == first, (third == first) | (third == second)]
    np.testing.assert_allclose(np.mean(repeats, axis=1), mean, atol=0.01)
    assert abs((repeats[0] & repeats[1]).mean() - mean / (2 - mean)) < 0.01
