"""The parts of a split that a log brings, by a column or by the names of its files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import polars as pl

from hrnn_jax.errors import InputError
from hrnn_jax.preprocess.reading.files import LogFile
from hrnn_jax.preprocess.reading.table import PART

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
_WORDS = {
    **dict.fromkeys((TRAIN, "training"), TRAIN),
    **dict.fromkeys((VALIDATION, "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys((TEST, "testing"), TEST),
}
_SHOWN = 5  # values that a message lists


def in_order(found: Sequence[LogFile]) -> list[tuple[LogFile, str]]:
    """Return each file and the part that its name tells, training first and test last.

    Raises:
        InputError: a name tells no part, or several.
    """
    with_parts = [(file, of_name(file.path)) for file in found]
    return sorted(with_parts, key=lambda file: PARTS.index(file[1]))


def of_values(values: pl.Series, path: pathlib.Path, column: str) -> pl.Series:
    """Return a column of parts in the words of `PARTS`.

    Args:
        values: the column.
        path: of the log, for messages.
        column: its name in the log, for messages.

    Raises:
        InputError: a value is no part.
    """
    used = values.unique()
    known = {value: _WORDS.get(str(value).strip().lower()) for value in used}
    if other := sorted(repr(value) for value, part in known.items() if part is None):
        more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        raise InputError(
            f"{path}: column {column!r} holds {', '.join(other[:_SHOWN])}{more}: write "
            f"{', '.join(PARTS[:-1])} or {PARTS[-1]}"
        )
    return values.replace_strict(known, return_dtype=pl.String).alias(PART)


def of_name(path: pathlib.Path) -> str:
    """Return the part that the name of a file tells.

    Raises:
        InputError: the name tells no part, or several.
    """
    words = re.findall(r"[a-z]+", path.name.partition(".")[0].lower())
    told = {_WORDS[word] for word in words if word in _WORDS}
    if len(told) != 1:
        raise InputError(
            f"{path}: its name tells {'several parts' if told else 'no part'} of the split: call "
            "the files train, validation and test, or name a column of parts with `part_column`"
        )
    return told.pop()
