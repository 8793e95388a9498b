"""Which files a log's path names: one file, a folder of them, a list or a pattern.

What exists under the given name is that file or folder, whatever characters it has; only where
nothing does it is a list, separated by commas, or a pattern. A file is read once, however often a
list or a pattern names it.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import pathlib
import urllib.parse
from typing import NamedTuple

from hrnn_jax.errors import InputError

PARQUET, JSON_LINES = (".parquet", ".pq"), (".jsonl", ".ndjson")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, *PARQUET, *JSON_LINES)
COMPRESSED = (".gz", ".zst")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class LogFile(NamedTuple):
    """A file of a log, and the columns that the names of its folders give (`country=fr`)."""

    path: pathlib.Path
    partition: tuple[tuple[str, str | None], ...] = ()


def suffix(path: pathlib.Path) -> str:
    """Return the suffix of the format in lower case, without the suffix of a compression."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


def find(path: pathlib.Path) -> list[LogFile]:
    """Return the files that a path names, in their order and each once.

    Raises:
        InputError: there is none, one of a list is missing, or a name is no UTF-8.
    """
    once: dict[pathlib.Path, LogFile] = {}
    for file in _named(path):
        once.setdefault(file.path.resolve(), file)
    for file in once.values():
        _refuse_other_encodings(file.path)
    return list(once.values())


def exist(path: pathlib.Path) -> bool:
    """Tell whether the files that a path names are there."""
    try:
        return bool(find(path))
    except InputError:
        return False


def formats(path: pathlib.Path) -> str:
    """Return the suffix of a file; those of several files, separated by commas."""
    return ",".join(sorted({suffix(file.path) for file in find(path)}))


def digest(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file; of several files that of their digests, in their order.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    files = find(path)
    try:
        digests = []
        for file in files:
            with file.path.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give another file with `events`"
        ) from error
    if files == [LogFile(path)]:
        return digests[0]
    content = [[file.partition, of] for file, of in zip(files, digests, strict=True)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _named(path: pathlib.Path) -> list[LogFile]:
    """Return the files that a path names; those that a list or a pattern repeats several times."""
    if _exists(path):
        return _of_folder(path) if path.is_dir() else [LogFile(path)]
    if "," in str(path):
        parts = [part.strip() for part in str(path).split(",")]
        if "" in parts:
            raise InputError(f"{path}: a path of this list is empty; remove the comma next to it")
        return [file for part in parts for file in _named(pathlib.Path(part))]
    if glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path), recursive=True))
        if found:
            return [file for name in found for file in _named(pathlib.Path(name))]
        raise InputError(
            f"{path}: no such file, and none of that pattern; give another one with `events`"
        )
    raise InputError(f"{path}: no such file; give another file with `events`")


def _exists(path: pathlib.Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a long list is no name
            return False
        raise


def _refuse_other_encodings(path: pathlib.Path) -> None:
    """Raise InputError for a name that polars cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(f"{shown}: the name is not written in UTF-8; rename it") from None


def _of_folder(folder: pathlib.Path) -> list[LogFile]:
    """Return the files of a folder and its folders but for hidden ones, by name."""
    files = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in inner.parts)
        if not hidden and path.is_file() and suffix(path) in SUFFIXES:
            files.append(LogFile(path, _partition(inner)))
    if not files:
        raise InputError(f"{folder}: is a folder without a file of {' '.join(SUFFIXES)}")
    return files


def _partition(inner: pathlib.Path) -> tuple[tuple[str, str | None], ...]:
    """Return the columns that the folders of a file name, as Hive writes them."""
    named = [part.split("=", 1) for part in inner.parent.parts if "=" in part]
    return tuple(
        (urllib.parse.unquote(name), None if value == _NO_VALUE else urllib.parse.unquote(value))
        for name, value in named
    )
