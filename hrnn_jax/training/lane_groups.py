"""Groups of users with lanes of their own, whichever devices and processes these lanes are on.

With G groups a user belongs to one by a hash of their number in the prepared log, and each group
fills its B / G lanes from its own users alone. So an epoch's schedule depends on G, not on how many
devices share its lanes, and a process that has some of the groups reads only their users' events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import Schedule, Steps


def group_of(user: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the group of each user, [N]: the last mix of SplitMix64 of the number, modulo G.

    Args:
        user: [N] numbers of users, from 0.
        n_groups: G.
    """
    word = user.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    word ^= word >> np.uint64(31)
    return (word % np.uint64(n_groups)).astype(np.int32)


def build(
    log: EventLog,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    groups: Sequence[int],
    draw: tuple[int, int],
) -> Schedule:
    """Lay out an epoch of some groups, side by side on their lanes.

    Args:
        log: the training events, of these groups' users at least.
        model_config: of the network.
        config: of its training.
        groups: numbers of groups.
        draw: the seed and the epoch, which with a group's number draw the order of its users.

    Returns:
        The schedule of B / G lanes for each group, in the order of `groups`, as long as the longest
        of them: the lanes of the others are empty at its end.
    """
    group = group_of(log.user, config.lane_groups)
    schedules = []
    for number in groups:
        numbers = draw if config.lane_groups == 1 else (*draw, number)
        schedules.append(
            user_batches.build(
                user_batches.layout(log.where(group == number), model_config.variant),
                config.batch_size // config.lane_groups,
                rng=np.random.default_rng(numbers),
                feed_last_item=model_config.feed_last_item,
            )
        )
    # Padding has no event of this log: events are numbered within a group.
    of_log = [np.append(np.flatnonzero(group == n), user_batches.NO_EVENT) for n in groups]
    events = [numbers[s.event] for numbers, s in zip(of_log, schedules, strict=True)]
    n_steps = max(len(event) for event in events)
    event = np.concatenate(
        [
            np.pad(
                event, ((0, n_steps - len(event)), (0, 0)), constant_values=user_batches.NO_EVENT
            )
            for event in events
        ],
        axis=1,
    )
    return Schedule(side_by_side([s.steps for s in schedules], n_steps), event.astype(np.int32))


def side_by_side(parts: Sequence[Steps], n_steps: int) -> Steps:
    """Put lanes next to each other, each part padded at its end.

    Args:
        parts: steps of some lanes each.
        n_steps: of the longest of them at least.

    Returns:
        The steps of all lanes.
    """
    padded = [user_batches.pad(steps, n_steps, steps.opening.shape[1]) for steps in parts]
    joined = Steps(*(np.concatenate(arrays, axis=1) for arrays in zip(*padded, strict=True)))
    return joined._replace(opening=user_batches.opening_lanes(joined.opens))
