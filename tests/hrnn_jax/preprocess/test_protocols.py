"""protocols.py equals each protocol in plain Python; held-out events have no part in training."""

import dataclasses
import pathlib
import shutil

import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

import hrnn_jax
from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.preprocess import datasets, prepared, protocols, read_log, sessions
from tests.hrnn_jax.preprocess import oracle, protocol_oracle
from tests.hrnn_jax.preprocess.test_prepared import source
from tests.hrnn_jax.preprocess.test_sessions import LENIENT, frame, left, log_of, logs, recipes


def recipe_of(**given) -> DataConfig:
    if given["protocol"] != "global_time":
        del given["test_days"]
    return DataConfig(**given)


split_first = st.builds(
    recipe_of,
    session_gap_minutes=st.sampled_from([10, 30, 10_000]),
    drop_repeats=st.booleans(),
    min_support=st.sampled_from([1, 1, 3, 6]),
    min_session_events=st.sampled_from([1, 1, 2, 3]),
    min_user_sessions=st.sampled_from([0, 1, 2]),
    max_user_sessions=st.sampled_from([None, None, 4]),
    min_test_events=st.sampled_from([2, 2, 3]),
    split=st.sampled_from(["test", "test", "validation"]),
    protocol=st.sampled_from(["leave_one_out", "global_time"]),
    test_days=st.sampled_from([1 / 48, 5 / 48, 12 / 48]),  # times are in half hours
    task=st.sampled_from(["next_item", "last_item"]),
    train_on_validation=st.booleans(),
)


def marks(log: list[dict], recipe: DataConfig, before=()) -> list[tuple]:
    """Return row, test, case and held of each event that is left."""
    continued = np.isin(np.arange(5), list(before)) if before else None
    events, *_ = sessions.apply_recipe(frame(log), recipe, continued=continued)
    case = protocols.is_case(events.columns).alias("case")
    return list(events.select("row", "test", case, "held").iter_rows())


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(logs(), split_first, st.one_of(st.just(()), st.sets(st.integers(0, 4))))
def test_any_log_is_split_as_by_the_loops_of_the_oracle(log, recipe, before):
    events = protocol_oracle.prepare(log, recipe, before)
    expected = [(e["row"], e["test"], e["case"], e["held"]) for e in events]
    if any(case for _, _, case, _ in expected):
        assert marks(log, recipe, before) == expected
    else:
        with pytest.raises(errors.InputError, match="leaves no user"):
            marks(log, recipe, before)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(logs(), recipes, st.booleans())
def test_last_sessions_are_held_out_for_each_task_alike(log, recipe, of_validation):
    """What is left of the paper's split depends neither on the task nor on what is validated."""
    recipe = dataclasses.replace(recipe, drop_types=())
    rows = oracle.prepare(log, recipe)
    hypothesis.assume(any(out for _, out in rows))
    last = dataclasses.replace(recipe, task="last_item")
    assert left(log, last) == rows
    events, *_ = sessions.apply_recipe(frame(log), last)
    user = {row: frame(log)["user"].to_list()[n] for n, row in enumerate(frame(log)["row"])}
    cases = events.filter(protocols.is_case(events.columns))["row"].to_list()
    held = [row for row, out in rows if out]
    of_user = {user[row]: row for row in held}  # the last one of each: of its session
    assert cases == list(of_user.values())
    if of_validation and recipe.split == "test":
        less = dataclasses.replace(recipe, train_on_validation=False, min_test_events=2)
        try:
            events, *_ = sessions.apply_recipe(frame(log), less)
        except errors.InputError:
            return
        trained = events.filter(~pl.col("test")).group_by("user").agg(pl.col("session").max())
        tested = events.filter("target").group_by("user").agg(pl.col("session").min().alias("of"))
        both = trained.join(tested, on="user")
        assert (both["session"] < both["of"]).all()


def test_a_user_of_one_event_is_no_case_and_not_trained_on():
    """Users 1 and 2 have one event, user 3 two: only the first of these is trained on."""
    log = log_of((0, 1, 0), (0, 2, 1), (0, 1, 2), (1, 1, 0), (2, 2, 0), (3, 1, 0), (3, 2, 1))
    recipe = DataConfig(protocol="leave_one_out", **LENIENT)
    assert [(row, out) for row, out, *_ in marks(log, recipe)] == [
        *[(0, False), (1, False), (2, True)],
        *[(5, False), (6, True)],
    ]


def test_a_case_of_an_item_that_is_not_trained_on_is_dropped_and_counted():
    log = log_of((0, 1, 0), (0, 1, 1), (0, 9, 2), (1, 1, 0), (1, 1, 1), (1, 1, 2))
    recipe = DataConfig(protocol="leave_one_out", **LENIENT)
    kept, _, counts = sessions.apply_recipe(frame(log), recipe)
    assert kept["row"].to_list() == [0, 1, 3, 4, 5]
    assert next(count.stage for count in counts if count.events == 5) == "min_support=1"


