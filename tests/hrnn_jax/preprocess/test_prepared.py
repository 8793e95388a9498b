"""prepared.py: what a folder holds, when it is used again, and how a damaged one is refused."""

import dataclasses
import json
import pathlib

import hypothesis
import numpy as np
import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.config import DataConfig, ReadConfig
from hrnn_jax.preprocess import prepared, read_log
from tests.hrnn_jax.preprocess import oracle
from tests.hrnn_jax.preprocess.test_sessions import logs, recipes

FORMER = pathlib.Path(__file__).parents[2] / "data" / "run_format_1"
RECIPE = DataConfig(min_support=1, min_session_events=2, min_user_sessions=2)
ANY_YEAR = ReadConfig(any_year=True)
# User "b" comes first in the file; item 30 is only ever tested; session times run backwards.
LOG = pl.DataFrame(
    [
        *[("b", 20, 50_000), ("b", 10, 50_001), ("b", 30, 50_002)],
        *[("a", 40, 9_000), ("a", 20, 9_001), ("a", 20, 9_002)],
        *[("a", 10, 20_000), ("a", 20, 20_001)],
        *[("b", 10, 0), ("b", 20, 1)],
        ("c", 40, 0),
    ],
    schema=["user_id", "item_id", "ts"],
    orient="row",
)


def source(tmp_path: pathlib.Path, log: pl.DataFrame = LOG, **settings) -> read_log.Source:
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    return read_log.Source("toy", path, **{"reading": ANY_YEAR, **settings})


def test_the_folder_has_the_documented_format(tmp_path):
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path / "prepared")
    held = pl.read_parquet(folder / "events.parquet")
    assert held.schema == pl.Schema(
        {"user": pl.UInt32, "session": pl.UInt32, "item": pl.UInt32, "time": pl.Int64}
        | {"test": pl.Boolean}
    )
    assert held.rows() == [
        *[(0, 0, 2, 9_000, False), (0, 0, 1, 9_001, False), (0, 0, 1, 9_002, False)],
        *[(0, 1, 0, 20_000, True), (0, 1, 1, 20_001, True)],
        *[(1, 2, 0, 0, False), (1, 2, 1, 1, False)],
        *[(1, 3, 1, 50_000, True), (1, 3, 0, 50_001, True)],
    ]
    items = pl.read_parquet(folder / "items.parquet")
    assert items.rows(named=True)[0] == {"item": 0, "raw_id": 10, "support": 1}
    assert items.rows() == [(0, 10, 1), (1, 20, 3), (2, 40, 1)]
    assert items.schema["item"] == items.schema["support"] == pl.UInt32
    assert pl.read_parquet(folder / "users.parquet").rows() == [(0, "a"), (1, "b")]
    ends = pl.read_parquet(folder / "sessions.parquet")
    assert ends.schema == pl.Schema({"session": pl.UInt32, "end": pl.Float64})
    # The last event of the last session, of an item that is only tested, is left out of the others.
    assert ends.rows() == [(0, 9_002), (1, 20_001), (2, 1), (3, 50_002)]


def test_the_ids_of_sessions_are_kept_as_the_log_has_them(tmp_path):
    """Of two sessions at once, the one that began first comes first. Bug: number them anew."""
    rows = [
        *[("a", n, 10 * n, 7 - n % 2) for n in range(6)],
        *[("a", n, 90 + n, 900) for n in (1, 2)],
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "ts", "visit"], orient="row")
    given = source(tmp_path, log, columns=read_log.Columns(session_column="visit"))
    folder = prepared.prepare(given, RECIPE, tmp_path)
    ends = prepared.load_sessions(str(folder))
    assert ends.to_dict(as_series=False) == {
        "session": [0, 1, 2],
        "end": [40.0, 50.0, 92.0],
        "raw_id": [7, 6, 900],
    }
    assert prepared.load(str(folder)).time.tolist() == [0, 20, 40, 10, 30, 50, 91, 92]
    assert prepared.load_meta(str(folder))["columns"]["session"] == "visit"


def test_the_log_of_a_folder_is_read_again_as_it_was(tmp_path):
    """Also of a folder that did not say how. Bug: forget the separator."""
    reading = ReadConfig(separator="\t", any_year=True, null_values=("x",))
    given = source(tmp_path, reading=reading, columns=read_log.Columns(type_column="ts"))
    meta = prepared.load_meta(prepared.prepare(given, RECIPE, tmp_path))
    assert prepared.source_of(meta) == given
    other = prepared.source_of(meta, tmp_path / "other.csv")
    assert other == dataclasses.replace(given, path=tmp_path / "other.csv")
    del meta["reading"]
    assert prepared.source_of(meta | {"name": "xing"}).reading == ReadConfig(separator="\t")
    assert prepared.source_of(meta).reading == ReadConfig()


