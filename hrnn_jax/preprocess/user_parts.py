"""A log in parts by its users, and the steps of a recipe on one part at a time.

A user is in part h mod P, where h is the CRC-32 of the UTF-8 text of the raw id. Most steps see one
user at a time. Before one that must know of all users, each part stops and tells what it has of
that total; the totals are merged, and each part goes on with them. So P parts hold just the events
that one holds.
"""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import parallel, protocols, read_log, sessions, statistics
from hrnn_jax.preprocess.parallel import Each, Parts
from hrnn_jax.preprocess.protocols import LOG, MARKS, TEST, Totals
from hrnn_jax.preprocess.read_log import ITEM, RAW_ID, SESSION, TIME, USER

EVENTS, ITEMS = "events.parquet", "items.parquet"
USERS, SESSIONS = "users.parquet", "sessions.parquet"
END = "end"


def file_name(name: str, part: int, parts: int) -> str:
    """Return the name of a part's file, as events-0-of-4.parquet; a single part's has no number."""
    stem, dot, end = name.rpartition(".")
    return name if parts == 1 else f"{stem}-{part}-of-{parts}{dot}{end}"


def part_of(raw_ids: pl.Series, parts: int) -> np.ndarray:
    """Return the part, of 0..parts-1, of each user: the CRC-32 of the id's text, mod parts."""
    texts = raw_ids.cast(pl.String)
    return np.array([zlib.crc32(text.encode()) % parts for text in texts], np.uint32)


@dataclasses.dataclass(frozen=True)
class Walked:
    """How far the steps of some users have come, see `walk`."""

    events: pl.DataFrame
    ends: pl.DataFrame | None = None  # of the sessions, once they are cut
    done: int = 0  # steps
    asks: str | None = None  # the name of the total that the next step needs; None: all are done
    tally: np.ndarray | None = None  # of that total, what is of these users
    # After each of the steps of this walk: the counts, and [items] bool, which items are left.
    counts: Sequence[tuple[sessions.Count, np.ndarray]] = ()


def walk(walked: Walked, recipe: DataConfig, continued: np.ndarray, totals: Totals) -> Walked:
    """Apply the steps of `apply_recipe` to some users, up to one that needs to know of all.

    Args:
        walked: from where to go on. Its events are first those of `read_log.read`, with GIVEN for
            the session column.
        recipe: the settings.
        continued: as of `apply_recipe`; all False where no run is continued, and [items] long.
        totals: what is known so far; see `merged_tallies`.
    """
    of_run = continued if continued.any() else None
    events, ends, counts = walked.events, walked.ends, []
    columns = set(events.columns) | (
        {sessions.GIVEN} if ends is not None and sessions.GIVEN in ends.columns else set()
    )
    steps = list(sessions.recipe_steps(recipe, columns, of_run, totals).items())
    for done in range(walked.done, len(steps)):
        stage, step = steps[done]
        asks = _asks(stage, recipe)
        if asks is not None and asks not in totals:
            tally = _tally(asks, events, recipe, len(continued))
            return Walked(events, ends, done, asks, tally, counts)
        events, ends = sessions.apply_step(step, events, ends)
        left = np.bincount(events[ITEM].to_numpy(), minlength=len(continued)) > 0
        counts.append((sessions.counted(stage, events), left))
    return Walked(protocols.with_targets(events, recipe), ends, len(steps), counts=counts)


def merged_tallies(asks: str | None, tallies: Sequence[np.ndarray]) -> np.ndarray:
    """Return the total that the tallies of all users make."""
    return np.max(tallies, 0) if asks == LOG else np.sum(tallies, 0)


def merged_counts(counts: Sequence[tuple[sessions.Count, np.ndarray]]) -> sessions.Count:
    """Return the count after a step of all users, from those of some users each."""
    each = [count for count, _ in counts]
    items = int(np.count_nonzero(np.any([left for _, left in counts], 0)))
    n_sessions = None if each[0].sessions is None else sum(count.sessions or 0 for count in each)
    users, events = sum(count.users for count in each), sum(count.events for count in each)
    return sessions.Count(each[0].stage, users, items, n_sessions, events)


