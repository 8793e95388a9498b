"""Which events are held out, and which of these are predicted: the one place that decides a split.

Each event has a level. Level 1 is what the test split holds out, level 2 what the validation split
does, and level 3 what the same protocol would hold out next; the other events have level 0.

last_session   level n: the user's n-th last session, of those that the filters left
leave_one_out  level n: the user's n-th last event, in replay order
global_time    level 1: the last `test_days` days of the log; level 2: as many days before, and so
               on. Events of one time have one level
given          level 1: the part test of the log; level 2: its part validation. The next level is
               that of each user's last training session, or of an only one the last event

    split       dropped   held out   `held`, see below
    test        -         1          2
    test, without train_on_validation
                -         1, 2       3
    validation  1         2          3

A split adds the column `test`, and where they do not follow from it

    target  whether the event is predicted: without it, all held-out events are that follow another
            one in their session
    held    whether a training event would be held out by the next split: what learns on held-out
            training events holds these out. Without it, those of the last session of each user
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import parts
from hrnn_jax.preprocess.parts import TRAIN, VALIDATION
from hrnn_jax.preprocess.read_log import PART, SESSION, TIME, USER

TEST, TARGET, HELD = "test", "target", "held"
MARKS = (TEST, TARGET, HELD)
_LEVEL, _LEVELS = "level", 3
_DAY = 86_400_000_000  # microseconds

LOG = "log"

Step = Callable[[pl.LazyFrame], pl.LazyFrame]
Totals = Mapping[str, np.ndarray]  # what steps that see some users only know of all of them


def splits_first(recipe: DataConfig) -> bool:
    """Say whether a log is split before it is filtered, so that filters see training events alone.

    The paper filters first.
    """
    return recipe.protocol != "last_session"


def check_parts(of_events: Iterable[str], recipe: DataConfig) -> None:
    """Raise InputError where a log that brings its split lacks a part that is needed.

    of_events: the different parts that its events are of.
    """
    if recipe.protocol != "given":
        return
    there = set(of_events)
    needs_validation = recipe.split == "validation" or not recipe.train_on_validation
    for part in (TRAIN, *([VALIDATION] if needs_validation else []), parts.TEST):
        if part not in there:
            raise InputError(f"`protocol`=given: no event of the log is of the part {part}")


def of_log(events: pl.DataFrame) -> np.ndarray:
    """Return what levels need to know of all events: [2] int64, merged by the larger of each.

    It is the time of the last event in microseconds after 1970, -1 without events, and whether an
    event is of the part validation.
    """
    last = events[TIME].dt.epoch("us").max()
    validates = PART in events.columns and (events[PART] == VALIDATION).any()
    return np.array([-1 if last is None else last, validates], np.int64)


def with_levels(recipe: DataConfig, totals: Totals | None = None) -> Step:
    """Return the step that adds the level of each event, and drops what a split sets aside.

    Args:
        recipe: its protocol and split. The events are in replay order.
        totals: with `of_log` of all events as `LOG`, where a step sees some users only.
    """
    level_of, level = _LEVEL_OF[recipe.protocol], pl.col(_LEVEL)
    known = pl.when(level <= _LEVELS).then(level).otherwise(0).cast(pl.UInt8).alias(_LEVEL)

    def step(events: pl.LazyFrame) -> pl.LazyFrame:
        leveled = level_of(events, recipe, totals).with_columns(known)
        return leveled if recipe.split == "test" else leveled.filter(level != 1)

    return step


def marked(recipe: DataConfig) -> Step:
    """Return the step that makes `test`, and `target` and `held` where they are needed, of levels.

    Args:
        recipe: its protocol and split.
    """
    level, first = pl.col(_LEVEL), 1 if recipe.split == "test" else 2
    last = 2 if first == 1 and not recipe.train_on_validation else first
    marks = [level.is_between(first, last).alias(TEST)]
    if last > first:
        marks.append((level == first).alias(TARGET))
    if splits_first(recipe):
        marks.append((level == last + 1).alias(HELD))
    return lambda events: events.with_columns(marks).drop(_LEVEL)


def with_targets(events: pl.DataFrame, recipe: DataConfig) -> pl.DataFrame:
    """Return the events with `target` of one case a user, if the task is to predict that one.

    Args:
        events: after all filters, in replay order.
        recipe: its task.
    """
    if recipe.task == "next_item":
        return events
    place = pl.col("place")
    cases = events.select(USER, is_case(events.columns).alias("case")).with_row_index("place")
    last = cases.filter("case").group_by(USER).agg(place.max()).get_column("place")
    return events.with_columns(cases["place"].is_in(last.implode()).alias(TARGET))


def is_case(columns: list[str]) -> pl.Expr:
    """Return whether an event is predicted, see `EventLog.cases`.

    Args:
        columns: of the events, which are in replay order.
    """
    follows = (pl.col(SESSION) == pl.col(SESSION).shift()).fill_null(False)
    is_target = pl.col(TEST) & pl.col(TARGET) if TARGET in columns else pl.col(TEST)
    return is_target & follows


def _last_sessions(events: pl.LazyFrame, *_: object) -> pl.LazyFrame:
    opens = (pl.col(SESSION) != pl.col(SESSION).shift()).fill_null(True)
    return _from_the_end(events.with_columns(opens.cum_sum().cast(pl.Int64).alias(_LEVEL)))


def _last_events(events: pl.LazyFrame, *_: object) -> pl.LazyFrame:
    return _from_the_end(events.with_columns(pl.int_range(pl.len()).alias(_LEVEL)))


def _from_the_end(events: pl.LazyFrame) -> pl.LazyFrame:
    """Count rising numbers down to 1 for each user's last one."""
    return events.with_columns(pl.col(_LEVEL).max().over(USER) - pl.col(_LEVEL) + 1)


def _last_days(events: pl.LazyFrame, recipe: DataConfig, totals: Totals | None) -> pl.LazyFrame:
    last = pl.col(TIME).max()
    if totals is not None:
        last = pl.lit(int(totals[LOG][0])).cast(pl.Datetime("us"))
    age = (last - pl.col(TIME)).dt.total_microseconds()
    span = max(1, round(recipe.test_days * _DAY))
    return events.with_columns((age // span + 1).alias(_LEVEL))


def _parts(events: pl.LazyFrame, _: object, totals: Totals | None) -> pl.LazyFrame:
    part, place = pl.col(PART), pl.col("place")
    trains = part == TRAIN
    last = (
        events.with_row_index("place")
        .with_columns(
            of=pl.col(SESSION).filter(trains).max().over(USER),
            first=pl.col(SESSION).filter(trains).min().over(USER),
            last=place.filter(trains).max().over(USER),
        )
        .with_columns(
            is_last=pl.when(pl.col("of") > pl.col("first"))
            .then(pl.col(SESSION) == pl.col("of"))
            .otherwise(place == pl.col("last"))
        )
    )
    validates = (part == VALIDATION).any()
    if totals is not None:
        validates = pl.lit(bool(totals[LOG][1]))
    held = pl.when(validates).then(3).otherwise(2)
    level = pl.when(part == parts.TEST).then(1).when(part == VALIDATION).then(2)
    level = level.when(trains & pl.col("is_last")).then(held).otherwise(0)
    return last.with_columns(level.alias(_LEVEL)).drop("place", "of", "first", "last", "is_last")


_LEVEL_OF = {
    "given": _parts,
    "last_session": _last_sessions,
    "leave_one_out": _last_events,
    "global_time": _last_days,
}
