"""What an id and a time are, in event logs and in live events alike.

An id is an integer or a string of 1 to 256 bytes without control characters, and two ids are equal
where their texts are: 42 and "42". A number without a fraction is its integer: 42.0 and "42.0" are
42. A time counts from 1970-01-01 UTC, in seconds, milliseconds, microseconds or nanoseconds; its
size tells which. `preprocess` checks whole columns by these rules, `live` one event at a time.
"""

from __future__ import annotations

import math
import re
import reprlib

import numpy as np

from hrnn_jax import errors

Id = int | str
ID_TYPES = "ids must be integers or strings"
FLOAT32_TIMES = (
    "in which the seconds of today come in steps of 128: write times as integers or as floats of "
    "64 bits"
)
MAX_ID_BYTES = 256
# What programs write for a missing id: R, pandas, spreadsheets, Python, SQL and Hive.
NO_ID = ("NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "\\N")
# A float of 64 bits holds all integers below this one.
MAX_FLOAT_ID = 2**53
# 1e11 seconds is the year 5138, 1e11 milliseconds is March 1973: no log has both sides.
MAX_SECONDS = 1e11
MAX_MILLISECONDS = 1e14
MAX_MICROSECONDS = 1e17
EARLIEST = 631_152_000  # 1990-01-01 in Unix seconds: logs of interactions are not older
DAY = 86_400  # seconds
CONTROL = r"[\x00-\x1f\x7f-\x9f]"
INTEGRAL = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
_INTEGRAL = re.compile(INTEGRAL)
# Control characters, and surrogates, which are halves of a character.
_FORBIDDEN = re.compile(f"{CONTROL}|[\ud800-\udfff]")


def id_text(name: str, value: object) -> str:
    """Return the text of an id.

    Args:
        name: of the argument that holds the id, for the message.
        value: the id, an `Id` if it is valid.

    Raises:
        InputError: the value is no integer of at most 64 bits and no string, is empty or longer
            than `MAX_ID_BYTES`, or has control characters.
    """
    if isinstance(value, float | np.floating) and value.is_integer() and abs(value) < MAX_FLOAT_ID:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | np.integer):
        shown = " ".join(reprlib.repr(value).split())  # a list's may have several lines
        raise errors.InputError(f"{name} {shown}: {ID_TYPES}")
    if not isinstance(value, str) and not -(2**63) <= value < 2**64:
        raise errors.InputError(f"{name}: integer ids have at most 64 bits")
    text = str(value)
    if ".0" in text:
        text = _INTEGRAL.sub(r"\1", text)
    _check_characters(name, text)
    size = len(text.encode())
    if not 0 < size <= MAX_ID_BYTES:
        raise errors.InputError(
            f"{name} {text[:20]!r}: ids have 1 to {MAX_ID_BYTES} bytes, not {size}"
        )
    return text


def id_prefix(value: object) -> str:
    """Return the text that ids begin with; it may be empty, or longer than an id.

    Raises:
        InputError: the value has control characters, which no id has.
    """
    text = str(value)
    _check_characters("prefix", text)
    return text


def _check_characters(name: str, text: str) -> None:
    if _FORBIDDEN.search(text):
        raise errors.InputError(f"{name} {text!r}: ids must not contain control characters")


def time_bounds(now: float, *, any_year: bool) -> tuple[float, float]:
    """Return the first time that events may have, and the first one after those.

    Args:
        now: the present time.
        any_year: whether times before 1990 and after tomorrow are taken too, from 1970 on.

    Returns:
        Two times; all are in Unix seconds.
    """
    return (0, MAX_SECONDS) if any_year else (EARLIEST, now + DAY)


def unix_seconds(time: object, *, any_year: bool = True, now: float = 0) -> float:
    """Return a time in Unix seconds as a float.

    Args:
        time: the time.
        any_year: see `time_bounds`.
        now: the present time, which is only needed without `any_year`.

    Raises:
        InputError: the time is no number, is out of its bounds, or is so large that it must be in
            milliseconds.
    """
    is_number = isinstance(time, int | float | np.integer | np.floating)
    if not is_number or isinstance(time, bool | np.timedelta64):
        text = reprlib.repr(time)  # a client may send a list of 300,000 lists
        raise errors.InputError(f"time {text}: give Unix seconds, or no time for now")
    if not 0 <= time < MAX_SECONDS:
        hint = "; are these milliseconds?" if MAX_SECONDS <= time < math.inf else ""
        raise errors.InputError(f"time {time}: give Unix seconds from 0 to {MAX_SECONDS:g}{hint}")
    first, end = time_bounds(now, any_year=any_year)
    if not first <= time < end:
        raise errors.InputError(
            f"time {time}: is before 1990 or after tomorrow, and the log that was trained on has "
            "no such times; give Unix seconds, or train with `any_year`"
        )
    return float(time)
