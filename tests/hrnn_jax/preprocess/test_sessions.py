"""sessions.py equals Section 4.1 in plain Python, and names the filter that leaves no user."""

import dataclasses
import datetime

import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import sessions
from tests.hrnn_jax.preprocess import oracle

MINUTE = 60
EPOCH = datetime.datetime(2015, 12, 1)


def frame(log: list[dict]) -> pl.DataFrame:
    """Build the frame that read_log.read would return for a log of the oracle's events."""
    index = [name for name in ("row", "user", "item", "session") if name in log[0]]
    unordered = pl.DataFrame(log, infer_schema_length=None).with_columns(
        pl.col(index).cast(pl.UInt32),
        time=pl.lit(EPOCH, pl.Datetime("us")) + pl.duration(seconds="time"),
        **({"type": pl.col("type").cast(pl.String)} if "type" in log[0] else {}),
    )
    return unordered.sort("user", "time", "row")


def log_of(*rows: tuple, columns: str = "user item time") -> list[dict]:
    return [
        dict(zip(["row", *columns.split()], (at, *row), strict=True)) for at, row in enumerate(rows)
    ]


def left(log: list[dict], recipe: DataConfig, before=()) -> list[tuple[int, bool]]:
    """Return the rows that are left, and whether each is held out."""
    continued = np.isin(np.arange(5), list(before)) if before else None
    kept, *_ = sessions.apply_recipe(frame(log), recipe, continued=continued)
    return list(kept.select("row", "test").iter_rows())


LENIENT = {"min_support": 1, "min_session_events": 1, "min_user_sessions": 1}


@st.composite
def logs(draw) -> list[dict]:
    """Draw small logs, out of order, full of ties in time and gaps of just the threshold."""
    given, typed = draw(st.booleans()), draw(st.booleans())
    # Most logs are long and last a day, as a short one leaves no user.
    size, half_hours = draw(st.sampled_from([1, 20, 40, 60, 80])), draw(st.sampled_from([7, 48]))
    # Drawing each value by hypothesis would take twice as long as the test itself.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    times = rng.integers(0, half_hours, size) * 30 * MINUTE
    any_times = rng.integers(0, half_hours * 30 * MINUTE, size)
    columns = {
        "row": range(size),
        "user": rng.integers(0, 3, size).tolist(),
        "item": rng.integers(0, 5, size).tolist(),
        "time": np.where(rng.random(size) < 0.7, times, any_times).tolist(),
    }
    if given:
        columns["session"] = rng.integers(0, 5, size).tolist()
    if typed:
        columns["type"] = [["click", "delete", None][kind] for kind in rng.integers(0, 3, size)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


recipes = st.builds(
    DataConfig,
    session_gap_minutes=st.sampled_from([0.5, 10, 30]),
    drop_types=st.sampled_from([(), ("delete",)]),
    drop_repeats=st.booleans(),
    min_support=st.sampled_from([1, 1, 3, 6]),
    min_session_events=st.sampled_from([1, 1, 2, 3]),
    min_user_sessions=st.sampled_from([1, 2, 3]),
    max_user_sessions=st.sampled_from([None, None, 4, 6]),
    min_test_events=st.sampled_from([2, 2, 3]),
    split=st.sampled_from(["test", "validation"]),
)


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(logs(), recipes, st.one_of(st.just(()), st.sets(st.integers(0, 4))))
def test_any_log_is_prepared_as_by_the_loops_of_the_oracle(log, recipe, before):
    if "type" not in log[0]:
        recipe = dataclasses.replace(recipe, drop_types=())
    expected = oracle.prepare(log, recipe, before)
    if any(out for _, out in expected):
        assert left(log, recipe, before) == expected
    else:  # no user is left, or none with a test session
        with pytest.raises(errors.InputError, match="leaves no user"):
            left(log, recipe, before)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(logs(), st.floats(0.1, 200))
def test_sessions_are_numbered_in_replay_order_and_no_event_is_lost(log, gap):
    recipe = DataConfig(session_gap_minutes=gap)
    expected = oracle.sessionise(log, recipe)
    step = sessions.order_sessions if "session" in log[0] else sessions.cut_sessions
    settings = () if "session" in log[0] else (gap,)
    cut = step(frame(log).rename({"session": "given"}, strict=False).lazy(), *settings).collect()
    numbers = [number for number, session in enumerate(expected) for _ in session]
    assert cut["row"].to_list() == [event["row"] for session in expected for event in session]
    assert (cut["session"] - cut["session"].min()).to_list() == numbers


def test_a_gap_of_just_the_threshold_stays_in_the_session():
    log = log_of((0, 0, 0), (0, 0, 30 * MINUTE), (0, 0, 60 * MINUTE + 1))
    cut = sessions.cut_sessions(frame(log).lazy(), gap_minutes=30).collect()
    assert cut["session"].diff().to_list() == [None, 0, 1]


def test_ties_in_time_keep_the_order_of_the_file():
    log = log_of(
        *((0, item, 0) for item in (3, 1, 4, 1, 5)), *((0, item, 9000) for item in (1, 4, 3))
    )
    assert [row for row, _ in left(log, DataConfig(**LENIENT))] == list(range(8))


def test_repeats_are_kept_unless_drop_repeats_and_another_type_is_no_repeat():
    history = [(0, item, 0, "click") for item in (1, 2)]
    last = [(0, 1, 9000, "click"), (0, 1, 9001, "reply"), (0, 1, 9002, "click")]
    log = log_of(*history, *last, columns="user item time type")
    assert len(left(log, DataConfig(**LENIENT))) == 5
    rows = left(log, DataConfig(drop_repeats=True, **LENIENT))
    assert rows == [(0, False), (1, False), (2, True), (3, True)]


def test_filters_run_once_in_the_order_items_sessions_users():
    # Item 9 lacks support, which leaves the second session 2 events, so it goes; item 1 now has
    # less support than it needs, and stays.
    log = log_of(
        *[(0, 1, 0), (0, 2, 0), (0, 3, 0)],
        *[(0, 9, 9_000), (0, 1, 9_000), (0, 2, 9_000)],
        *[(0, 1, 18_000), (0, 2, 18_000), (0, 3, 18_000)],
        *[(0, 2, 27_000), (0, 3, 27_000), (0, 3, 27_000)],
    )
    recipe = DataConfig(min_support=3, min_session_events=3, min_user_sessions=3)
    assert [row for row, _ in left(log, recipe)] == [0, 1, 2, 6, 7, 8, 9, 10, 11]


def test_validation_is_the_test_split_of_what_test_trains_on():
    log = log_of(*((u, i % 3, 9_000 * s + i) for u in (0, 1) for s in range(5) for i in range(3)))
    train = {row for row, out in left(log, DataConfig(**LENIENT)) if not out}
    both = left(log, DataConfig(split="validation", **LENIENT))
    assert {row for row, _ in both} == train
    assert sum(out for _, out in both) == 6


def test_one_user_is_enough():
    log = log_of(*((7, item, 9_000 * session) for session in range(3) for item in (0, 1)))
    assert [out for _, out in left(log, DataConfig(**LENIENT))] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("recipe", "names", "counts"),
    [
        ({"min_support": 99}, "min_support=99", "1 users / 2 items / 3 sessions / 6 events"),
        ({"min_session_events": 3}, "min_session_events=3", "0 users / 0 items / 0 sessions"),
        ({"min_user_sessions": 4}, "min_user_sessions=4", "1 users / 2 items / 3 sessions"),
        ({"max_user_sessions": 3}, "max_user_sessions=3", "1 users / 2 items / 3 sessions"),
        ({"min_test_events": 3}, "test split", "min_test_events=3: 1 users / 2 items / 2 sessions"),
    ],
)
def test_a_filter_that_leaves_no_user_is_named_with_all_counts_before(recipe, names, counts):
    log = log_of(*((7, item, 9_000 * session) for session in range(3) for item in (0, 1)))
    with pytest.raises(errors.InputError) as raised:
        left(log, DataConfig(**{**LENIENT, **recipe}))
    message = str(raised.value)
    assert names in message.split(":")[0]
    assert counts in message
    assert "log: 1 users / 2 items / - sessions / 6 events" in message


