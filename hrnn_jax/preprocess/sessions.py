"""Cut sessions, filter and split an event log: Section 4.1, each threshold a setting."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import read_log

USER, ITEM, TIME = read_log.USER, read_log.ITEM, read_log.TIME
SESSION, TYPE = read_log.SESSION, read_log.TYPE
TEST = "test"
GIVEN = "given"  # a given session column, until `session` numbers the sessions of the whole log


@dataclasses.dataclass(frozen=True)
class Count:
    """Count what is left after a stage."""

    stage: str
    users: int
    items: int
    sessions: int | None  # None before sessions are cut
    events: int


def apply(
    events: pl.DataFrame, recipe: DataConfig, *, known: np.ndarray | None = None
) -> tuple[pl.DataFrame, list[Count]]:
    """Cut, filter and split a log in the schema of `events.read`.

    known: [items] bool, of a log whose model was trained on some items before: those need no
    support, and are tested on whether this log trains on them or not.
    Returns the events in replay order (by user, then session, then place in the session; sessions
    numbered in that order, with gaps where some were dropped) with `test` added, and the counts
    after each stage. Raises InputError, naming the filter, when one leaves no user.
    """
    events = events.rename({SESSION: GIVEN}, strict=False)
    counts = [_count("log", events)]
    for stage, step in _stages(recipe, set(events.columns), known).items():
        events = events.lazy().pipe(step).collect()
        counts.append(_count(stage, events))
        if events.is_empty():
            raise errors.InputError(f"{stage} leaves no user: {_story(counts)}")
    if not events[TEST].any():
        raise errors.InputError(
            f"the {recipe.split} split leaves no user with a session to test on: {_story(counts)}"
        )
    return events, counts


def _stages(
    recipe: DataConfig, columns: set[str], known: np.ndarray | None
) -> dict[str, Callable[..., pl.LazyFrame]]:
    """Name the stages by the settings that decide them, in the order of the paper."""
    if recipe.drop_types and TYPE not in columns:
        raise errors.InputError(
            "--drop_types needs event types; name their column with --type_column"
        )
    gap, limit = recipe.session_gap_minutes, recipe.max_user_sessions
    stages: dict[str, Callable[..., pl.LazyFrame]] = {}
    if recipe.drop_types:
        stages[f"drop_types={','.join(recipe.drop_types)}"] = functools.partial(
            drop_types, types=recipe.drop_types
        )
    if GIVEN in columns:
        stages["given sessions"] = order_sessions
    else:
        stages[f"session_gap_minutes={gap:g}"] = functools.partial(cut_sessions, gap_minutes=gap)
    if recipe.drop_repeats:
        stages["drop_repeats"] = drop_repeats
    of_new, before = ("", "") if known is None else (" of new items", ", or before")
    stages[f"min_support={recipe.min_support}{of_new}"] = functools.partial(
        keep_items, at_least=recipe.min_support, known=known
    )
    for name, step in {
        "min_session_events": keep_sessions,
        "min_user_sessions": keep_users,
    }.items():
        least = getattr(recipe, name)
        stages[f"{name}={least}"] = functools.partial(step, at_least=least)
    if limit is not None:
        stages[f"max_user_sessions={limit}"] = functools.partial(drop_users, from_sessions=limit)
    if recipe.split == "validation":
        stages["last sessions set aside"] = drop_last_sessions
    stages[f"test items known to train{before}"] = functools.partial(hold_out, known=known)
    stages[f"min_test_events={recipe.min_test_events}"] = functools.partial(
        keep_test_sessions, at_least=recipe.min_test_events
    )
    return stages


def drop_types(events: pl.LazyFrame, *, types: tuple[str, ...]) -> pl.LazyFrame:
    """Drop the events of some types, keeping those without a type."""
    return events.filter(pl.col(TYPE).is_in(types).fill_null(False).not_())


def cut_sessions(events: pl.LazyFrame, *, gap_minutes: float) -> pl.LazyFrame:
    """Open a session wherever a user was idle for longer."""
    gap = datetime.timedelta(minutes=gap_minutes)
    opens = (pl.col(USER) != pl.col(USER).shift()) | (pl.col(TIME).diff() > gap)
    return events.with_columns(_numbered(opens))


def order_sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    """Order a user's given sessions by their first events, and number them in that order."""
    first = pl.col("first")
    return (
        events.with_row_index("place")
        .with_columns(pl.col("place").min().over(USER, GIVEN).alias("first"))
        .sort(first, maintain_order=True)
        .with_columns(_numbered(first != first.shift()))
        .drop("place", "first", GIVEN)
    )


