"""statistics.py: every row of Tables 1 and 4, from a log small enough to count by hand."""

import statistics

import polars as pl
import pytest

from hrnn_jax.preprocess.statistics import PAPER, measure, table1, table4

# User 0: 8 sessions of lengths 1, 1, .. 1, 4; user 1: sessions of 2 and 3 events, both trained on;
# user 2: sessions of 1 and 2 events. Last sessions of users 0 and 2 are held out.
SESSIONS = [*[(0, 1)] * 7, (0, 4), (1, 2), (1, 3), (2, 1), (2, 2)]
LOG = pl.DataFrame(
    [
        (user, session, item % 4, session in (7, 11))
        for session, (user, length) in enumerate(SESSIONS)
        for item in range(length)
    ],
    schema=["user", "session", "item", "test"],
    orient="row",
)


def test_every_row_of_table_1_equals_the_count_by_hand():
    got = table1(measure(LOG))
    assert {key: value for key, value in got.items() if isinstance(value, int)} == {
        "users": 3,
        "items": 4,
        "sessions": 12,
        "events": 19,
        "train_events": 13,
        "train_sessions": 10,
        "test_events": 6,
        "test_sessions": 2,
    }
    by_hand = {
        "events_per_item": [12, 4, 2, 1],
        "events_per_session": [1] * 8 + [2, 2, 3, 4],
        "sessions_per_user": [8, 2, 2],
    }
    for key, values in by_hand.items():
        assert got[key] == pytest.approx(
            {
                "median": statistics.median(values),
                "mean": statistics.mean(values),
                "std": statistics.stdev(values),
            }
        )


def test_a_history_is_the_sessions_before_the_held_out_one():
    assert table4(measure(LOG)) == {"short": 0.5, "long": 0.5}
    six = LOG.filter(pl.col("session") != 0)  # user 0 is left 6 sessions of training
    assert table4(measure(six)) == {"short": 1.0, "long": 0.0}


def test_each_held_out_session_has_the_sessions_before_it_as_history():
    """One user has 8 training sessions and 1 test session, another 1 and 5. Bug: count users."""
    sessions = [*[(0, False)] * 8, (0, True), (1, False), *[(1, True)] * 5]
    rows = [(user, session, 0, test) for session, (user, test) in enumerate(sessions)]
    log = pl.DataFrame(rows, schema=LOG.columns, orient="row")
    assert table1(measure(log))["test_sessions"] == 6
    assert table4(measure(log))["short"] == pytest.approx(5 / 6)


def test_the_standard_deviation_of_a_single_user_is_zero():
    assert table1(measure(LOG.filter(user=0)))["sessions_per_user"]["std"] == 0


def test_the_papers_numbers_agree_with_each_other():
    def number(shape: str, row: str) -> int:
        return int(PAPER[shape][row].replace(",", ""))

    for shape in ("xing", "video"):
        parts = number(shape, "train_events") + number(shape, "test_events")
        assert parts == number(shape, "events")
        mean = float(PAPER[shape]["sessions_per_user"].split("/")[1])
        assert number(shape, "sessions") / number(shape, "users") == pytest.approx(mean, rel=0.02)
