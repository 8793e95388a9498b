"""The files of a log -> the events of each part, each user's whole, by workers that share a folder.

A task reads a file, and writes its events with the places of their ids among the file's different
ids. These ids are merged into those of the log. Then a task for each file spreads its events over
the parts, and a task for each part orders what it got.
"""

from __future__ import annotations

import collections
import pathlib
import zlib
from typing import NamedTuple

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import protocols, read_log, sessions
from hrnn_jax.preprocess.read_log import ITEM, PART, RAW_ID, SESSION, TYPE, USER
from hrnn_jax.preprocess.reading import ids
from hrnn_jax.preprocess.user_parts.parallel import Each

INDEX = "index"  # of an id among those of the log


class Scratch(NamedTuple):
    """The folder where the parts of a log are on their way, which all workers see."""

    folder: pathlib.Path
    recipe: DataConfig

    def path(self, number: int, name: str) -> pathlib.Path:
        """Return the path of a table of a part, or of a file of the log."""
        return self.folder / f"{number}-{name}.parquet"


def write_soon_read(table: pl.DataFrame, path: pathlib.Path) -> None:
    """Write a table that is read once or twice: zstd took a third more CPU time."""
    table.write_parquet(path, compression="lz4")


class FromFile(NamedTuple):
    """What the events of a file tell about the log."""

    said: read_log.Said
    types: dict[str, int]  # how many events have each
    of_split: set[str]  # the parts of a split that the log brings


class ReadLog(NamedTuple):
    """A log that is in parts."""

    raw_ids: dict[str, pl.Series]  # as `read_log.Events` has them
    skipped: read_log.Skipped
    size: sessions.Count
    types: dict[str, int]  # how many events have each


def part_of(raw_ids: pl.Series, parts: int) -> np.ndarray:
    """Return the part, of 0..parts-1, of each user: the CRC-32 of the id's text, mod parts."""
    texts = raw_ids.cast(pl.String)
    return np.array([zlib.crc32(text.encode()) % parts for text in texts], np.uint32)


def read(scratch: Scratch, source: read_log.Source, parts: int, each: Each) -> ReadLog:
    """Read a log into parts: of each part the events in order, and the ids of users and sessions.

    Raises:
        InputError: as `read_log.read`, and where the recipe needs what the log lacks.
    """
    recipe = scratch.recipe
    found = read_log.files_of(source, parts=recipe.protocol == "given")
    files = range(len(found))
    tasks = [(scratch, source, file, of_log) for file, of_log in enumerate(found)]
    read_files: list[FromFile] = each("files of the log read", read_file, tasks)
    skipped = read_log.say_read(source, [file.said for file in read_files])
    protocols.check_parts(set().union(*(file.of_split for file in read_files)), recipe)
    raw_ids = {
        name: _merged_ids(scratch, name, len(found)) for name in read_log.new_categories(source)
    }
    part = part_of(raw_ids[USER], parts)
    np.save(scratch.folder / "part.npy", part)
    write_soon_read(raw_ids[USER].to_frame(RAW_ID), scratch.folder / "user-ids.parquet")
    if SESSION in raw_ids:
        write_soon_read(raw_ids[SESSION].to_frame(RAW_ID), scratch.folder / "session-ids.parquet")
    each("files split into parts", spread_file, [(scratch, file, parts) for file in files])
    tasks = [(scratch, source, part, len(found)) for part in range(parts)]
    repeats: list[int] = each("parts put in order", join_part, tasks)
    for path in scratch.folder.glob("*-file*"):
        path.unlink()
    events = sum(file.said.events for file in read_files)
    users, items = len(raw_ids[USER]), len(raw_ids[ITEM])
    read_log.say_size(source, [events, users, items], sum(repeats))
    count = sessions.Count("log", users, items, None, events)
    types = sum((collections.Counter(file.types) for file in read_files), collections.Counter())
    return ReadLog(raw_ids, skipped, count, types)


def read_file(
    scratch: Scratch, source: read_log.Source, file: int, of_log: read_log.InPart
) -> FromFile:
    """Read a file, and write its events and its ids."""
    categories = read_log.new_categories(source)
    frame, said = read_log.read_file(source, of_log, categories)
    for name in categories:
        places, values = ids.different(frame[name])
        frame = frame.with_columns(places.cast(pl.UInt32).alias(name))
        write_soon_read(values.to_frame(RAW_ID), scratch.path(file, f"file-{name}s"))
    write_soon_read(frame, scratch.path(file, "file"))
    of_split = set(frame[PART].unique()) if PART in frame.columns else set()
    types = read_log.types(frame) if TYPE in frame.columns else {}
    return FromFile(said, types, of_split)


def spread_file(scratch: Scratch, file: int, parts: int) -> None:
    """Write the events of a file by part, with the indices of their ids in the log."""
    frame = pl.read_parquet(scratch.path(file, "file"), glob=False)
    for name in (USER, ITEM, SESSION):
        if name in frame.columns:
            index = pl.read_parquet(scratch.path(file, f"file-{name}-index"), glob=False)
            frame = frame.with_columns(index[INDEX].gather(frame[name]).alias(name))
    part = pl.Series(np.load(scratch.folder / "part.npy")).gather(frame[USER])
    for own in range(parts):
        write_soon_read(frame.filter(part == own), scratch.path(own, f"file-{file}"))


def join_part(scratch: Scratch, source: read_log.Source, part: int, files: int) -> int:
    """Write the events of a part in order, users and sessions numbered for themselves.

    Returns:
        How many events repeat another exactly.
    """
    of_files = [
        pl.read_parquet(scratch.path(part, f"file-{file}"), glob=False) for file in range(files)
    ]
    frame = read_log.in_order(pl.concat(of_files), source)
    del of_files
    for name in (USER, SESSION):
        if name in frame.columns:
            old = frame[name].unique().sort()
            raw_ids = pl.read_parquet(scratch.folder / f"{name}-ids.parquet", glob=False)[RAW_ID]
            table = pl.DataFrame({RAW_ID: raw_ids.gather(old), INDEX: old})
            write_soon_read(table, scratch.path(part, f"{name}s"))
            new = pl.Series(old.search_sorted(frame[name]), dtype=pl.UInt32)
            frame = frame.with_columns(new.alias(name))
    repeats = read_log.count_repeats(frame)
    frame = frame.rename({SESSION: sessions.GIVEN}, strict=False)
    write_soon_read(frame, scratch.path(part, "events-0"))
    return repeats


def _merged_ids(scratch: Scratch, name: str, files: int) -> pl.Series:
    """Return the ids of a log, and write the index among them of each different id of each file."""
    of_files = [
        pl.read_parquet(scratch.path(file, f"file-{name}s"), glob=False)[RAW_ID]
        for file in range(files)
    ]
    if not all(values.dtype.is_integer() for values in of_files):
        of_files = [values.cast(pl.String) for values in of_files]
    values = pl.concat(of_files)
    if not values.dtype.is_integer():
        values = values.cast(pl.Categorical(pl.Categories.random()))
    index, raw_ids = ids.index(values)
    begin = 0
    for file, of_file in enumerate(of_files):
        own = index.slice(begin, len(of_file)).cast(pl.UInt32)
        write_soon_read(own.to_frame(INDEX), scratch.path(file, f"file-{name}-index"))
        begin += len(of_file)
    return raw_ids
