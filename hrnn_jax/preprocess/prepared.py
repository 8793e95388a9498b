"""Write and read a prepared folder: the border between polars and the models.

events.parquet  user u32, session u32, item u32, time i64 (Unix seconds), test bool: a row per
                event in replay order (by user, then session, then place in the session); users
                and sessions numbered 0.. in that order, items 0..V-1 are those trained on, after
                those that were known before, if any
items.parquet   item u32, raw_id, support u32 (its training events)
users.parquet   user u32, raw_id
meta.json       see `_meta`
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax import atomic, errors
from hrnn_jax.config import DataConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.preprocess import read_log, sessions, statistics

FORMAT = 1  # count up when the same log and recipe prepare to something else
EVENTS, ITEMS, USERS, META = "events.parquet", "items.parquet", "users.parquet", "meta.json"
ELSEWHERE = "give another `prepared_dir`"
KEPT_META = "data.json"  # a run folder's copy of META, beside its ITEMS
USER, ITEM, SESSION, TIME = read_log.USER, read_log.ITEM, read_log.SESSION, read_log.TIME
TEST = sessions.TEST


def prepare(
    source: read_log.Source,
    recipe: DataConfig,
    root: pathlib.Path,
    *,
    known: Sequence[int] | Sequence[str] = (),
) -> pathlib.Path:
    """Prepare a log under `root`, or find it prepared; return its folder.

    known: raw ids of the items of an earlier log, which stay items 0, 1, ... in this order, whether
    this log has them or not. Ids are the same that are written the same, as integers or strings.
    The folder's name ends in a fingerprint of the file's content and all that decides what becomes
    of it, so a changed log or recipe is prepared anew, and an unchanged one is not read again.
    """
    digest = _digest(source.path)
    fingerprint = _fingerprint(source, recipe, digest, known)
    folder = root / f"{source.name}-{fingerprint[:12]}"
    if _is_complete(folder):
        return folder
    read = read_log.read(source)
    raw_ids = read.raw_ids
    known_ids = pl.Series(read_log.RAW_ID, known)
    known_as = _numbers(raw_ids[ITEM], known_ids)
    kept, counts = sessions.apply_recipe(
        read.frame, recipe, continued=known_as >= 0 if known else None
    )
    del read  # the log, several times what is kept
    tables = _tables(kept, raw_ids, known_ids, known_as)
    meta = _meta(source, recipe, digest, counts, tables[EVENTS], len(known))
    with atomic.writing(folder, elsewhere=ELSEWHERE) as partial:
        partial.mkdir()
        for name, table in tables.items():
            table.write_parquet(partial / name)
        (partial / META).write_text(json.dumps(meta, indent=2) + "\n")
        if not _is_complete(folder):  # else another process was faster, and may be reading it
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def _is_complete(folder: pathlib.Path) -> bool:
    return all((folder / name).exists() for name in (EVENTS, ITEMS, USERS, META))


def load(folder: pathlib.Path) -> EventLog:
    """Load a prepared folder as the models see it."""
    path, meta = folder / EVENTS, load_meta(folder)
    try:
        table = pl.read_parquet(path, columns=[USER, SESSION, ITEM, TIME, TEST])
        if len(table) != meta["table1"]["events"]:
            raise ValueError(f"{len(table)} events, not {meta['table1']['events']}")
        path = folder / ITEMS
        n_items = pl.scan_parquet(path).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    user, session, item = (
        table[name].to_numpy().astype(np.int32) for name in (USER, SESSION, ITEM)
    )
    return EventLog(
        user=user,
        session=session,
        item=item,
        time=table[TIME].to_numpy(),
        test=table[TEST].to_numpy(),
        n_items=n_items,
    )


def load_items(folder: pathlib.Path) -> list[int] | list[str]:
    """Load the raw ids of a prepared folder, or of a run folder, in the order of the items."""
    path = folder / ITEMS
    try:
        table = pl.read_parquet(path, columns=[ITEM, read_log.RAW_ID])
        if table[ITEM].to_list() != list(range(len(table))):
            raise ValueError("its items are not 0, 1, 2, ...")
        raw_ids = table[read_log.RAW_ID]
        if raw_ids.dtype not in (pl.Int64, pl.String) or raw_ids.has_nulls():
            raise ValueError("its ids are neither integers nor strings")
        if raw_ids.n_unique() < len(raw_ids):
            raise ValueError("an id occurs twice")
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        if (folder / META).exists():
            raise _damaged(path, error) from error
        raise errors.InputError(
            f"{path}: is missing or damaged ({errors.reason(error)}); run the command of that run "
            "again with `resume`, which writes the file anew"
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
        f"{path}: is missing or damaged ({errors.reason(error)}); delete {path.parent} and prepare "
        "again"
    )


def _digest(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError as error:
        raise errors.InputError(f"{path}: is a folder; give one file") from error
    except OSError as error:
        raise errors.InputError(
            f"{path}: cannot be read ({error.strerror}); give another file with `events`"
        ) from error


def _fingerprint(
    source: read_log.Source,
    recipe: DataConfig,
    digest: str,
    known: Sequence[int] | Sequence[str],
) -> str:
    decides = {
        "format": FORMAT,
        "log": digest,
        "columns": source.columns.by_name,
        "separator": source.separator,
        "suffix": read_log.suffix(source.path),
        "simulated": source.simulated,
        "shape": source.shape,
        "recipe": dataclasses.asdict(recipe),
        **({"known": list(known)} if known else {}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _numbers(raw_ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Return the place of each id among those that are known, -1 where it is not: [ids]."""
    places = pl.DataFrame({read_log.RAW_ID: known.cast(pl.String)}).with_row_index("place")
    ids = pl.DataFrame({read_log.RAW_ID: raw_ids.cast(pl.String)})
    found = ids.join(places, on=read_log.RAW_ID, how="left", maintain_order="left")["place"]
    return found.cast(pl.Int64).fill_null(-1).to_numpy()