def test_the_loaded_log_equals_the_events_of_the_folder(tmp_path):
    log = prepared.load(prepared.prepare(source(tmp_path), RECIPE, tmp_path))
    assert log.user.tolist() == [0] * 5 + [1] * 4
    assert log.session.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert log.item.tolist() == [2, 1, 1, 0, 1, 0, 1, 1, 0]
    assert log.test.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 2
    assert log.time.tolist() == [9_000, 9_001, 9_002, 20_000, 20_001, 0, 1, 50_000, 50_001]
    assert log.train.time.tolist() == [9_000, 9_001, 9_002, 0, 1]
    assert log.time.dtype == np.int64
    assert log.n_items == 3
    assert {array.dtype for array in (log.user, log.session, log.item)} == {np.dtype(np.int32)}


def test_items_load_in_the_order_of_their_index(tmp_path):
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path)
    assert prepared.load_items(folder) == [10, 20, 40]
    items = pl.read_parquet(folder / "items.parquet")
    for wrong in (items.reverse(), items.head(0).clear(2), items.drop("raw_id")):
        wrong.write_parquet(folder / "items.parquet")
        with pytest.raises(errors.InputError, match=r"items.parquet: is missing or damaged"):
            prepared.load_items(folder)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(logs(), recipes)
def test_any_log_is_numbered_without_gaps_and_keeps_its_ids(tmp_path_factory, log, recipe):
    recipe = dataclasses.replace(recipe, drop_types=())
    expected = oracle.prepare(log, recipe)
    hypothesis.assume(any(out for _, out in expected))
    folder = tmp_path_factory.mktemp("any")
    table = pl.DataFrame(log, infer_schema_length=None).with_columns(
        pl.format("i{}", "item").alias("item")
    )
    named = {f"{name}_column": name for name in ("session", "type") if name in log[0]}
    columns = read_log.Columns("user", "item", "time", **named)
    at = prepared.prepare(source(folder, table, columns=columns), recipe, folder)
    held = pl.read_parquet(at / "events.parquet")
    for name in ("user", "session", "item"):
        assert held[name].unique().sort().to_list() == list(range(held[name].n_unique()))
    items, users = (pl.read_parquet(at / f"{name}.parquet") for name in ("items", "users"))
    rows = [log[row] for row, _ in expected]
    assert items["raw_id"].gather(held["item"]).to_list() == [f"i{e['item']}" for e in rows]
    assert users["raw_id"].gather(held["user"]).to_list() == [e["user"] for e in rows]
    assert held["time"].to_list() == [e["time"] for e in rows]
    assert held["test"].to_list() == [out for _, out in expected]
    assert items["support"].sum() == sum(not out for _, out in expected)


def items(folder):
    return pl.read_parquet(folder / "items.parquet").select("raw_id", "support").rows()


def test_items_of_a_continued_run_keep_their_index_and_new_items_follow(tmp_path):
    """Of the former items, 40 has too few events for a new one, 30 is only tested, 99 is absent.

    Bug: number all of the log's items by their raw ids.
    """
    recipe, given = dataclasses.replace(RECIPE, min_support=3), source(tmp_path)
    folder = prepared.prepare(given, recipe, tmp_path, continued_items=[99, 30, 40])
    assert items(folder) == [(99, 0), (30, 0), (40, 1), (10, 1), (20, 3)]
    assert prepared.load_items(folder) == [99, 30, 40, 10, 20]
    log = prepared.load(folder)
    assert log.n_items == 5
    assert log.item.tolist() == [2, 4, 4, 3, 4, 3, 4, 4, 3, 1]
    assert log.support.tolist() == [0, 0, 1, 1, 3]
    meta = prepared.load_meta(folder)
    assert meta["known_items"] == 3
    assert meta["table1"]["items"] == 4  # that there are events of
    stages = [count["stage"] for count in meta["counts"]]
    assert "min_support=3 of new items" in stages
    assert "test items known to train, or before" in stages


@pytest.mark.parametrize(
    ("before", "here", "expected"),
    [
        ([99, 20], [10, 20, 40], [99, 20, 10, 40]),
        (["99", "20"], [10, 20, 40], ["99", "20", "10", "40"]),
        ([99, 20], ["10", "20", "x"], ["99", "20", "10", "x"]),
        (["99", "020"], ["010", "020", "x"], ["99", "020", "010", "x"]),
        (["40", "020"], [10, 20, 40], ["40", "020", "10", "20"]),  # 020 is not 20
    ],
)
def test_ids_of_equal_text_are_the_same_item_when_a_run_is_continued(
    before, here, expected, tmp_path
):
    raw_ids = dict(zip([10, 20, 40], here, strict=True))
    rows = LOG.filter(pl.col("item_id") != 30).rows()
    path = tmp_path / "log.csv"
    lines = [f"{user},{raw_ids[item]},{time}\n" for user, item, time in rows]
    path.write_text("".join(["user_id,item_id,ts\n", *lines]))
    folder = prepared.prepare(
        read_log.Source("toy", path, reading=ANY_YEAR), RECIPE, tmp_path, continued_items=before
    )
    assert prepared.load_items(folder) == expected


