"""Write and read a prepared folder: the border between polars and the models.

events.parquet  user u32, session u32, item u32, time i64 (Unix seconds), test bool, and
                where the recipe needs them target and held, bool (see protocols.py): a row per
                event in replay order (by user, then session, then place in the session). Users
                and sessions are numbered 0.. in that order. Items 0..V-1 are those trained on: the
                items of the run that is continued, if one is, in the order they have there, then
                the others in the order of their raw ids
items.parquet   item u32, raw_id (i64 or str), support u32 (its training events)
users.parquet   user u32, raw_id (i64 or str)
sessions.parquet
                session u32, end f64 (Unix seconds of the session's last event in the log, also
                where a filter dropped that event), and raw_id (i64 or str) where the log has a
                session column
meta.json       format, name, data ("real" or "simulated"), shape (a key of statistics.PAPER or
                null), notes, source (path and sha256 of the log), columns (of the log, by name in
                the schema), reading (how else it was read: the settings of the ReadConfig that are
                not the usual ones), skipped (how many rows were dropped, and the first of them),
                recipe (the DataConfig), counts (users, items, sessions and events after each
                stage), known_items (how many the run that is continued has), table1 and table4 (see
                statistics.py)

A folder of P > 1 parts is of format 4. It has the tables of events, users and sessions by part, as
in events-0-of-4.parquet, and in meta.json parts, a list of users, sessions and events of each part.
A user's part is the CRC-32 of the text of the raw id, modulo P. Users, sessions and items have the
numbers that they have in a folder of one part, so that those of a part have gaps.

The folder's name ends in a fingerprint of the log's content and of all settings that decide what
the folder holds. Format 1 has neither sessions.parquet nor reading, and formats 1 and 2 have
neither target nor held; such folders are still used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax.config import MAX_GAP_MINUTES, DataConfig, ReadConfig
from hrnn_jax.errors import InputError, reason
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic
from hrnn_jax.preprocess import parts as split_parts
from hrnn_jax.preprocess import read_log
from hrnn_jax.preprocess.protocols import MARKS, TEST
from hrnn_jax.preprocess.read_log import ITEM, RAW_ID, SESSION, TIME, TYPE, USER
from hrnn_jax.preprocess.reading import files
from hrnn_jax.preprocess.sessions import apply_recipe, refuse_unknown_types
from hrnn_jax.preprocess.statistics import table1, table4
from hrnn_jax.preprocess.user_parts import passes, tables
from hrnn_jax.preprocess.user_parts.parallel import Parts
from hrnn_jax.preprocess.user_parts.tables import END, EVENTS, ITEMS, SESSIONS, USERS

FORMAT = 3  # count up when a folder holds something else; FORMATS can be read
IN_PARTS = 4  # the format of a folder of several parts
FORMATS = (1, 2, FORMAT, IN_PARTS)
PREPARES = 1  # count up when the same log and recipe prepare to other events: it is in the name
META = "meta.json"
_OF_ALL_FORMATS = (  # what the meta.json of each format has
    *("name", "data", "shape", "notes", "source", "columns", "recipe", "counts", "known_items"),
    *("table1", "table4"),
)
# Settings that came later: folders without them keep their names.
_LATER_SETTINGS = ("protocol", "test_days", "task", "train_on_validation")
KEPT_META = "data.json"  # a run folder's copy of META, next to its ITEMS
ELSEWHERE = "give another `prepared_dir`"
ONE = Parts()


def prepare(
    source: read_log.Source,
    recipe: DataConfig,
    prepared_dir: pathlib.Path | str,
    *,
    continued_items: Sequence[int] | Sequence[str] = (),
    parts: Parts = ONE,
) -> pathlib.Path:
    """Prepare a log, unless it is prepared already.

    Args:
        source: the log.
        recipe: how to cut, filter and split it.
        prepared_dir: the folder that holds the prepared folders.
        continued_items: raw ids of the items of the run that is continued. They stay items 0, 1,
            ... in this order, whether this log has them or not. Two ids are equal where their
            texts are.
        parts: in how many parts, and by which workers. The workers do not change the folder.

    Returns:
        The prepared folder.

    Raises:
        InputError: the log cannot be read, a filter leaves no user, or there is no room.
    """
    prepared_dir, recipe = pathlib.Path(prepared_dir), _of_times(source, recipe)
    digest = files.digest(source.path)
    fingerprint = _fingerprint(source, recipe, digest, continued_items, parts.count)
    folder = prepared_dir / f"{source.name}-{fingerprint[:12]}"
    if _is_complete(folder):
        return folder
    atomic.remove_interrupted(folder)
    if parts.count == 1:
        left = _left(source, recipe, continued_items)
        write = functools.partial(tables.write, left=left)
    else:
        write = functools.partial(
            passes.write, source=source, recipe=recipe, known=continued_items, parts=parts
        )
    with atomic.writing(folder, elsewhere=ELSEWHERE) as partial:
        partial.mkdir()
        written = write(partial)
        meta = {
            "format": IN_PARTS if written.parts else FORMAT,
            "name": source.name,
            "data": "simulated" if source.simulated else "real",
            "shape": source.shape,
            "notes": list(source.notes),
            "source": {"path": str(source.path), "sha256": digest},
            "columns": source.columns.by_name,
            "reading": source.reading.changed,
            "skipped": dataclasses.asdict(written.skipped),
            "recipe": dataclasses.asdict(recipe),
            "counts": [dataclasses.asdict(count) for count in written.counts],
            "known_items": len(continued_items),
            "table1": table1(written.measured),
            "table4": table4(written.measured),
            **({"parts": written.parts} if written.parts else {}),
        }
        (partial / META).write_text(json.dumps(meta, indent=2) + "\n")
        if not _is_complete(folder):  # else another process was faster, and may be reading it
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def load(folder: pathlib.Path | str, parts: Sequence[int] | None = None) -> EventLog:
    """Load the events of a prepared folder.

    Args:
        folder: the prepared folder.
        parts: the numbers of the parts to load: only their files are read. Users, sessions and
            items keep their numbers among those of all parts. All parts by default, which are the
            events of a folder of one part in its order.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    folder = pathlib.Path(folder)
    path, meta = folder / EVENTS, load_meta(folder)
    table = load_table(folder, EVENTS, parts)
    try:
        table = table.select(USER, SESSION, ITEM, TIME, TEST, *_marks(table.columns)[1:])
        expected = meta["table1"]["events"]
        if parts is not None:
            expected = sum(of_part["events"] for of_part in _parts_of(meta, parts))
        if len(table) != expected:
            raise ValueError(f"{len(table)} events, not {expected}")
        path = folder / ITEMS
        n_items = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    user, session, item = (
        table[name].to_numpy().astype(np.int32) for name in (USER, SESSION, ITEM)
    )
    marks = {name: table[name].to_numpy() for name in _marks(table.columns)}
    return EventLog(
        user=user,
        session=session,
        item=item,
        time=table[TIME].to_numpy(),
        n_items=n_items,
        has_times=meta["columns"]["time"] is not None,
        **marks,
    )


