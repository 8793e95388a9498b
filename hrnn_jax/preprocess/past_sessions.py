"""Users' past sessions as live recommendation takes them over: those of training, as they are.

All functions return and take frames in replay order, with the columns

    user_id, item_id  raw ids
    ts                Unix seconds
    session           a number; a session's events follow each other and share it
    session_id        the id of the session in the log; null where the log has none
    end               Unix seconds of the session's last event in the log, also where that event is
                      not in the frame: it says how long the session stays open
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import frames, prepared, read_log, sessions
from hrnn_jax.preprocess.frames import ITEM, SESSION, TIME, USER, Frame, Row

NUMBER, END = "session", prepared.END
COLUMNS = (USER, ITEM, TIME, NUMBER, SESSION, END)
_ADVICE = "change it in the log and prepare that again, or start without a history (`history`=)"


def of_folder(folder: pathlib.Path, *, test: bool | None = None) -> Frame:
    """Return the sessions of a prepared folder.

    Args:
        folder: the prepared folder. In one of format 1, which has neither ends nor ids of sessions,
            a session ends with its last event here, and has no id.
        test: whether to return the test events alone, or without them; all by default. A session
            that has both ends then with its last event here.

    Raises:
        InputError: the folder is missing or damaged, or has an id or a time that live
            recommendation refuses; the message names file and row.
    """
    events = frames.prepared_events(folder, test=test).rename({SESSION: NUMBER})
    ends = prepared.load_sessions(folder)
    files = {USER: prepared.USERS, ITEM: prepared.ITEMS}
    raw_ids = {
        name: prepared.load_table(folder, file)[read_log.RAW_ID] for name, file in files.items()
    }
    if ends is not None and read_log.RAW_ID in ends.columns:
        files[SESSION], raw_ids[SESSION] = prepared.SESSIONS, ends[read_log.RAW_ID]
    try:
        for name, ids in raw_ids.items():
            frames.check_ids(ids, name.removesuffix("_id"), folder / files[name])
        frames.check_times(events[TIME], folder / prepared.EVENTS)
    except InputError as error:
        raise InputError(f"{error}; {_ADVICE}") from None
    if ends is None:
        end = pl.col(TIME).max().over(NUMBER).cast(pl.Float64).alias(END)
        return events.select(*COLUMNS[:4], pl.lit(None, pl.String).alias(SESSION), end)
    past = _with_ends(events, raw_ids.get(SESSION), ends[prepared.END])
    if test is None:
        return past
    # What the other part has of a session is not known.
    others = frames.prepared_events(folder, test=not test)[SESSION].unique()
    last = pl.col(TIME).max().over(NUMBER).cast(pl.Float64)
    has_both = pl.col(NUMBER).is_in(others.implode())
    return past.with_columns(pl.when(has_both).then(last).otherwise(pl.col(END)).alias(END))


def of_log(
    source: read_log.Source, recipe: DataConfig, *, without: pl.Series | None = None
) -> Frame:
    """Return the sessions of a log, cut as a recipe does, without its filters.

    Args:
        source: the log.
        recipe: which types count, and what the gap and repeats mean.
        without: raw ids of users to leave out.

    Raises:
        InputError: the log cannot be read, see `read_log.read`.
    """
    log = read_log.read(source, parts=recipe.protocol == "given")
    raw_ids = log.raw_ids
    if without is not None:
        others = ~raw_ids[read_log.USER].cast(pl.String).is_in(without.cast(pl.String).implode())
        is_other = others.gather(log.frame[read_log.USER])
        log = dataclasses.replace(log, frame=log.frame.filter(is_other))
    events, ends = sessions.cut(log.frame, recipe)
    numbered = pl.DataFrame(
        {
            USER: raw_ids[read_log.USER].gather(events[read_log.USER]),
            ITEM: raw_ids[read_log.ITEM].gather(events[read_log.ITEM]),
            TIME: events[read_log.TIME].dt.epoch("s"),
            NUMBER: ends[read_log.SESSION].search_sorted(events[read_log.SESSION]),
        }
    )
    ids = None
    if read_log.SESSION in raw_ids:
        ids = raw_ids[read_log.SESSION].gather(ends[sessions.GIVEN])
    return _with_ends(numbered, ids, ends[read_log.TIME].dt.epoch("us") / 1e6)


def joined(parts: Sequence[Frame]) -> Frame:
    """Join the sessions of different users; ids become texts where a part has texts."""
    for name in (USER, ITEM, SESSION):
        if len({part.schema[name] for part in parts}) > 1:
            parts = [part.with_columns(pl.col(name).cast(pl.String)) for part in parts]
    return pl.concat(parts, how="vertical_relaxed")


def by_users(past: Frame, *, users: int) -> Iterator[list[Row]]:
    """Yield the events of some users at a time, as rows of COLUMNS; see `frames.by_users`."""
    return frames.by_users(past.select(COLUMNS), users=users)


def _with_ends(events: Frame, ids: pl.Series | None, end: pl.Series) -> Frame:
    """Add the id, if there are ids, and the end of each event's session, both by its number."""
    number = events[NUMBER]
    id_ = pl.lit(None, pl.String) if ids is None else ids.gather(number)
    return events.with_columns(id_.alias(SESSION), end.gather(number).alias(END)).select(COLUMNS)
