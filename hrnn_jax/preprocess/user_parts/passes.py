"""The recipe on all parts of a log, pass by pass, and the tables of their prepared folder."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import read_log, sessions, statistics
from hrnn_jax.preprocess.protocols import TEST
from hrnn_jax.preprocess.read_log import ITEM, RAW_ID, SESSION, TYPE, USER
from hrnn_jax.preprocess.user_parts import log_parts, parallel, tables
from hrnn_jax.preprocess.user_parts.log_parts import INDEX, Scratch, write_soon_read
from hrnn_jax.preprocess.user_parts.parallel import Each, Parts
from hrnn_jax.preprocess.user_parts.walk import Walked, merged_counts, merged_tallies, walk


class Advance(NamedTuple):
    """What a part tells when it stops, see `Walked`; and at last what it has left."""

    done: int
    asks: str | None
    tally: np.ndarray  # at last SUPPORT of the training events
    counts: Sequence[tuple[sessions.Count, np.ndarray]]
    has_cases: bool


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
        write_soon_read(walked.ends, scratch.path(part, "ends"))
    left, tally = walked.events, walked.tally
    write_soon_read(left, scratch.path(part, f"events-{walk_no + 1}"))
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
    walk_no, done, has_training = 0, 0, True
    while True:
        tasks = [(scratch, part, walk_no, done, known) for part in range(parts)]
        found: list[Advance] = each(f"parts through pass {walk_no + 1}", advance, tasks)
        for part in range(parts):
            scratch.path(part, f"events-{walk_no}").unlink()
        for step in zip(*(part.counts for part in found), strict=True):
            counts = [*counts, merged_counts(step)]
            sessions.refuse_none(scratch.recipe, counts, has_training=has_training)
        walk_no, done, asks = walk_no + 1, found[0].done, found[0].asks
        total = merged_tallies(asks, [part.tally for part in found])
        if asks is None:
            break
        if asks == sessions.SUPPORT:
            has_training = bool(total.any())
        np.save(scratch.folder / f"{asks}.npy", total)
        known = [*known, asks]
    sessions.refuse_untested(any(part.has_cases for part in found), scratch.recipe, counts)
    return walk_no, total, counts


def number_users(scratch: Scratch, parts: int, walks: int) -> None:
    """Write the numbers of each part's users, and of each user's first session.

    They are the numbers among the users of all parts by their raw ids, so that they, and what is
    trained, do not depend on the parts.
    """
    kept = []
    for part in range(parts):
        left = pl.scan_parquet(scratch.path(part, f"events-{walks}"), glob=False)
        own = left.group_by(USER, maintain_order=True).agg(pl.col(SESSION).n_unique()).collect()
        index = pl.read_parquet(scratch.path(part, "users"), columns=[INDEX], glob=False)[INDEX]
        kept.append(own.select(index.gather(own[USER]), SESSION).with_columns(part=part))
    users = pl.concat(kept).sort(INDEX).with_row_index(USER)
    first = pl.col(SESSION).cum_sum() - pl.col(SESSION)
    users = users.select(USER, first.cast(pl.UInt32).alias(SESSION), "part")
    for part in range(parts):
        own = users.filter(pl.col("part") == part).drop("part")
        write_soon_read(own, scratch.path(part, "numbers"))


def finish(
    scratch: Scratch, part: int, walks: int, folder: pathlib.Path, parts: int
) -> statistics.Measured:
    """Write the tables of a part.

    Args:
        scratch: with what all walks have left, and the numbers of items, users and sessions.
        part: its number.
        walks: how many walks there were.
        folder: the prepared folder.
        parts: how many parts it has.
    """
    left = pl.read_parquet(scratch.path(part, f"events-{walks}"), glob=False)
    ends = pl.read_parquet(scratch.path(part, "ends"), glob=False)
    ids = pl.read_parquet(scratch.path(part, "users"), glob=False)[RAW_ID]
    numbers = pl.read_parquet(scratch.path(part, "numbers"), glob=False)
    given = scratch.path(part, "sessions")
    given_ids = pl.read_parquet(given, glob=False)[RAW_ID] if given.exists() else None
    events = tables.numbered(left, np.load(scratch.folder / "number.npy"))
    measured = statistics.measure(events)
    # From the number of a session of the part to that of all parts.
    own_first = events.group_by(USER, maintain_order=True).agg(pl.col(SESSION).first())[SESSION]
    shift = numbers[SESSION].cast(pl.Int64) - own_first
    user_of = events.unique(SESSION, keep="first", maintain_order=True)[USER]
    of_sessions = tables.sessions_left(ends, left[SESSION], given_ids)
    written = {
        tables.EVENTS: events.with_columns(
            numbers[USER].gather(events[USER]),
            (events[SESSION] + shift.gather(events[USER])).cast(pl.UInt32),
        ),
        tables.USERS: pl.DataFrame(
            {USER: numbers[USER], RAW_ID: ids.gather(left[USER].unique().sort())}
        ),
        tables.SESSIONS: of_sessions.with_columns(
            (of_sessions[SESSION] + shift.gather(user_of)).cast(pl.UInt32)
        ),
    }
    for name, table in written.items():
        table.write_parquet(folder / tables.file_name(name, part, parts))
    return measured


def write(
    folder: pathlib.Path,
    source: read_log.Source,
    recipe: DataConfig,
    known: Sequence[int] | Sequence[str],
    parts: Parts,
) -> tables.Written:
    """Prepare a log in several parts.

    Args:
        folder: where the tables go; a folder next to it holds what is on its way.
        source: the log.
        recipe: how to cut, filter and split it.
        known: raw ids of the items of the run that is continued, see `tables.items_of`.
        parts: how many, and by which workers.

    Raises:
        InputError: the log cannot be read, a filter leaves no user, or there are no workers.
    """
    scratch = Scratch(folder.parent.resolve() / "scratch", recipe)
    scratch.folder.mkdir()
    with parallel.opened(parts, scratch.folder) as each:
        return _write(folder.resolve(), scratch, source, known, (parts.count, each))


def _write(
    folder: pathlib.Path,
    scratch: Scratch,
    source: read_log.Source,
    known: Sequence[int] | Sequence[str],
    how: tuple[int, Each],
) -> tables.Written:
    parts, each = how
    log = log_parts.read(scratch, source, parts, each)
    if TYPE in source.named and not known:  # a newer log may lack a type
        sessions.refuse_unknown_types(log.types, scratch.recipe.drop_types)
    items = tables.items_of(source.path, log.raw_ids[ITEM], known)
    np.save(scratch.folder / "continued.npy", items.continued_index >= 0)
    walks, trained, counts = walk_all(scratch, parts, [log.size], each)
    number, of_items = items.numbered(trained)
    of_items.write_parquet(folder / tables.ITEMS)
    np.save(scratch.folder / "number.npy", number)
    number_users(scratch, parts, walks)
    tasks = [(scratch, part, walks, folder, parts) for part in range(parts)]
    measured: list[statistics.Measured] = each("parts written", finish, tasks)
    of_parts = [
        {
            "users": len(of.per_user),
            "sessions": len(of.per_session),
            "events": int(of.per_item.sum()),
        }
        for of in measured
    ]
    return tables.Written(counts, log.skipped, statistics.merged(measured), of_parts)