def opens_session() -> pl.Expr:
    """Tell of each event whether it is the first of its session; a session's are contiguous."""
    return (pl.col(SESSION) != pl.col(SESSION).shift()).fill_null(True)


def _numbered(opens: pl.Expr) -> pl.Expr:
    """Number sessions by where they open."""
    return opens.fill_null(True).cum_sum().cast(pl.UInt32).alias(SESSION).set_sorted()


def drop_repeats(events: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the first event of each (item, type) in a session."""
    names = events.collect_schema().names()
    kind = [name for name in (SESSION, ITEM, TYPE) if name in names]
    return events.unique(kind, keep="first", maintain_order=True)


def _tally(name: str, where: pl.Expr | None = None) -> pl.Expr:
    """Tell of each event how many events, of those `where`, share its user, item or session.

    These are small integers, and a table of them is several times faster than groups are.
    """

    def tally(columns: Sequence[pl.Series]) -> pl.Series:
        index, counted = (column.to_numpy() for column in columns)
        counts = np.bincount(counted, minlength=index.max(initial=0) + 1).astype(np.uint32)
        return pl.Series(counts[index])

    index = pl.col(name)
    counted = index if where is None else index.filter(where)
    return pl.map_batches([index, counted], tally, return_dtype=pl.UInt32)


def _or_known(kept: pl.Expr, known: np.ndarray | None) -> pl.Expr:
    """Also keep the events of the items that are known, [items] bool."""
    return kept if known is None else kept | pl.lit(pl.Series(known)).gather(pl.col(ITEM))


def keep_items(
    events: pl.LazyFrame, *, at_least: int, known: np.ndarray | None = None
) -> pl.LazyFrame:
    """Keep the items with enough events, and those that are known."""
    return events.filter(_or_known(_tally(ITEM) >= at_least, known))


def keep_sessions(events: pl.LazyFrame, *, at_least: int) -> pl.LazyFrame:
    """Keep the sessions with enough events."""
    return events.filter(_tally(SESSION) >= at_least)


def _sessions_of_user() -> pl.Expr:
    # Sessions are contiguous: each counts where it opens.
    return _tally(USER, opens_session())


def keep_users(events: pl.LazyFrame, *, at_least: int) -> pl.LazyFrame:
    """Keep the users with enough sessions."""
    return events.filter(_sessions_of_user() >= at_least)


def drop_users(events: pl.LazyFrame, *, from_sessions: int) -> pl.LazyFrame:
    """Drop the users with so many sessions or more."""
    return events.filter(_sessions_of_user() < from_sessions)


def _is_last() -> pl.Expr:
    return pl.col(SESSION) == pl.col(SESSION).max().over(USER)


def drop_last_sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    """Drop each user's last session: what is left is what the test split trains on."""
    return events.filter(~_is_last())


def hold_out(events: pl.LazyFrame, *, known: np.ndarray | None = None) -> pl.LazyFrame:
    """Hold out each user's last session, less the events of items that nobody trains on."""
    trained = _or_known(_tally(ITEM, ~pl.col(TEST)) > 0, known)
    return events.with_columns(_is_last().alias(TEST)).filter(trained)


def keep_test_sessions(events: pl.LazyFrame, *, at_least: int) -> pl.LazyFrame:
    """Keep the test sessions with enough events, and all training sessions."""
    return events.filter(~pl.col(TEST) | (_tally(SESSION) >= at_least))


def _count(stage: str, events: pl.DataFrame) -> Count:
    sessions = events[SESSION].n_unique() if SESSION in events.columns else None
    items = int(np.count_nonzero(np.bincount(events[ITEM].to_numpy())))
    return Count(stage, events[USER].n_unique(), items, sessions, len(events))


def _story(counts: list[Count]) -> str:
    """Tell what each stage left, in one line."""
    return "; ".join(
        f"{c.stage}: {c.users} users"
        f" / {c.items} items / {'-' if c.sessions is None else c.sessions} sessions"
        f" / {c.events} events"
        for c in counts
    )