def test_a_last_event_that_opens_a_session_is_no_case():
    """Bug: predict it from the session before."""
    log = log_of(*((0, 1, n) for n in range(3)), (0, 1, 9_000), *((1, 1, n) for n in range(3)))
    recipe = DataConfig(protocol="leave_one_out", **LENIENT)
    assert [row for row, _, case, _ in marks(log, recipe) if case] == [6]


def toy(seed: int = 0) -> list[dict]:
    """Draw a log of 12 users with three sessions of 5 events, in which items 0 to 5 are often."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(rng.integers(6)), 90_000 * visit + 60 * n + user)
        for user in range(12)
        for visit in range(3)
        for n in range(5)
    ]
    return log_of(*rows)


@hypothesis.settings(max_examples=120, deadline=None)
@hypothesis.given(logs(), split_first, st.integers(0, 2**32 - 1), st.booleans())
def test_any_given_split_is_as_by_the_loops_of_the_oracle(log, recipe, seed, has_validation):
    """Parts are drawn event by event: they interleave in a user's events and in sessions."""
    recipe = dataclasses.replace(recipe, protocol="given", test_days=7)
    names = ["train", "train", "train", "test", "validation"][: 4 + has_validation]
    parts = np.random.default_rng(seed).choice(names, len(log))
    log = [event | {"part": str(part)} for event, part in zip(log, parts, strict=True)]
    needs = {"train", "test"}
    if recipe.split == "validation" or not recipe.train_on_validation:
        needs.add("validation")
    if lacking := needs - {*parts.tolist()}:
        with pytest.raises(errors.InputError, match=f"is of the part ({'|'.join(lacking)})$"):
            marks(log, recipe)
        return
    events = protocol_oracle.prepare(log, recipe)
    expected = [(e["row"], e["test"], e["case"], e["held"]) for e in events]
    if any(case for _, _, case, _ in expected):
        assert marks(log, recipe) == expected
    else:
        with pytest.raises(errors.InputError, match="leaves no user"):
            marks(log, recipe)


FILES = {
    "train.txt": "1 5 3\n2 3 5\n",
    "valid.txt": "1 5\n2 5\n",
    "test.txt": "1 3\n2 3\n",
}
FEW = {"min_support": 1, "min_session_events": 1, "min_user_sessions": 1, "protocol": "given"}


