"""Cut sessions, filter and split an event log (Section 4.1). Each threshold is a setting.

With the paper's protocol filters count all events, and the split comes last. With the others the
split comes before the filters, which count training events alone: a test event has no part in what
is trained on. Repeats are dropped first, but of a log that brings its split after it.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig, settings
from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import protocols
from hrnn_jax.preprocess.parts import PARTS
from hrnn_jax.preprocess.protocols import TEST, Step, Totals
from hrnn_jax.preprocess.read_log import ITEM, PART, SESSION, TIME, TYPE, USER

KNOWN, OF_NEW = "test items known to train", " of new items"
MOST_TYPES = 20  # that a message lists
SUPPORT, TRAINED = "support", "trained"  # of `Totals`: [items] events
GIVEN = "given"  # the log's session column, until `session` numbers the sessions of all users


@dataclasses.dataclass(frozen=True)
class Count:
    """How many users, items, sessions and events a step has left."""

    stage: str
    users: int
    items: int
    sessions: int | None  # None before sessions are cut
    events: int


def apply_recipe(
    events: pl.DataFrame, recipe: DataConfig, *, continued: np.ndarray | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, list[Count]]:
    """Cut, filter and split a log.

    Args:
        events: in the schema and the order of `read_log.read`.
        recipe: the settings.
        continued: [items] bool, the items of the run that is continued, if one is. They need no
            support here, and are tested on whether this log trains on them or not.

    Returns:
        The events that are left, in replay order (by user, then session, then place in the
        session), with `test` and maybe other marks added, see `protocols`. Sessions are numbered
        in that order, with gaps where some were dropped. Then the ends of all sessions before the
        filters, see `cut`. And the counts of the log and after each step.

    Raises:
        InputError: a step leaves no user; the message names the setting and all counts.
    """
    of_parts = events[PART].unique() if PART in events.columns else ()
    protocols.check_parts(of_parts, recipe)
    events = events.rename({SESSION: GIVEN}, strict=False)
    counts = [counted("log", events)]
    ends, has_training = None, True
    for stage, step in recipe_steps(recipe, set(events.columns), continued).items():
        if stage.startswith("min_support") and TEST in events.columns:
            has_training = not events[TEST].all()
        events, ends = apply_step(step, events, ends)
        counts.append(counted(stage, events))
        refuse_none(recipe, counts, has_training=has_training)
    refuse_untested(has_cases(events), recipe, counts)
    events = protocols.with_targets(events, recipe)
    assert ends is not None  # one of the steps cuts sessions
    return events, ends, counts


def refuse_none(recipe: DataConfig, counts: Sequence[Count], *, has_training: bool) -> None:
    """Raise InputError where the last step has left no user.

    has_training: whether a split that comes first has left an event to train on.
    """
    if counts[-1].events:
        return
    stage, split = counts[-1].stage, f"protocol={recipe.protocol}"
    if has_training and stage != split:
        advice = _advice(recipe, counts)
    else:
        advice = "" if stage == split else f", as {split} leaves no event to train on"
        advice += ", lower `test_days`" if recipe.protocol == "global_time" else ""
    raise InputError(f"{stage} leaves no user{advice}: {_text(counts)}")


def refuse_untested(has_cases: bool, recipe: DataConfig, counts: Sequence[Count]) -> None:
    """Raise InputError where all steps have left no case."""
    if not has_cases:
        raise InputError(
            f"the {recipe.split} split leaves no user with a session to test on"
            f"{_advice(recipe, counts)}: {_text(counts)}"
        )


def has_cases(events: pl.DataFrame) -> bool:
    """Say whether a step has left something to predict."""
    return events.select(protocols.is_case(events.columns).any()).item()


def cut(events: pl.DataFrame, recipe: DataConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut a log into the sessions of a recipe, without filtering any.

    Args:
        events: in the schema and the order of `read_log.read`.
        recipe: the settings, of which types, the gap and repeats matter.

    Returns:
        The events in replay order, with the numbers of their sessions. And a row for each session,
        by number: `session`; `time` of its last event, a repeat included; and `given`, the index of
        its id, where the log has a session column.
    """
    events, ends = events.rename({SESSION: GIVEN}, strict=False), None
    for step in (_cutting_steps(recipe, set(events.columns)) | _repeats(recipe)).values():
        events, ends = apply_step(step, events, ends)
    assert ends is not None
    return events, ends


