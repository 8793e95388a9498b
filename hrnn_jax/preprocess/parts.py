"""The parts of a split that a log brings, by a column or by the names of its files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

from hrnn_jax.errors import InputError
from hrnn_jax.preprocess.reading.files import LogFile
from hrnn_jax.preprocess.reading.table import PART_WORDS, TEST, TRAIN, VALIDATION

PARTS = (TRAIN, VALIDATION, TEST)


def in_order(found: Sequence[LogFile]) -> list[tuple[LogFile, str]]:
    """Return each file and the part that its name tells, training first and test last.

    Raises:
        InputError: a name tells no part, or several.
    """
    with_parts = [(file, of_name(file.path)) for file in found]
    return sorted(with_parts, key=lambda file: PARTS.index(file[1]))


def of_name(path: pathlib.Path) -> str:
    """Return the part that the name of a file tells.

    Raises:
        InputError: the name tells no part, or several.
    """
    words = re.findall(r"[a-z]+", path.name.partition(".")[0].lower())
    told = {PART_WORDS[word] for word in words if word in PART_WORDS}
    if len(told) != 1:
        raise InputError(
            f"{path}: its name tells {'several parts' if told else 'no part'} of the split: call "
            "the files train, validation and test, or name a column of parts with `part_column`"
        )
    return told.pop()
