"""Checks of arguments that several public calls take; each names the argument."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from hrnn_jax.errors import InputError


def whole_number(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """Return a number of things, an int of Python or numpy.

    Args:
        name: of the argument.
        value: the number.
        least: the smallest that is allowed.
        most: the largest that is allowed.

    Raises:
        InputError: the value is something else, too small or too large.
    """
    number = value if isinstance(value, int | np.integer) else None
    if number is None or isinstance(number, bool | np.timedelta64) or number < least:
        raise InputError(f"{name}={value!r}: give a whole number of {least} or more")
    if most is not None and number > most:
        raise InputError(f"{name}={value!r}: give a whole number of {most} or less")
    return int(number)


def path_of(name: str, value: Any) -> pathlib.Path:
    """Return the path of a file or folder.

    Args:
        name: of the argument.
        value: a string or a path.

    Raises:
        InputError: the value is something else, empty, or has a null character.
    """
    if not isinstance(value, str | os.PathLike) or value == "" or "\0" in str(value):
        raise InputError(f"{name}={value!r}: give a path")
    return pathlib.Path(value)


def several_ids(name: str, value: Any) -> Iterable[Any]:
    """Return a list of ids, or something else to iterate over.

    Args:
        name: of the argument.
        value: the ids; their own values are not checked.

    Raises:
        InputError: the value is a single id, or nothing to iterate over.
    """
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise InputError(f"{name}={value!r}: give a list of ids")
    return value