def test_a_run_is_not_continued_with_a_log_of_none_of_its_items(tmp_path):
    """As where its ids are written in another way. Bug: all its weights are dropped."""
    with pytest.raises(errors.InputError, match=r"has none of the 2 items of the run .* as '099'"):
        prepared.prepare(source(tmp_path), RECIPE, tmp_path, continued_items=["099", "020"])


@pytest.mark.parametrize("kind", ["4.0", " 4", "delete"])
def test_types_that_no_event_has_are_not_dropped(kind, tmp_path):
    """Bug: nothing is dropped, without a word."""
    log = LOG.with_columns(kind=pl.Series(["4", *["1"] * 10]))
    typed = source(tmp_path, log, columns=read_log.Columns(type_column="kind"))
    for types in ((kind,), ("4", kind)):
        with pytest.raises(errors.InputError) as raised:
            prepared.prepare(typed, dataclasses.replace(RECIPE, drop_types=types), tmp_path)
        says = f"no event is of the type {kind!r}; there are '1' (10 events), '4' (1 events)"
        assert says in str(raised.value)
    prepared.prepare(typed, dataclasses.replace(RECIPE, drop_types=("4",)), tmp_path)


def test_continued_items_change_the_folder_and_none_keeps_its_name(tmp_path):
    """Prepared folders must be found again. Bug: always put `known` into the fingerprint."""
    path = tmp_path / "log.csv"
    starts = (1_500_000_000, 1_500_090_000)
    rows = [f"{u},{7 + n},{at + n}\n" for u in (0, 1) for at in starts for n in (0, 1)]
    path.write_text("".join(["user_id,item_id,ts\n", *rows]))
    given = read_log.Source("toy", path)
    made = [
        prepared.prepare(given, RECIPE, tmp_path, continued_items=ids)
        for ids in ((), [7], [8], [8, 7])
    ]
    assert made[0].name == "toy-89db878ecdc3"
    assert len(set(made)) == 4


def test_a_log_that_a_former_version_prepared_is_prepared_alike(tmp_path):
    """The same folder name, so that it is found, and the same contents."""
    given = read_log.Source("events", FORMER / "log.csv")
    folder = prepared.prepare(given, DataConfig(min_support=1), tmp_path)
    [former] = (FORMER / "prepared").iterdir()
    assert folder.name == former.name == "events-46389046f5c4"
    for name in ("events.parquet", "items.parquet", "users.parquet"):
        assert pl.read_parquet(folder / name).equals(pl.read_parquet(former / name))
    expected = json.loads((former / "meta.json").read_text())
    assert expected["format"] == 1
    assert prepared.load_sessions(former) is None
    expected |= {"format": 3}
    expected["source"]["path"] = str(FORMER / "log.csv")
    expected["recipe"] |= {"protocol": "last_session", "test_days": 7.0, "task": "next_item"}
    expected["recipe"] |= {"train_on_validation": True}
    expected |= {"reading": {}, "skipped": {"bad": 0, "first": [], "without_id": 0}}
    assert json.loads((folder / "meta.json").read_text()) == expected


def test_meta_holds_the_source_the_recipe_and_all_counts(tmp_path):
    meta = prepared.load_meta(
        prepared.prepare(source(tmp_path, simulated=True, notes=("a",)), RECIPE, tmp_path)
    )
    assert meta["data"] == "simulated"
    assert meta["notes"] == ["a"]
    assert meta["recipe"]["min_session_events"] == 2
    assert meta["table1"]["events"] == 9
    assert [count["events"] for count in meta["counts"]] == [11, 11, 11, 10, 10, 9, 9]
    log = {"stage": "log", "users": 3, "items": 4, "sessions": None, "events": 11}
    assert meta["counts"][0] == log


def test_the_same_log_and_recipe_are_not_read_again(tmp_path, monkeypatch):
    given = source(tmp_path)
    folder = prepared.prepare(given, RECIPE, tmp_path)
    monkeypatch.setattr(read_log, "read", lambda _: pytest.fail("read again"))
    assert prepared.prepare(given, RECIPE, tmp_path) == folder


