"""How long a user was idle before an event, as an input beside its item.

Not in the paper. A gap of s seconds is of the class floor(log2(1 + s)), and gaps between sessions
are of other classes than those inside one. Each class has a row of GRU_ses' input weights, learnt
from zero.
"""

from __future__ import annotations

import numpy as np

from hrnn_jax.event_log import EventLog

_OCTAVES = 32
CLASSES = 2 * _OCTAVES
NONE = CLASSES  # before a user's first event; beyond the classes: gathers fill it


def of(seconds: np.ndarray | float, opens: np.ndarray | bool) -> np.ndarray:
    """Return the classes of gaps, int8; opens: whether they are between two sessions.

    A clock that went back counts as no time.
    """
    # The exponent of a float64, read from its bits: a logarithm rounds, and takes far longer.
    octave = (np.maximum(seconds, 0) + np.float64(1)).view(np.int64) >> 52
    octave = np.minimum(octave - 1023, _OCTAVES - 1).astype(np.int8)
    return octave + np.int8(_OCTAVES) * np.asarray(opens)


def before(log: EventLog) -> np.ndarray:
    """Return the class of the gap before each event, [E] int8."""
    found = of(np.diff(log.time, prepend=log.time[:1]), ~log.follows)
    return np.where(log.opens_user, np.int8(NONE), found)