def test_no_setting_at_its_least_value_is_advised():
    """Bug: advise to lower `min_test_events`, which took the event that was left of a session."""
    log = log_of((7, 1, 0), (7, 2, 1), (7, 1, 9_000), (7, 3, 9_001))
    with pytest.raises(errors.InputError, match="test split leaves no user") as raised:
        left(log, DataConfig(**LENIENT))
    assert "lower" not in str(raised.value)


@pytest.mark.parametrize("min_support", [1, 5])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_days_that_leave_no_training_event_are_named(split, min_support):
    """Bug: advise to lower `min_support`."""
    log = log_of(*((7, item, 9_000 * session) for session in range(3) for item in (0, 1)))
    recipe = DataConfig(**LENIENT, protocol="global_time", test_days=100)
    recipe = dataclasses.replace(recipe, min_support=min_support, split=split)
    with pytest.raises(errors.InputError, match=r"leaves no user,[^:]* lower `test_days`:"):
        left(log, recipe)


@pytest.mark.parametrize(
    ("min_user_sessions", "stage"), [(1, "test items known to train"), (2, "min_user_sessions=2")]
)
def test_a_log_of_one_session_a_user_is_refused_as_it_leaves_nothing_to_train_on(
    min_user_sessions, stage
):
    """Bug: advise nothing, or to lower `min_user_sessions`, which helps as little."""
    recipe = DataConfig(**{**LENIENT, "min_user_sessions": min_user_sessions})
    match = f"^{stage} leaves no user, as each user has one session: name a column of sessions"
    with pytest.raises(errors.InputError, match=match):
        left(log_of((0, 1, 0), (0, 2, 1), (1, 1, 0), (1, 2, 1)), recipe)


@pytest.mark.parametrize(
    "setting",
    [
        *[{"session_gap_minutes": minutes} for minutes in (0, -1, float("nan"), float("inf"))],
        {"min_support": 0},
        {"min_session_events": 0},
        *[{name: -5} for name in (*LENIENT, "min_test_events")],
        {"min_test_events": 1},
        {"max_user_sessions": 1},
        {"split": "train"},
    ],
)
def test_a_threshold_out_of_bounds_is_refused_by_name(setting):
    with pytest.raises(errors.InputError, match=f"^`{next(iter(setting))}`="):
        DataConfig(**setting)


def test_drop_types_without_a_type_column_is_refused():
    with pytest.raises(
        errors.InputError, match=r"^`drop_types` needs event types; .*`type_column`"
    ):
        left(log_of((0, 1, 0)), DataConfig(drop_types=("4",)))
