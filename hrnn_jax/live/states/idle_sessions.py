"""Anonymous sessions without a recent event, which are deleted."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator

from hrnn_jax.live.events import SESSION_PREFIX
from hrnn_jax.live.states.user_states import UserStates

logger = logging.getLogger(__name__)
_SESSIONS_OF_A_STEP = 200  # that are looked at, some hundredths of a second of work
_JUMP = 60.0  # seconds


class IdleSessions:
    """The idle ones among the anonymous sessions of some states."""

    def __init__(self, states: UserStates):
        """Remember the time, for the first call of `forget`."""
        self._states = states
        self._clocks = _clocks()  # when they were looked at last

    def forget(self, seconds: float) -> Generator[int]:
        """Delete idle sessions, see `Recommender.forgetting_idle_sessions`."""
        states = self._states
        with states.exclusive():
            before, self._clocks = self._clocks, _clocks()
            wall, steady = (now - then for now, then in zip(self._clocks, before, strict=True))
            end = self._clocks[0] - seconds
        if wall - steady > _JUMP:
            logger.warning(
                f"the clock has moved ahead by {wall - steady:,.0f} s: idle sessions stay"
            )
            return
        after: str | None = SESSION_PREFIX
        while after is not None:
            with states.exclusive():
                keys, after = states.store.keys_before(
                    SESSION_PREFIX, end, after=after, limit=_SESSIONS_OF_A_STEP
                )
                n_deleted = states.store.delete(keys, before=end) if keys else 0
            yield n_deleted
        with states.exclusive():
            states.store.delete([])  # erases what a full disk has left of earlier ones


def _clocks() -> tuple[float, float]:
    """Return the Unix time, and that of a clock which nobody sets; it counts sleep where it can."""
    steady = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.time(), time.clock_gettime(steady)