def test_files_tell_the_parts_by_their_names(tmp_path):
    """In the order of the parts, whatever their names. Bug: test comes before train."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    given = datasets.source("sequences", tmp_path, events=pathlib.Path(f"{tmp_path}/*.txt"))
    log = prepared.load(prepared.prepare(given, DataConfig(**FEW), tmp_path / "prepared"))
    assert log.item.tolist() == [1, 0, 1, 0, 0, 1, 1, 0]
    assert log.test.tolist() == [False, False, False, True] * 2
    assert log.held is not None
    assert log.held.tolist() == [False, False, True, False] * 2
    less = DataConfig(**FEW, train_on_validation=False)
    log = prepared.load(prepared.prepare(given, less, tmp_path / "prepared"))
    assert log.test.tolist() == [False, False, True, True] * 2
    assert log.cases.tolist() == [3, 7]
    tuned = DataConfig(**FEW, split="validation")
    log = prepared.load(prepared.prepare(given, tuned, tmp_path / "prepared"))
    assert log.test.tolist() == [False, False, True] * 2


def test_files_whose_names_tell_other_parts_make_another_folder(tmp_path):
    """Also of equal contents. Bug: use the former split again."""
    folders = []
    for names in (("1_train", "2_valid", "3_test"), ("1_train", "2_test", "3_valid")):
        path = tmp_path / "log"
        path.mkdir()
        for name, content in zip(names, FILES.values(), strict=True):
            (path / f"{name}.txt").write_text(content)
        given = datasets.source("sequences", tmp_path, events=pathlib.Path(f"{path}/*.txt"))
        folders.append(prepared.prepare(given, DataConfig(**FEW), tmp_path / "prepared"))
        shutil.rmtree(path)
    raw_ids = [prepared.load_items(folder) for folder in folders]
    tested = [prepared.load(folder) for folder in folders]
    items = [[ids[n] for n in log.item[log.test]] for ids, log in zip(raw_ids, tested, strict=True)]
    assert items == [[3, 3], [5, 5]]


def test_a_column_tells_the_parts(tmp_path):
    path = tmp_path / "log.csv"
    rows = ["7,1,Train", "7,2,train", "7,1,valid", "7,2,TEST"]
    path.write_text("user_id,item_id,fold\n" + "\n".join(rows))
    log = hrnn_jax.read(path, time=None, part="fold", prepared_dir=tmp_path, **FEW)
    train, test = log.split()
    assert train.events.test.tolist() == [False, False, False, True]
    assert test.frame()["item_id"].to_list() == [2]


@pytest.mark.parametrize("value", ["held", ""])
def test_a_bad_part_is_refused_by_row_or_dropped(value, tmp_path):
    """Bug: the message has no row, and of several files names none."""
    path = tmp_path / "logs/b.csv"
    path.parent.mkdir()
    for name, rows in (
        ("a.csv", ["7,1,train"]),
        ("b.csv", ["7,2,train", f"7,1,{value}", "7,2,test"]),
    ):
        (path.parent / name).write_text("user_id,item_id,fold\n" + "\n".join(rows))
    given = {"time": None, "part": "fold", "prepared_dir": tmp_path / "prepared", **FEW}
    says = f"^{path}, row 2: part '{value}' .column 'fold'. is none of a split; write train"
    with pytest.raises(errors.InputError, match=says):
        hrnn_jax.read(path.parent, **given).split()
    train, _ = hrnn_jax.read(path.parent, on_bad_row="skip", **given).split()
    assert train.events.test.tolist() == [False, False, True]


def test_a_given_split_that_is_not_told_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n7,1\n")
    log = hrnn_jax.read(path, time=None, prepared_dir=tmp_path, **FEW)
    with pytest.raises(errors.InputError, match=r"log.csv: its name tells no part of the split"):
        log.split()
    (tmp_path / "test_train.csv").write_text("user_id,item_id\n7,1\n")
    log = hrnn_jax.read(tmp_path / "test_train.csv", time=None, prepared_dir=tmp_path, **FEW)
    with pytest.raises(errors.InputError, match="tells several parts"):
        log.split()
    log = hrnn_jax.read(path, time=None, part="item_id", prepared_dir=tmp_path)
    with pytest.raises(errors.InputError, match="`part` has no effect without `protocol`=given"):
        log.split()


def test_events_of_one_time_are_on_one_side_of_the_cut():
    """Those just as many days before the last one are trained on, whoever had them."""
    day = 86_400
    log = log_of(
        *[(0, 1, 0), (0, 2, day), (0, 1, day), (0, 2, day + 1)],
        *[(1, 2, day), (1, 1, 2 * day)],
    )
    recipe = DataConfig(protocol="global_time", test_days=1, session_gap_minutes=10_000, **LENIENT)
    found = [(row, out, case) for row, out, case, _ in marks(log, recipe)]
    assert found == [
        *[(0, False, False), (1, False, False), (2, False, False), (3, True, True)],
        *[(4, False, False), (5, True, True)],
    ]


def test_users_after_the_cut_stay_only_without_a_least_number_of_sessions():
    log = log_of(
        (0, 1, 0), (0, 2, 1), (0, 1, 90_000), (0, 2, 90_001), (1, 1, 90_000), (1, 2, 90_001)
    )
    recipe = DataConfig(protocol="global_time", test_days=1, **LENIENT)
    assert [row for row, *_ in marks(log, recipe)] == [0, 1, 2, 3]
    new = dataclasses.replace(recipe, min_user_sessions=0)
    assert [row for row, _, case, _ in marks(log, new) if case] == [3, 5]


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(st.integers(0, 2**32 - 1), st.sampled_from(["test", "validation"]))
def test_nothing_after_the_cut_has_a_part_in_what_is_trained_on(seed, split):
    """Other users, items, sessions and numbers of events there change no training event."""
    rng = np.random.default_rng(seed)
    log = toy(int(rng.integers(1 << 30)))
    recipe = DataConfig(
        **{**LENIENT, "min_support": 3, "min_session_events": 3, "min_user_sessions": 2},
        **{"protocol": "global_time", "test_days": 1, "split": split},
    )
    end = max(event["time"] for event in log)
    cut = end - (1 if split == "test" else 2) * 86_400
    before = [event for event in log if event["time"] <= cut]
    drawn = (rng.integers(20, size=90), rng.integers(9, size=90), rng.integers(cut + 1, end, 90))
    other = [
        dict(zip(("row", "user", "item", "time"), (1000 + n, *map(int, row)), strict=True))
        for n, row in enumerate(zip(*drawn, strict=True))
    ]
    last = {"row": 2000, "user": 0, "item": 0, "time": end}
    found = []
    for events in (log, [*before, *other, last]):
        try:
            found.append([(row, held) for row, out, _, held in marks(events, recipe) if not out])
        except errors.InputError:  # no case is left
            return
    assert found[0] == found[1]


PROTOCOLS = [
    {"protocol": "leave_one_out"},
    {"protocol": "leave_one_out", "train_on_validation": False},
    {"protocol": "leave_one_out", "split": "validation"},
    {"protocol": "global_time", "test_days": 1},
    {"protocol": "global_time", "test_days": 1, "split": "validation"},
    {"protocol": "given"},
    {"protocol": "given", "split": "validation"},
]
PARTS = ("train", "test", "train", "validation", "train")  # of the five events of a session


def prepare(log: list[dict], recipe: DataConfig, folder) -> tuple[EventLog, list]:
    table = pl.DataFrame(log, infer_schema_length=None).drop("row")
    named = {"user": "user_id", "item": "item_id", "time": "ts"}
    columns = read_log.Columns(part_column="part" if "part" in table.columns else None)
    path = prepared.prepare(source(folder, table.rename(named), columns=columns), recipe, folder)
    return prepared.load(path), prepared.load_items(path)


@pytest.mark.parametrize(
    ("given", "drop_repeats"),
    [
        *((given, False) for given in PROTOCOLS),
        # With leave_one_out the items say which event is the last one that is no repeat.
        *((given, True) for given in PROTOCOLS if given["protocol"] != "leave_one_out"),
    ],
)
def test_held_out_items_change_nothing_that_is_trained_on(given, drop_repeats, tmp_path):
    """Bug: count the support, or the length of a session, or drop repeats before the split."""
    least = {**LENIENT, "min_support": 3, "min_session_events": 1 if drop_repeats else 3}
    recipe = DataConfig(**least, **given)
    log = toy()
    if given["protocol"] == "given":
        log = [event | {"part": PARTS[event["row"] % 5]} for event in log]
    trained = {row for row, out, *_ in marks(log, recipe) if not out}
    recipe = dataclasses.replace(recipe, drop_repeats=drop_repeats)
    rng = np.random.default_rng(1)
    other = [  # held out, or set aside
        event if event["row"] in trained else event | {"item": int(rng.integers(8))}
        for event in log
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, items = prepare(log, recipe, tmp_path / "a")
    two, items_too = prepare(other, recipe, tmp_path / "b")
    assert items == items_too
    for name in ("user", "item", "time", "held"):
        np.testing.assert_array_equal(getattr(one.train, name), getattr(two.train, name))
    np.testing.assert_array_equal(one.support, two.support)
    assert not np.array_equal(one.item[one.cases], two.item[two.cases])


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(logs(), st.integers(0, 2**32 - 1))
def test_held_out_times_move_no_boundary_between_training_events(log, seed):
    """Bug: an event of the part test joins two training events into one session."""
    words = np.random.default_rng(seed).choice(["train", "validation", "test"], len(log))
    events = frame([{**event, "part": str(word)} for event, word in zip(log, words, strict=True)])
    cut = sessions.cut_sessions(events.lazy(), 30)
    for trained in (["train"], ["train", "validation"]):
        is_trained = pl.col("part").is_in(trained)
        found = cut.filter(is_trained).collect()["session"].rle_id()
        alone = sessions.cut_sessions(events.filter(is_trained).lazy(), 30).collect()["session"]
        assert found.to_list() == alone.rle_id().to_list()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_held_out_event_belongs_to_the_session_that_it_goes_on_with(part):
    log = log_of(
        *[(0, 1, 0, "train"), (0, 1, 1500, part), (0, 1, 3000, "train"), (0, 1, 3100, part)],
        columns="user item time part",
    )
    cut = sessions.cut_sessions(frame(log).lazy(), 30).collect()
    assert cut["session"].rle_id().to_list() == [0, 0, 1, 1]


def test_the_marks_of_a_folder_are_those_of_the_log(tmp_path):
    recipe = DataConfig(protocol="leave_one_out", train_on_validation=False, **LENIENT)
    log = [event for event in toy() if event["time"] < 90_000]  # one session a user
    events, _ = prepare(log, recipe, tmp_path)
    assert events.test.tolist() == [False, False, False, True, True] * 12
    assert events.cases.tolist() == list(range(4, 60, 5))
    held = events.held_out()
    assert held.item.tolist() == events.train.item.tolist()
    assert held.test.tolist() == [False, False, True] * 12
    assert held.cases.tolist() == list(range(2, 36, 3))


def test_folders_of_the_papers_split_keep_their_names_and_columns(tmp_path):
    table = (
        pl.DataFrame(toy()).drop("row").rename({"user": "user_id", "item": "item_id", "time": "ts"})
    )
    given = source(tmp_path, table)
    folder = prepared.prepare(given, DataConfig(**LENIENT), tmp_path)
    events = prepared.load(folder)
    assert events.target is None
    assert events.held is None
    others = {
        prepared.prepare(given, DataConfig(**LENIENT, **other), tmp_path).name
        for other in (*PROTOCOLS[:5], {"task": "last_item"}, {"train_on_validation": False})
    }
    assert len({*others, folder.name}) == 8
