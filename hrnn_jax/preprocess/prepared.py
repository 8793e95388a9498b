"""Write and read a prepared folder: the border between polars and the models.

events.parquet  user u32, session u32, item u32, time i64 (Unix seconds), test bool: a row per
                event in replay order (by user, then session, then place in the session); users
                and sessions numbered 0.. in that order, items 0..V-1 are those trained on
items.parquet   item u32, raw_id, support u32 (its training events)
users.parquet   user u32, raw_id
meta.json       see `_meta`
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax import log as log_lib
from hrnn_jax.preprocess import describe, events, sessions

FORMAT = 1  # count up when the same log and recipe prepare to something else
EVENTS, ITEMS, USERS, META = "events.parquet", "items.parquet", "users.parquet", "meta.json"
USER, ITEM, SESSION, TIME = events.USER, events.ITEM, events.SESSION, events.TIME
TEST = sessions.TEST


def prepare(source: events.Source, recipe: sessions.Recipe, root: pathlib.Path) -> pathlib.Path:
    """Prepare a log under `root`, or find it prepared; return its folder.

    The folder's name ends in a fingerprint of the file's content and all that decides what becomes
    of it, so a changed log or recipe is prepared anew, and an unchanged one is not read again.
    """
    digest = _digest(source.path)
    fingerprint = _fingerprint(source, recipe, digest)
    folder = root / f"{source.name}-{fingerprint[:12]}"
    if _is_complete(folder):
        return folder
    read = events.read(source)
    raw_ids = read.raw_ids
    kept, counts = sessions.apply(read.frame, recipe)
    del read  # the log, several times what is kept
    tables = _tables(kept, raw_ids)
    meta = _meta(source, recipe, digest, counts, tables[EVENTS])
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{source.name}-") as parent:
            beside = pathlib.Path(parent) / folder.name
            beside.mkdir()
            for name, table in tables.items():
                table.write_parquet(beside / name)
            (beside / META).write_text(json.dumps(meta, indent=2) + "\n")
            try:
                os.replace(beside, folder)
            except OSError:  # it is there
                if not _is_complete(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    os.replace(beside, folder)
                # Else another process was faster, and may be reading it.
    except OSError as error:
        raise errors.InputError(
            f"{root}: cannot be written ({error.strerror}); give another --prepared_dir"
        ) from error
    return folder


def _is_complete(folder: pathlib.Path) -> bool:
    return all((folder / name).exists() for name in (EVENTS, ITEMS, USERS, META))


def load(folder: pathlib.Path) -> log_lib.EventLog:
    """Load a prepared folder as the models see it."""
    path, meta = folder / EVENTS, load_meta(folder)
    try:
        table = pl.read_parquet(path, columns=[USER, SESSION, ITEM, TIME, TEST])
        if len(table) != meta["table1"]["events"]:
            raise ValueError(f"{len(table)} events, not {meta['table1']['events']}")
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    user, session, item = (
        table[name].to_numpy().astype(np.int32) for name in (USER, SESSION, ITEM)
    )
    return log_lib.EventLog(
        user=user,
        session=session,
        item=item,
        time=table[TIME].to_numpy(),
        test=table[TEST].to_numpy(),
        n_items=meta["table1"]["items"],
    )


def load_items(folder: pathlib.Path) -> list[int] | list[str]:
    """Load the raw ids of a prepared folder, or of a run folder, in the order of the items."""
    path = folder / ITEMS
    try:
        table = pl.read_parquet(path, columns=[ITEM, events.RAW_ID])
        if table[ITEM].to_list() != list(range(len(table))):
            raise ValueError("its items are not 0, 1, 2, ...")
        raw_ids = table[events.RAW_ID]
        if raw_ids.dtype not in (pl.Int64, pl.String) or raw_ids.has_nulls():
            raise ValueError("its ids are neither integers nor strings")
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        if (folder / META).exists():
            raise _damaged(path, error) from error
        raise errors.InputError(
            f"{path}: is missing or damaged ({_reason(error)}); run the command of that run "
            "again with --resume, which writes the file anew"
        ) from error
    return raw_ids.to_list()


def load_meta(folder: pathlib.Path) -> dict[str, Any]:
    """Load what `prepare` wrote about a folder (see `_meta`)."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']}, not {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / META, error) from error
    return meta


def _damaged(path: pathlib.Path, error: Exception) -> errors.InputError:
    return errors.InputError(
        f"{path}: is missing or damaged ({_reason(error)}); delete {path.parent} and prepare again"
    )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _digest(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError as error:
        raise errors.InputError(f"{path}: is a folder; give one file") from error
    except OSError as error:
        raise errors.InputError(
            f"{path}: cannot be read ({error.strerror}); see --events"
        ) from error


def _fingerprint(source: events.Source, recipe: sessions.Recipe, digest: str) -> str:
    decides = {
        "format": FORMAT,
        "log": digest,
        "columns": dataclasses.asdict(source.columns),
        "separator": source.separator,
        "suffix": events.suffix(source.path),
        "simulated": source.simulated,
        "shape": source.shape,
        "recipe": dataclasses.asdict(recipe),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _tables(kept: pl.DataFrame, raw_ids: dict[str, pl.Series]) -> dict[str, pl.DataFrame]:
    """Number what is left from 0, users and items in the order of their raw ids."""
    support = np.bincount(kept.select(pl.col(ITEM).filter(~pl.col(TEST))).to_series().to_numpy())
    trained = support > 0  # all items that are left are
    number = np.cumsum(trained, dtype=np.uint32) - 1
    items, users = pl.Series(np.flatnonzero(trained)), kept[USER].unique().sort()
    user, session = pl.col(USER), pl.col(SESSION)
    numbered = kept.lazy().select(
        # Users and sessions are contiguous, in order.
        (user != user.shift()).fill_null(False).cum_sum().cast(pl.UInt32),
        (session != session.shift()).fill_null(False).cum_sum().cast(pl.UInt32),
        pl.lit(pl.Series(number)).gather(pl.col(ITEM)).alias(ITEM),
        pl.col(TIME).dt.epoch("s").alias(TIME),
        pl.col(TEST),
    )
    index = pl.int_range(pl.len(), dtype=pl.UInt32)
    return {
        EVENTS: numbered.collect(),
        ITEMS: pl.DataFrame({events.RAW_ID: raw_ids[ITEM].gather(items)}).select(
            index.alias(ITEM),
            events.RAW_ID,
            support=pl.Series(support[trained].astype(np.uint32)),
        ),
        USERS: pl.DataFrame({events.RAW_ID: raw_ids[USER].gather(users)}).select(
            index.alias(USER), events.RAW_ID
        ),
    }


def _meta(
    source: events.Source,
    recipe: sessions.Recipe,
    digest: str,
    counts: list[sessions.Count],
    table: pl.DataFrame,
) -> dict[str, Any]:
    """Say what the folder holds and how it came to be."""
    return {
        "format": FORMAT,
        "name": source.name,
        "data": "simulated" if source.simulated else "real",
        "shape": source.shape,
        "notes": list(source.notes),
        "source": {"path": str(source.path), "sha256": digest},
        "columns": dataclasses.asdict(source.columns),
        "recipe": dataclasses.asdict(recipe),
        "counts": [dataclasses.asdict(count) for count in counts],
        "table1": describe.table1(table),
        "table4": describe.table4(table),
    }
