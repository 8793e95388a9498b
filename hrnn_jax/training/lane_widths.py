"""How many lanes each step of an epoch is computed for.

A step costs what its lanes cost, also those without a user. Once no user is left to take a free
lane, lanes run empty, the last ones first (`user_batches.build`). On a small log most steps of an
epoch are such. So steps are computed for B lanes, then for B/2, B/4 and so on.

Of these lanes about one in six opens a session and needs Eq. 3 and 4. The steps of a width are
computed for as many as almost all of them need; a step that needs more is computed for more lanes.

Each width is a compiled program. They are chosen once for a log: epochs differ in the order of
users, and a program that a later epoch needs first would have to be waited for.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax.training.user_batches import NO_EVENT, Schedule

_FEWEST_LANES = 4  # below, a step costs its overhead
# A width with fewer updates is not worth a compiled program: so many, and this share of the epoch.
_LEAST_UPDATES, _LEAST_SHARE = 32, 1 / 32
_EXCEEDED = 0.005  # share of the steps that may need more opening lanes than their width has
_OPENING_MULTIPLE = 4


class Width(NamedTuple):
    """What a compiled program computes of each step."""

    lanes: int  # the first so many have all users
    opening: int  # the lanes that may open a session of a known user


class Part(NamedTuple):
    """Updates of a chunk that follow each other and have one width."""

    begin: int  # the first update, counted within the chunk
    end: int
    width: Width


def choose(schedule: Schedule, bptt_steps: int) -> tuple[Width, ...]:
    """Choose the widths that are worth a program on a log, the fewest lanes first.

    Args:
        schedule: any epoch of the log.
        bptt_steps: steps K of an update.
    """
    n_filled, _ = _counts(schedule, bptt_steps)
    batch_size = schedule.event.shape[1]
    share = np.count_nonzero(schedule.steps.opens) / max(
        1, np.count_nonzero(schedule.event != NO_EVENT)
    )
    least = max(_LEAST_UPDATES, _LEAST_SHARE * len(n_filled))
    numbers = [batch_size]
    while numbers[-1] > _FEWEST_LANES:
        numbers.append(-(-numbers[-1] // 2))
    widths, end = list[Width](), len(n_filled)
    for lanes in reversed(numbers):
        begin = int(np.count_nonzero(n_filled > lanes))
        if end - begin >= least:  # else its updates join those of the next larger number
            widths.append(Width(lanes, _usual_opening(lanes, share)))
            end = begin
    return tuple(width for width in widths if width != whole_width([schedule]))


def plan(
    schedules: Sequence[Schedule], widths: Sequence[Width], bptt_steps: int, chunk_updates: int
) -> list[list[Part]]:
    """Give each update of an epoch the first of the widths that it fits, or else all lanes.

    Args:
        schedules: the epochs of the seeds that train side by side.
        widths: as `choose` returns them.
        bptt_steps: steps K of an update.
        chunk_updates: updates of a chunk.

    Returns:
        The parts of each chunk, in order. The last update may have less than K steps.
    """
    counts = [_counts(schedule, bptt_steps) for schedule in schedules]
    n_updates = max(len(n_filled) for n_filled, _ in counts)
    n_filled, n_opening = (
        np.max([np.pad(a, (0, n_updates - len(a))) for a in arrays], axis=0)
        for arrays in zip(*counts, strict=True)
    )
    whole = whole_width(schedules)
    chosen = np.full(n_updates, len(widths))
    for number in reversed(range(len(widths))):
        lanes, opening = widths[number]
        chosen[(n_filled <= lanes) & (n_opening <= opening)] = number
    chunks = []
    for first in range(0, n_updates, chunk_updates):
        of_chunk = chosen[first : first + chunk_updates]
        changes = np.flatnonzero(np.diff(of_chunk)) + 1
        bounds = [0, *changes.tolist(), len(of_chunk)]
        chunks.append(
            [
                Part(begin, end, (*widths, whole)[of_chunk[begin]])
                for begin, end in itertools.pairwise(bounds)
            ]
        )
    return chunks


def whole_width(schedules: Sequence[Schedule]) -> Width:
    """Return the width that all updates fit: all lanes, of which all may open a session."""
    batch_size = schedules[0].event.shape[1]
    any_opens = any(schedule.steps.opening.shape[1] for schedule in schedules)
    return Width(batch_size, batch_size if any_opens else 0)


def _counts(schedule: Schedule, bptt_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the lanes with a user and those that open a session: the most of an update's steps."""
    padding = -len(schedule.event) % bptt_steps
    n_filled, n_opening = (
        np.pad(mask.sum(axis=1), (0, padding)).reshape(-1, bptt_steps).max(axis=1)
        for mask in (schedule.event != NO_EVENT, schedule.steps.opens)
    )
    return n_filled, n_opening


def _usual_opening(lanes: int, share: float) -> int:
    """Return how many lanes open a session in almost all steps, if each does with this chance."""
    if not share:
        return 0
    deviations = statistics.NormalDist().inv_cdf(1 - _EXCEEDED)
    most = lanes * share + deviations * (lanes * share * (1 - share)) ** 0.5
    return min(lanes, -(-int(np.ceil(most)) // _OPENING_MULTIPLE) * _OPENING_MULTIPLE)