def apply_step(
    step: Step, events: pl.DataFrame, ends: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the events after a step, and the ends of sessions once they are cut."""
    events = events.lazy().pipe(step).collect()
    if ends is None and SESSION in events.columns:
        is_last = (pl.col(SESSION) != pl.col(SESSION).shift(-1)).fill_null(True)
        columns = [name for name in (SESSION, TIME, GIVEN) if name in events.columns]
        return events.drop(GIVEN, strict=False), events.filter(is_last).select(columns)
    return events, ends


def recipe_steps(
    recipe: DataConfig,
    columns: set[str],
    continued: np.ndarray | None,
    totals: Totals | None = None,
) -> dict[str, Step]:
    """Return the steps in their order, each under the setting that decides it.

    totals: where the steps see some users only; they can be applied as far as these are known.
    """
    steps = _cutting_steps(recipe, columns)
    if recipe.protocol != "given":
        steps |= _repeats(recipe)
    set_aside, mark_last = protocols.with_levels(recipe, totals), marking(recipe)
    if totals is None:
        support, trained = None, _events_with_same(ITEM, where=~pl.col(TEST))
    else:
        support, trained = _in_total(totals, SUPPORT), _in_total(totals, TRAINED)
    is_trained = _or_continued(trained > 0, continued)
    if protocols.splits_first(recipe):
        mark = protocols.marked(recipe)
        steps[f"protocol={recipe.protocol}"] = lambda events: mark(set_aside(events))
        if recipe.protocol == "given":
            steps |= _repeats(recipe)
        steps |= _filters(recipe, continued, support, where=~pl.col(TEST))
    else:
        steps |= _filters(recipe, continued, support)
        if recipe.split == "validation":
            steps["last sessions set aside"] = set_aside
    known = f"{KNOWN}{'' if continued is None else ', or before'}"
    steps[known] = lambda events: mark_last(events).filter(is_trained)
    steps[f"min_test_events={recipe.min_test_events}"] = _keep(
        ~pl.col(TEST) | (_events_with_same(SESSION) >= recipe.min_test_events)
    )
    return steps


def marking(recipe: DataConfig) -> Step:
    """Return what is left to do, after the filters, to mark what is held out."""
    if protocols.splits_first(recipe):
        return lambda events: events
    mark, set_aside = protocols.marked(recipe), protocols.with_levels(recipe)
    if recipe.split == "validation":
        return mark
    return lambda events: mark(set_aside(events))


def _filters(
    recipe: DataConfig,
    continued: np.ndarray | None,
    support: pl.Expr | None,
    where: pl.Expr | None = None,
) -> dict[str, Step]:
    """Return the filters of Section 4.1, which count all events or those `where`.

    Of a session, only the events that are counted can be dropped. support: of an event's item,
    where that is known.
    """
    of_new = "" if continued is None else OF_NEW
    support = _events_with_same(ITEM, where) if support is None else support
    has_support = support >= recipe.min_support
    is_long = _events_with_same(SESSION, where) >= recipe.min_session_events
    # A session is counted at the first event that counts.
    opens = opens_session()
    if where is not None:
        is_long |= ~where
        opens = where & (where.cum_sum().over(SESSION) == 1)
    user_sessions = _events_with_same(USER, where=opens)
    steps = {
        f"min_support={recipe.min_support}{of_new}": _keep(_or_continued(has_support, continued)),
        f"min_session_events={recipe.min_session_events}": _keep(is_long),
        f"min_user_sessions={recipe.min_user_sessions}": _keep(
            user_sessions >= recipe.min_user_sessions
        ),
    }
    if recipe.max_user_sessions is not None:
        steps[f"max_user_sessions={recipe.max_user_sessions}"] = _keep(
            user_sessions < recipe.max_user_sessions
        )
    return steps


def _cutting_steps(recipe: DataConfig, columns: set[str]) -> dict[str, Step]:
    """Return the steps that decide what is a session."""
    if recipe.drop_types and TYPE not in columns:
        raise InputError("`drop_types` needs event types; name their column with `type_column`")
    steps: dict[str, Step] = {}
    if recipe.drop_types:
        stage = f"drop_types={','.join(recipe.drop_types)}"
        steps[stage] = lambda events: drop_types(events, recipe.drop_types)
    if GIVEN in columns:
        steps["given sessions"] = order_sessions
    else:
        gap_minutes = recipe.session_gap_minutes
        steps[f"session_gap_minutes={gap_minutes:g}"] = lambda events: cut_sessions(
            events, gap_minutes
        )
    return steps


def _repeats(recipe: DataConfig) -> dict[str, Step]:
    """Return the step that drops repeats, if the recipe does."""
    return {"drop_repeats": _drop_repeats} if recipe.drop_repeats else {}


def refuse_unknown_types(events_of: Mapping[str, int], dropped: Sequence[str]) -> None:
    """Raise InputError where no event is of a type that is to be dropped.

    events_of: how many events of the log have each type.
    """
    if unknown := [each for each in dropped if each not in events_of]:
        by_events = sorted(events_of.items(), key=lambda of: (-of[1], of[0]))
        shown = [f"{each!r} ({count:,} events)" for each, count in by_events]
        more = f" and {len(shown) - MOST_TYPES:,} more" if len(shown) > MOST_TYPES else ""
        raise InputError(
            f"`drop_types`: no event is of the type {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(shown[:MOST_TYPES])}{more}: write them so, or drop no type"
        )


def drop_types(events: pl.LazyFrame, types: Sequence[str]) -> pl.LazyFrame:
    """Drop the events of some types, and keep those without a type."""
    return events.filter(pl.col(TYPE).is_in(types).fill_null(False).not_())


def cut_sessions(events: pl.LazyFrame, gap_minutes: float) -> pl.LazyFrame:
    """Begin a session wherever a user was idle for longer than the gap.

    In a log that brings its split, the idle time before an event is that since the user's last one
    of its own part or of a part before that, in the order of `PARTS`; where there was none, the
    next part counts too. So held-out events move no boundary between training events.
    """
    gap = datetime.timedelta(minutes=gap_minutes)
    before = pl.col(TIME).shift()
    if PART in events.collect_schema().names():
        before = pl.coalesce(*(_last_time(PARTS[: n + 1]) for n in range(len(PARTS))))
    opens = (pl.col(USER) != pl.col(USER).shift()) | (pl.col(TIME) - before > gap)
    return events.with_columns(_numbered(opens))


def _last_time(of_parts: Sequence[str]) -> pl.Expr:
    """Return, for the events of some parts, the time of the user's last one of these before it."""
    is_of = pl.col(PART).is_in(of_parts)
    last = pl.when(is_of).then(pl.col(TIME)).forward_fill().shift().over(USER)
    return pl.when(is_of).then(last)


def order_sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    """Order a user's given sessions by their first events, and number them in that order."""
    first = pl.col("first")
    return (
        events.with_row_index("place")
        .with_columns(pl.col("place").min().over(USER, GIVEN).alias("first"))
        .sort(first, maintain_order=True)
        .with_columns(_numbered(first != first.shift()))
        .drop("place", "first")
    )


def opens_session() -> pl.Expr:
    """Return whether an event is the first of its session; a session's events are contiguous."""
    return (pl.col(SESSION) != pl.col(SESSION).shift()).fill_null(True)


def _numbered(opens: pl.Expr) -> pl.Expr:
    """Number sessions by their first events."""
    return opens.fill_null(True).cum_sum().cast(pl.UInt32).alias(SESSION).set_sorted()


def _drop_repeats(events: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the first event of each (item, type) in a session.

    After a split that the log brings, also the first training event of each: no event that is held
    out drops it.
    """
    names = events.collect_schema().names()
    same = [name for name in (SESSION, ITEM, TYPE) if name in names]
    if TEST not in names:
        return events.unique(same, keep="first", maintain_order=True)
    first, first_of_kind = (pl.struct(names).is_first_distinct() for names in (same, [*same, TEST]))
    return events.filter(pl.when(TEST).then(first).otherwise(first_of_kind))


def _keep(condition: pl.Expr) -> Step:
    return lambda events: events.filter(condition)


def _events_with_same(name: str, where: pl.Expr | None = None) -> pl.Expr:
    """Return how many events (of those `where`) share an event's user, item or session.

    These are small integers: a table of their counts is several times faster than a group_by.
    """

    def look_up(columns: Sequence[pl.Series]) -> pl.Series:
        index, counted = (column.to_numpy() for column in columns)
        counts = np.bincount(counted, minlength=index.max(initial=0) + 1).astype(np.uint32)
        return pl.Series(counts[index])

    index = pl.col(name)
    counted = index if where is None else index.filter(where)
    return pl.map_batches([index, counted], look_up, return_dtype=pl.UInt32)


def _in_total(totals: Totals, name: str) -> pl.Expr:
    """Return the total of each event's item; of an unknown total, nothing that can be used."""
    return pl.lit(pl.Series(totals.get(name, np.zeros(0, np.int64)))).gather(pl.col(ITEM))


def _or_continued(condition: pl.Expr, continued: np.ndarray | None) -> pl.Expr:
    """Accept the items of the run that is continued as well."""
    if continued is None:
        return condition
    return condition | pl.lit(pl.Series(continued)).gather(pl.col(ITEM))


def counted(stage: str, events: pl.DataFrame) -> Count:
    """Return how many users, items, sessions and events a step has left."""
    sessions = events[SESSION].n_unique() if SESSION in events.columns else None
    items = int(np.count_nonzero(np.bincount(events[ITEM].to_numpy())))
    return Count(stage, events[USER].n_unique(), items, sessions, len(events))


def _advice(recipe: DataConfig, counts: Sequence[Count]) -> str:
    """Say which threshold to lower: of those that can be lowered, the one that took the most.

    Or what else helps where each user has one session, and the last one is to be predicted.
    """
    before, last = counts[-2:]
    by_session = last.stage == KNOWN or last.stage.startswith("min_user_sessions=")
    if recipe.protocol == "last_session" and by_session and before.users == before.sessions:
        return (
            ", as each user has one session: name a column of sessions, give a shorter "
            "`session_gap_minutes`, or `protocol`=leave_one_out"
        )
    taken = {
        name: before.events - count.events
        for before, count in itertools.pairwise(counts)
        for name in [count.stage.partition("=")[0]]
        if name.startswith("min_") and getattr(recipe, name) > settings(recipe)[name].least
    }
    most = max(taken, key=taken.__getitem__, default="")
    return f", lower `{most}`" if taken.get(most) else ""


def _text(counts: Sequence[Count]) -> str:
    """Write all counts in one line."""
    return "; ".join(
        f"{count.stage}: {count.users} users / {count.items} items / "
        f"{'-' if count.sessions is None else count.sessions} sessions / {count.events} events"
        for count in counts
    )