def _asks(stage: str, recipe: DataConfig) -> str | None:
    """Return the name of the total that a step needs, if it needs one."""
    asks = {
        f"protocol={recipe.protocol}": LOG,
        f"min_support={recipe.min_support}": sessions.SUPPORT,
    }
    return (
        sessions.TRAINED
        if stage.startswith(sessions.KNOWN)
        else asks.get(stage.removesuffix(sessions.OF_NEW))
    )


def _tally(asks: str, events: pl.DataFrame, recipe: DataConfig, items: int) -> np.ndarray:
    """Return what a total has of these events, which are those before the step that needs it."""
    if asks == LOG:
        return protocols.of_log(events)
    if asks == sessions.TRAINED:
        events = events.lazy().pipe(sessions.marking(recipe)).collect()
    if asks == sessions.TRAINED or protocols.splits_first(recipe):
        events = events.filter(~pl.col(TEST))
    return np.bincount(events[ITEM].to_numpy(), minlength=items)


def numbered(
    events: pl.DataFrame, number: np.ndarray, first_user: int = 0, first_session: int = 0
) -> pl.DataFrame:
    """Return the events with users, sessions and items numbered anew, in the schema of EVENTS.

    Args:
        events: what all steps have left.
        number: the new number of each item.
        first_user: the number of the first user.
        first_session: the number of the first session.
    """
    return (
        events.lazy()
        .select(
            pl.col(USER).rle_id() + pl.lit(first_user, pl.UInt32),  # users and sessions are
            pl.col(SESSION).rle_id() + pl.lit(first_session, pl.UInt32),  # contiguous
            pl.lit(pl.Series(number.astype(np.uint32))).gather(pl.col(ITEM)).alias(ITEM),
            pl.col(TIME).dt.epoch("s").alias(TIME),
            *(name for name in MARKS if name in events.columns),
        )
        .collect()
    )


def sessions_left(
    ends: pl.DataFrame, kept: pl.Series, raw_ids: pl.Series | None, first: int = 0
) -> pl.DataFrame:
    """Return the table of the sessions that are left, numbered anew.

    Args:
        ends: of all sessions, see `sessions.cut`.
        kept: the session of each event that is left, rising.
        raw_ids: of the sessions given by the log.
        first: the number of the first session.
    """
    left = ends[ends[SESSION].search_sorted(kept.unique(maintain_order=True))]
    ids = {} if raw_ids is None else {RAW_ID: raw_ids.gather(left[sessions.GIVEN])}
    end = left[TIME].dt.epoch("us") / 1e6
    return pl.DataFrame({END: end, **ids}).with_row_index(SESSION, offset=first)


class Scratch(NamedTuple):
    """The folder where the parts of a log are on their way, which all workers see."""

    folder: pathlib.Path
    recipe: DataConfig

    def path(self, part: int, name: str) -> pathlib.Path:
        """Return the path of a table of a part."""
        return self.folder / f"{part}-{name}.parquet"


class Advance(NamedTuple):
    """What a part tells when it stops, see `Walked`; and at last what it has left."""

    done: int
    asks: str | None
    tally: np.ndarray  # at last SUPPORT of the training events
    counts: Sequence[tuple[sessions.Count, np.ndarray]]
    has_cases: bool


def write_log(scratch: Scratch, log: read_log.Events, parts: int, continued: np.ndarray) -> None:
    """Write the events of each part, its users and sessions numbered for themselves."""
    np.save(scratch.folder / "continued.npy", continued)
    part = pl.Series(part_of(log.raw_ids[USER], parts))
    of_event = part.gather(log.frame[USER])
    for own in range(parts):
        frame = log.frame.filter(of_event == own)
        for name in (USER, SESSION):
            if name in log.raw_ids:
                old = frame[name].unique().sort()
                ids = pl.DataFrame({RAW_ID: log.raw_ids[name].gather(old)})
                ids.write_parquet(scratch.path(own, f"{name}s"))
                new = pl.Series(old.search_sorted(frame[name]), dtype=pl.UInt32)
                frame = frame.with_columns(new.alias(name))
        frame = frame.rename({SESSION: sessions.GIVEN}, strict=False)
        frame.write_parquet(scratch.path(own, "events-0"))


