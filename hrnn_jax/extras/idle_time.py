"""How long a user was idle before an event, as an input next to its item.

Not in the paper. A gap of s seconds has the class floor(log2(1 + s)), and gaps between sessions
have other classes than gaps inside one. Each class has a row of GRU_ses' input weights, which
starts from zero.
"""

from __future__ import annotations

import numpy as np

from hrnn_jax.event_log import EventLog

_OCTAVES = 32
CLASSES = 2 * _OCTAVES
NONE = CLASSES  # before a user's first event; beyond the classes, so that gathers fill it


def of(seconds: np.ndarray | float, opens: np.ndarray | bool) -> np.ndarray:
    """Return the classes of gaps.

    Args:
        seconds: the idle times; a negative one, of a clock that went back, counts as 0.
        opens: bool, whether the gap lies between two sessions.

    Returns:
        int8 classes of the same shape.
    """
    # The exponent of a float64, read from its bits: a logarithm rounds, and takes far longer.
    octave = (np.maximum(seconds, 0) + np.float64(1)).view(np.int64) >> 52
    octave = np.minimum(octave - 1023, _OCTAVES - 1).astype(np.int8)
    return octave + np.int8(_OCTAVES) * np.asarray(opens)


def before(log: EventLog) -> np.ndarray:
    """Return the class of the gap before each event of a log, [E] int8."""
    classes = of(np.diff(log.time, prepend=log.time[:1]), ~log.follows)
    return np.where(log.opens_user, np.int8(NONE), classes)