def load_table(folder: pathlib.Path, name: str, parts: Sequence[int] | None = None) -> pl.DataFrame:
    """Load a table of a prepared folder, of all parts or of some.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    count = 1 if name == ITEMS else len(load_meta(folder).get("parts", [None]))
    loaded, path = [], folder / name
    for part in range(count) if parts is None else parts:
        if not 0 <= part < count:
            raise InputError(f"`parts`: {folder} has the parts 0 to {count - 1}, not {part}")
        path = folder / tables.file_name(name, part, count)
        try:
            loaded.append(pl.read_parquet(path, glob=False))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _damaged(path, error) from error
    if len(loaded) == 1:
        return loaded[0]
    # A user is in one part, so that the order of users is that of their sessions.
    return pl.concat(loaded).sort(SESSION if name == SESSIONS else USER, maintain_order=True)


def load_sessions(folder: pathlib.Path | str) -> pl.DataFrame | None:
    """Load the ends and ids of the sessions of a prepared folder; None for one of format 1.

    Raises:
        InputError: the file is missing or damaged; the message names it.
    """
    folder = pathlib.Path(folder)
    path = folder / SESSIONS
    if not has_ends(folder):
        return None
    table = load_table(folder, SESSIONS)
    try:
        numbers = pl.int_range(len(table), dtype=pl.UInt32, eager=True)  # a list takes far more
        if not table[SESSION].equals(numbers) or END not in table.columns:
            raise ValueError("it has not the sessions 0, 1, 2, ... with their ends")
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return table


def has_ends(folder: pathlib.Path) -> bool:
    """Tell whether a prepared folder knows how its sessions ended: one of format 1 does not.

    Raises:
        InputError: see `load_meta`.
    """
    return load_meta(folder)["format"] > 1


def load_items(folder: pathlib.Path | str) -> list[int] | list[str]:
    """Load the raw ids of the items of a prepared folder, or of a run folder, by index.

    Raises:
        InputError: the file is missing or damaged; the message names it.
    """
    folder = pathlib.Path(folder)
    path = folder / ITEMS
    try:
        table = pl.read_parquet(path, columns=[ITEM, RAW_ID], glob=False)
        if table[ITEM].to_list() != list(range(len(table))):
            raise ValueError("its items are not 0, 1, 2, ...")
        raw_ids = table[RAW_ID]
        if not isinstance(raw_ids.dtype, pl.Int64 | pl.String) or raw_ids.has_nulls():
            raise ValueError("its ids are neither integers nor strings")
        if raw_ids.n_unique() < len(raw_ids):
            raise ValueError("an id occurs twice")
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        if (folder / META).exists():
            raise _damaged(path, error) from error
        raise InputError(
            f"{path}: is missing or damaged ({reason(error)}); run the command of that run "
            "again with `resume`, which writes the file anew"
        ) from error
    return raw_ids.to_list()


def load_meta(folder: pathlib.Path | str) -> dict[str, Any]:
    """Load the meta.json of a prepared folder.

    Raises:
        InputError: the file is missing or damaged, or of another format.
    """
    folder = pathlib.Path(folder)
    try:
        meta = json.loads((folder / META).read_text())
        if meta["format"] not in FORMATS:
            raise ValueError(f"format {meta['format']}, not {FORMAT}")
        if lacking := [name for name in _OF_ALL_FORMATS if name not in meta]:
            raise ValueError(f"it has no {', '.join(lacking)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / META, error) from error
    return meta


def source_of(meta: Mapping[str, Any], path: pathlib.Path | None = None) -> read_log.Source:
    """Return how the log of a prepared folder was read, to read it or another one alike.

    Args:
        meta: the content of its meta.json.
        path: of the other log.
    """
    # Format 1 did not say how; only this data set was read with a setting of its own.
    reading = meta.get("reading", {"separator": "\t"} if meta["name"] == "xing" else {})
    columns = read_log.Columns.of(meta["columns"])
    path = path or pathlib.Path(meta["source"]["path"])
    return read_log.Source(meta["name"], path, columns, ReadConfig.of(reading))


def _of_times(source: read_log.Source, recipe: DataConfig) -> DataConfig:
    """Return the recipe without a gap that ends sessions, where the log has no times."""
    if source.columns.part_column is not None and recipe.protocol != "given":
        raise InputError(
            "`part_column` has no effect without `protocol`=given: drop it, or give that"
        )
    if TIME in source.named:
        return recipe
    if recipe.protocol == "global_time":
        raise InputError(
            "`protocol`=global_time needs times; name their column with `time_column`, or choose "
            "another protocol"
        )
    if recipe.session_gap_minutes not in (DataConfig.session_gap_minutes, MAX_GAP_MINUTES):
        raise InputError(
            f"`session_gap_minutes`={recipe.session_gap_minutes:g} needs times; name their column "
            "with `time_column`, or drop it"
        )
    return dataclasses.replace(recipe, session_gap_minutes=MAX_GAP_MINUTES)


def _left(
    source: read_log.Source, recipe: DataConfig, continued_items: Sequence[int] | Sequence[str]
) -> tables.Left:
    """Read a log, and return what the recipe leaves of it."""
    log = read_log.read(source, parts=recipe.protocol == "given")
    items = tables.items_of(source.path, log.raw_ids[ITEM], continued_items)
    if TYPE in log.frame.columns and not continued_items:  # a newer log may lack a type
        refuse_unknown_types(read_log.types(log.frame), recipe.drop_types)
    # The frame of the log, which takes several times the memory of what is left, is not kept.
    events, ends, counts = apply_recipe(log.frame, recipe, continued=items.continued)
    return tables.Left(events, ends, counts, log.raw_ids, log.skipped, items)


def _is_complete(folder: pathlib.Path) -> bool:
    if not all((folder / name).exists() for name in (ITEMS, META)):
        return False
    try:
        meta = load_meta(folder)
    except InputError:
        return True  # whoever reads it says what is damaged
    count = len(meta.get("parts", [None]))
    names = [EVENTS, USERS, *([SESSIONS] if meta["format"] > 1 else [])]
    return all(
        (folder / tables.file_name(name, part, count)).exists()
        for name in names
        for part in range(count)
    )


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: is missing or damaged ({reason(error)}); delete {path.parent} and prepare again"
    )


def _fingerprint(
    source: read_log.Source,
    recipe: DataConfig,
    digest: str,
    continued_items: Sequence[int] | Sequence[str],
    parts: int,
) -> str:
    # Logs that need no setting keep the names that their folders had before there were any.
    kept = {
        name: value
        for name, value in dataclasses.asdict(recipe).items()
        if name not in _LATER_SETTINGS or value != getattr(DataConfig, name)
    }
    reading = {name: of for name, of in source.reading.changed.items() if name != "separator"}
    decides = {
        "format": PREPARES,
        "log": digest,
        "columns": source.columns.by_name,
        "separator": source.reading.separator,
        "suffix": files.formats(source.path),
        "simulated": source.simulated,
        "shape": source.shape,
        "recipe": kept,
        **({"reading": reading} if reading else {}),
        **({"known": list(continued_items)} if continued_items else {}),
        **({"parts": parts} if parts > 1 else {}),
        **({"named": _named_parts(source)} if recipe.protocol == "given" else {}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _named_parts(source: read_log.Source) -> list[str]:
    """Return the part of a split that the name of each file tells; none with a column of parts."""
    if source.columns.part_column is not None:
        return []
    return [split_parts.of_name(file.path) for file in files.find(source.path)]


def _marks(columns: Sequence[str]) -> list[str]:
    """Return the columns of events that say what is held out, `TEST` first."""
    return [name for name in MARKS if name in columns]


def _parts_of(meta: Mapping[str, Any], parts: Sequence[int]) -> list[Mapping[str, int]]:
    """Return what some parts of a folder hold."""
    return [meta.get("parts", [meta["table1"]])[part] for part in parts]