def advance(scratch: Scratch, part: int, walk_no: int, done: int, known: Sequence[str]) -> Advance:
    """Walk on with a part.

    A worker may be killed at any moment: what is read stays, and the same is written again.

    Args:
        scratch: with the events of the part after as many walks, and the totals.
        part: its number.
        walk_no: how many walks there were.
        done: how many steps they did.
        known: the names of the totals.
    """
    totals = {name: np.load(scratch.folder / f"{name}.npy") for name in known}
    continued = np.load(scratch.folder / "continued.npy")
    events = pl.read_parquet(scratch.path(part, f"events-{walk_no}"), glob=False)
    ends = pl.read_parquet(scratch.path(part, "ends"), glob=False) if walk_no else None
    walked = walk(Walked(events, ends, done), scratch.recipe, continued, totals)
    assert walked.ends is not None  # the first total is asked for after sessions are cut
    if not walk_no:
        walked.ends.write_parquet(scratch.path(part, "ends"))
    left, tally = walked.events, walked.tally
    left.write_parquet(scratch.path(part, f"events-{walk_no + 1}"))
    if tally is None:
        tally = np.bincount(left.filter(~pl.col(TEST))[ITEM].to_numpy(), minlength=len(continued))
    has_cases = walked.asks is None and sessions.has_cases(left)
    return Advance(walked.done, walked.asks, tally, walked.counts, has_cases)


def walk_all(
    scratch: Scratch, parts: int, counts: list[sessions.Count], each: Each
) -> tuple[int, np.ndarray, list[sessions.Count]]:
    """Walk all parts to the end.

    Args:
        scratch: with the parts of the log.
        parts: how many there are.
        counts: that of the log.
        each: applies a function to tasks, see `parallel.opened`.

    Returns:
        How many walks there were, the training events of each item, and the counts.

    Raises:
        InputError: as `sessions.apply_recipe` does.
    """
    known: list[str] = []
    walk_no, done = 0, 0
    while True:
        tasks = [(scratch, part, walk_no, done, known) for part in range(parts)]
        found: list[Advance] = each(f"pass {walk_no + 1}", advance, tasks)
        for part in range(parts):
            scratch.path(part, f"events-{walk_no}").unlink()
        for step in zip(*(part.counts for part in found), strict=True):
            counts = [*counts, merged_counts(step)]
            sessions.refuse_none(counts)
        walk_no, done, asks = walk_no + 1, found[0].done, found[0].asks
        total = merged_tallies(asks, [part.tally for part in found])
        if asks is None:
            break
        np.save(scratch.folder / f"{asks}.npy", total)
        known = [*known, asks]
    sessions.refuse_untested(any(part.has_cases for part in found), scratch.recipe, counts)
    return walk_no, total, counts


def finish(
    scratch: Scratch, part: int, walks: int, first: tuple[int, int], to: tuple[pathlib.Path, int]
) -> statistics.Measured:
    """Write the tables of a part.

    Args:
        scratch: with what all walks have left, and the new number of each item.
        part: its number.
        walks: how many walks there were.
        first: the numbers of its first user and session.
        to: the prepared folder, and the number of parts.
    """
    events = pl.read_parquet(scratch.path(part, f"events-{walks}"), glob=False)
    ends = pl.read_parquet(scratch.path(part, "ends"), glob=False)
    ids = pl.read_parquet(scratch.path(part, "users"), glob=False)[RAW_ID]
    given = scratch.path(part, "sessions")
    given_ids = pl.read_parquet(given, glob=False)[RAW_ID] if given.exists() else None
    users = pl.DataFrame({RAW_ID: ids.gather(events[USER].unique().sort())})
    tables = {
        EVENTS: numbered(events, np.load(scratch.folder / "number.npy"), *first),
        USERS: users.with_row_index(USER, offset=first[0]),
        SESSIONS: sessions_left(ends, events[SESSION], given_ids, first[1]),
    }
    folder, parts = to
    for name, table in tables.items():
        table.write_parquet(folder / file_name(name, part, parts))
    return statistics.measure(tables[EVENTS])


