"""How many lanes each step of an epoch is computed for.

A step costs what its lanes cost, also those without a user. Once no user is left to take a free
lane, lanes run empty, the last ones first (`user_batches.build`). On a small log most steps of an
epoch are such. So steps are computed for B lanes, then for B/2, B/4 and so on.

Of these lanes about one in six opens a session and needs Eq. 3 and 4. The steps of a width are
computed for as many as almost all of them need; a step that needs more is computed for all B lanes.

Each pair of both widths is a compiled program. Which ones an epoch has depends on the log, so that
all epochs share them, but for a width of few steps, which joins the wider one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hrnn_jax.user_batches import NO_EVENT, Schedule

_FEWEST_LANES = 4  # below, a step costs its overhead
# A width with fewer updates is not worth a compiled program: so many, and this share of the epoch.
_LEAST_UPDATES, _LEAST_SHARE = 32, 1 / 32
_EXCEEDED = 0.02  # share of the steps that may need more opening lanes than their width has
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


def plan(schedules: Sequence[Schedule], bptt_steps: int, chunk_updates: int) -> list[list[Part]]:
    """Choose the width of each update of an epoch.

    Args:
        schedules: the epochs of the seeds that train side by side.
        bptt_steps: steps K of an update.
        chunk_updates: updates of a chunk.

    Returns:
        The parts of each chunk, in order. The last update may have less than K steps.
    """
    batch_size = schedules[0].event.shape[1]
    filled = [schedule.event != NO_EVENT for schedule in schedules]
    opens = [s.steps.session_start & ~s.steps.user_start for s in schedules]
    share = sum(map(np.count_nonzero, opens)) / max(1, sum(map(np.count_nonzero, filled)))
    n_filled = _most_of_updates(filled, bptt_steps)
    n_opening = _most_of_updates(opens, bptt_steps)
    whole = Width(batch_size, batch_size if share else 0)
    widths = np.empty((len(n_filled), 2), np.int64)
    for begin, end, lanes in _lanes(n_filled, batch_size):
        usual = whole
        if end - begin >= _LEAST_UPDATES:
            usual = Width(lanes, _usual_opening(lanes, share, len(schedules)))
        fits = n_opening[begin:end, None] <= usual.opening
        widths[begin:end] = np.where(fits, usual, whole)
    chunks = []
    for first in range(0, len(widths), chunk_updates):
        of_chunk = widths[first : first + chunk_updates]
        changes = np.flatnonzero((of_chunk[1:] != of_chunk[:-1]).any(axis=1)) + 1
        bounds = [0, *changes.tolist(), len(of_chunk)]
        chunks.append(
            [
                Part(begin, end, Width(*of_chunk[begin].tolist()))
                for begin, end in itertools.pairwise(bounds)
            ]
        )
    return chunks


def _most_of_updates(masks: Sequence[np.ndarray], bptt_steps: int) -> np.ndarray:
    """Count the lanes of masks [T, B]: the most of an update's steps and of all seeds."""
    most = np.zeros(-(-max(map(len, masks)) // bptt_steps) * bptt_steps, np.int64)
    for mask in masks:
        np.maximum(most[: len(mask)], mask.sum(axis=1), out=most[: len(mask)])
    return most.reshape(-1, bptt_steps).max(axis=1)


def _lanes(n_filled: np.ndarray, batch_size: int) -> list[tuple[int, int, int]]:
    """Return (first update, end, lanes) of each number of lanes, of updates with fewer and fewer.

    From the end of the epoch on, a number of lanes with too few updates joins the larger one.
    """
    parts: list[tuple[int, int, int]] = []
    end, lanes = len(n_filled), [batch_size]
    least = max(_LEAST_UPDATES, _LEAST_SHARE * len(n_filled))
    while lanes[-1] > _FEWEST_LANES:
        lanes.append(-(-lanes[-1] // 2))
    for fewer in lanes[:0:-1]:
        begin = int(np.count_nonzero(n_filled > fewer))
        if end - begin >= least:
            parts.append((begin, end, fewer))
            end = begin
    return [*([(0, end, batch_size)] if end else []), *reversed(parts)]


def _usual_opening(lanes: int, share: float, n_seeds: int) -> int:
    """Return how many lanes open a session in almost all steps, if each does with this chance."""
    if not share:
        return 0
    deviations = statistics.NormalDist().inv_cdf(1 - _EXCEEDED / n_seeds)
    most = lanes * share + deviations * (lanes * share * (1 - share)) ** 0.5
    return min(lanes, -(-int(np.ceil(most)) // _OPENING_MULTIPLE) * _OPENING_MULTIPLE)
