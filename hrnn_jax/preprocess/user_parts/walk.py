"""The steps of a recipe on the events of some users, up to one that needs to know of all users."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import protocols, sessions
from hrnn_jax.preprocess.protocols import LOG, TEST, Totals
from hrnn_jax.preprocess.read_log import ITEM


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