def _tables(
    kept: pl.DataFrame, raw_ids: dict[str, pl.Series], known: pl.Series, known_as: np.ndarray
) -> dict[str, pl.DataFrame]:
    """Number what is left from 0, users and items in the order of their raw ids.

    Items that are known come first, in their order. known_as: see `_numbers`.
    """
    trained_items = kept.select(pl.col(ITEM).filter(~pl.col(TEST))).to_series().to_numpy()
    events_of = np.bincount(trained_items, minlength=len(known_as))
    new = (events_of > 0) & (known_as < 0)  # of those that are left, all that are not known
    number = np.where(new, len(known) + np.cumsum(new) - 1, known_as).astype(np.uint32)
    support = np.zeros(len(known) + np.count_nonzero(new), np.uint32)
    here = new | (known_as >= 0)
    support[number[here]] = events_of[here]
    new_ids, users = raw_ids[ITEM].filter(pl.Series(new)), kept[USER].unique().sort()
    if len(known) and known.dtype != new_ids.dtype:
        known, new_ids = known.cast(pl.String), new_ids.cast(pl.String)
    item_ids = pl.concat([known, new_ids]) if len(known) else new_ids
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
        ITEMS: pl.DataFrame({read_log.RAW_ID: item_ids}).select(
            index.alias(ITEM), read_log.RAW_ID, support=pl.Series(support)
        ),
        USERS: pl.DataFrame({read_log.RAW_ID: raw_ids[USER].gather(users)}).select(
            index.alias(USER), read_log.RAW_ID
        ),
    }


def _meta(
    source: read_log.Source,
    recipe: DataConfig,
    digest: str,
    counts: list[sessions.Count],
    table: pl.DataFrame,
    known_items: int,
) -> dict[str, Any]:
    """Say what the folder holds and how it came to be."""
    return {
        "format": FORMAT,
        "name": source.name,
        "data": "simulated" if source.simulated else "real",
        "shape": source.shape,
        "notes": list(source.notes),
        "source": {"path": str(source.path), "sha256": digest},
        "columns": source.columns.by_name,
        "recipe": dataclasses.asdict(recipe),
        "counts": [dataclasses.asdict(count) for count in counts],
        "known_items": known_items,
        "table1": statistics.table1(table),
        "table4": statistics.table4(table),
    }