def first_numbers(scratch: Scratch, parts: int, walks: int) -> list[tuple[int, int]]:
    """Return the numbers of each part's first user and session; users go by part."""
    first, found = (0, 0), []
    for part in range(parts):
        found.append(first)
        left = pl.scan_parquet(scratch.path(part, f"events-{walks}"), glob=False)
        own = left.select(pl.col(USER, SESSION).n_unique()).collect().row(0)
        first = (first[0] + own[0], first[1] + own[1])
    return found


NumberItems = Callable[[np.ndarray], tuple[np.ndarray, pl.DataFrame]]
Written = tuple[list[sessions.Count], statistics.Measured, list[dict[str, int]]]


def write_one(
    folder: pathlib.Path,
    log: read_log.Events,
    recipe: DataConfig,
    continued: np.ndarray | None,
    number_items: NumberItems,
) -> Written:
    """Write the tables of a folder of one part; return counts and what the tables measure."""
    events, ends, counts = sessions.apply_recipe(log.frame, recipe, continued=continued)
    trained = events.select(pl.col(ITEM).filter(~pl.col(TEST))).to_series().to_numpy()
    number, items = number_items(np.bincount(trained, minlength=len(log.raw_ids[ITEM])))
    user_ids = log.raw_ids[USER].gather(events[USER].unique().sort())
    tables = {
        EVENTS: numbered(events, number),
        ITEMS: items,
        USERS: pl.DataFrame({RAW_ID: user_ids}).with_row_index(USER),
        SESSIONS: sessions_left(ends, events[SESSION], log.raw_ids.get(SESSION)),
    }
    for name, table in tables.items():
        table.write_parquet(folder / name)
    return counts, statistics.measure(tables[EVENTS]), []


def write_parts(
    folder: pathlib.Path,
    log: read_log.Events,
    recipe: DataConfig,
    continued: np.ndarray,
    how: tuple[Parts, NumberItems],
) -> Written:
    """Write the tables of a folder of several parts, see `write_one`."""
    (parts, number), count = how, how[0].count
    scratch = Scratch(folder.parent.resolve() / "scratch", recipe)
    scratch.folder.mkdir()
    protocols.check_parts(log.frame, recipe)
    before = [sessions.counted("log", log.frame.rename({SESSION: sessions.GIVEN}, strict=False))]
    write_log(scratch, log, count, continued)
    with parallel.opened(parts, scratch.folder) as each:
        walks, trained, counts = walk_all(scratch, count, before, each)
        new_number, items = number(trained)
        items.write_parquet(folder / ITEMS)
        np.save(scratch.folder / "number.npy", new_number)
        first, to = first_numbers(scratch, count, walks), (folder.resolve(), count)
        tasks = [(scratch, part, walks, first[part], to) for part in range(count)]
        measured: list[statistics.Measured] = each("part of the log, last pass", finish, tasks)
    of_parts = [
        {
            "users": len(of.per_user),
            "sessions": len(of.per_session),
            "events": int(of.per_item.sum()),
        }
        for of in measured
    ]
    return counts, statistics.merged(measured), of_parts


def number_items(
    raw_ids: pl.Series, continued_ids: pl.Series, continued_index: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, pl.DataFrame]:
    """Return the new number of each item of the log, and the table of items.

    raw_ids: of the items of the log; continued_ids, continued_index: raw ids of the items of the
    run that is continued, and the number there of each item of this log, or -1; counts: the
    training events of each item of this log.
    """
    new = (counts > 0) & (continued_index < 0)
    number = np.where(new, len(continued_ids) + np.cumsum(new) - 1, continued_index)
    support = np.zeros(len(continued_ids) + np.count_nonzero(new), np.uint32)
    support[number[number >= 0]] = counts[number >= 0]
    item_ids = raw_ids.filter(pl.Series(new))
    if len(continued_ids):
        if continued_ids.dtype != item_ids.dtype:
            continued_ids, item_ids = continued_ids.cast(pl.String), item_ids.cast(pl.String)
        item_ids = pl.concat([continued_ids, item_ids])
    return number, pl.DataFrame({RAW_ID: item_ids, "support": support}).with_row_index(ITEM)