def test_any_other_setting_column_or_log_makes_another_folder(tmp_path):
    made = {prepared.prepare(source(tmp_path), RECIPE, tmp_path)}
    for name, value in {
        "session_gap_minutes": 31,
        "drop_repeats": True,
        "min_support": 2,
        "min_user_sessions": 1,
        "max_user_sessions": 9,
    }.items():
        recipe = dataclasses.replace(RECIPE, **{name: value})
        made.add(prepared.prepare(source(tmp_path), recipe, tmp_path))
    typed = source(tmp_path, columns=read_log.Columns(type_column="ts"))
    made.add(prepared.prepare(typed, RECIPE, tmp_path))
    longer = source(tmp_path, pl.concat([LOG, LOG.head(1)]))
    made.add(prepared.prepare(longer, RECIPE, tmp_path))
    assert len(made) == 8


@pytest.mark.parametrize("minutes", [30, 45])
def test_a_whole_number_of_minutes_as_a_flag_gives_it_makes_no_other_folder(minutes, tmp_path):
    """Bug: put 30 and 30.0 into the name as they are."""
    folders = {
        prepared.prepare(source(tmp_path), dataclasses.replace(RECIPE, **given), tmp_path)
        for given in ({"session_gap_minutes": minutes}, {"session_gap_minutes": float(minutes)})
    }
    assert len(folders) == 1


def test_an_incomplete_folder_is_prepared_again(tmp_path):
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path)
    whole = prepared.load(folder)
    for name in ("items.parquet", "sessions.parquet"):
        (folder / name).unlink()
        assert prepared.prepare(source(tmp_path), RECIPE, tmp_path) == folder
        assert (folder / name).exists()
    assert prepared.load(folder).item.tolist() == whole.item.tolist()


def test_of_two_processes_the_slower_leaves_the_folder_alone(tmp_path, monkeypatch):
    """The faster one may be reading it: it prepares the log while the slower one reads it."""
    log, read, inodes = source(tmp_path), read_log.read, []

    def slow_read(given, **how):
        monkeypatch.setattr(read_log, "read", read)
        inodes.append(prepared.prepare(log, RECIPE, tmp_path / "prepared").stat().st_ino)
        return read(given, **how)

    monkeypatch.setattr(read_log, "read", slow_read)
    folder = prepared.prepare(log, RECIPE, tmp_path / "prepared")
    assert inodes == [folder.stat().st_ino]
    assert list((tmp_path / "prepared").iterdir()) == [folder]


def test_nothing_is_left_of_a_refused_log(tmp_path):
    root = tmp_path / "prepared"
    given = source(tmp_path, LOG.with_columns(item_id=pl.lit(None, pl.Int64)))
    with pytest.raises(errors.InputError, match="no item id"):
        prepared.prepare(given, RECIPE, root)
    assert not root.exists()


def test_nothing_is_left_of_a_failed_write(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    root = tmp_path / "prepared"
    path = tmp_path / "log.csv"
    LOG.write_csv(path)
    with pytest.raises(errors.InputError, match="No space left on device"):
        prepared.prepare(read_log.Source("toy", path, reading=ANY_YEAR), RECIPE, root)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["events.parquet", "items.parquet", "sessions.parquet", "meta.json"]
)
@pytest.mark.parametrize("part", [0, 0.5, None])
def test_a_damaged_folder_is_refused_by_file(name, part, tmp_path):
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if part is not None:
        (folder / name).write_bytes(whole[: int(len(whole) * part)])
    readers = {"items.parquet": prepared.load_items, "sessions.parquet": prepared.load_sessions}
    read = readers.get(name, prepared.load)
    with pytest.raises(errors.InputError, match=f"{name}: is missing or damaged") as raised:
        read(folder)
    assert f"delete {folder} and prepare again" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_of_another_format_or_with_other_events_is_refused(tmp_path):
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path)
    held = pl.read_parquet(folder / "events.parquet")
    held.head(3).write_parquet(folder / "events.parquet")
    with pytest.raises(errors.InputError, match="3 events, not 9"):
        prepared.load(folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": 0}))
    with pytest.raises(errors.InputError, match="format 0"):
        prepared.load(folder)


@pytest.mark.parametrize("name", ["table1", "recipe"])
def test_a_folder_without_a_part_of_its_meta_is_refused(name, tmp_path):
    """Bug: a KeyError of its reader."""
    folder = prepared.prepare(source(tmp_path), RECIPE, tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    del meta[name]
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(errors.InputError, match=f"is missing or damaged .it has no {name}."):
        prepared.load(folder)


def test_a_prepared_dir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(errors.InputError, match=f"cannot write {tmp_path}/file.*`prepared_dir`"):
        prepared.prepare(source(tmp_path), RECIPE, tmp_path / "file")


@pytest.mark.parametrize(("name", "says"), [("no.csv", "no such file"), (".", "is a folder")])
def test_a_log_that_is_not_a_file_is_refused(name, says, tmp_path):
    with pytest.raises(errors.InputError, match=says):
        prepared.prepare(read_log.Source("toy", tmp_path / name), RECIPE, tmp_path)
