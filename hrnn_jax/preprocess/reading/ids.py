"""Ids of any type as integers or texts, and their indices."""

from __future__ import annotations

import numpy as np
import polars as pl

from hrnn_jax.errors import InputError
from hrnn_jax.ids_and_times import (
    CONTROL,
    ID_TYPES,
    INTEGRAL,
    MAX_FLOAT_ID,
    MAX_ID_BYTES,
    NO_ID,
)

MAX_SPAN = 4  # integers per event that ids may span to be indexed by a table of that span
_SHORTENED = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"  # as a spreadsheet writes long numbers
_MAX_FLOAT32_ID = 2**24


def values(dtype: pl.DataType, name: str, categories: pl.Categories, where: str) -> pl.Expr:
    """Return the expression that reads ids: integers, or categories, which take 4 bytes an event.

    Args:
        dtype: of the column.
        name: of the column.
        categories: of the texts.
        where: the file and the column, for messages.

    Raises:
        InputError: a column of the type holds no ids.
    """
    column = pl.col(name)
    if dtype.is_integer() and not isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128):
        return column  # in as few bytes as in the file
    if dtype.is_float():
        most = _MAX_FLOAT32_ID if isinstance(dtype, pl.Float32) else MAX_FLOAT_ID
        is_id = (column == column.floor()) & (column.abs() < most)
        return pl.when(is_id).then(column.cast(pl.Int64, strict=False)).alias(name)
    if isinstance(dtype, pl.Null):
        return column.cast(pl.Int64)
    texts = pl.String | pl.Categorical | pl.Enum | pl.Binary | pl.Decimal
    if dtype.is_integer() or isinstance(dtype, texts):
        return column.cast(pl.String).cast(pl.Categorical(categories))
    raise InputError(f"{where} holds {dtype}; {ID_TYPES}")


def problem(value: object, name: str) -> str:
    """Say what is wrong with the value of a row that `values` read as null."""
    if value is None or value != value:  # NaN
        return f"no {name} id"
    return f"the {name} id {value!r}: {ID_TYPES}"


def problems(texts: pl.Series, name: str, null_values: tuple[str, ...] | None) -> pl.Series:
    """Say what is wrong with each of the different ids of a role; null for good ones."""
    text = pl.first()
    shown = pl.format(f"the {name} id '{{}}'", text.str.slice(0, 20))
    no_id = () if null_values == () else NO_ID
    return (
        texts.to_frame()
        .select(
            pl.when(text == "")
            .then(pl.lit(f"no {name} id"))
            .when(text.is_in(no_id))
            .then(pl.format("{}, which stands for none", shown))
            .when(text.str.len_bytes() > MAX_ID_BYTES)
            .then(pl.format(f"{{}}...: ids have at most {MAX_ID_BYTES} bytes", shown))
            .when(text.str.contains(CONTROL))
            .then(pl.lit(f"a control character, such as a tab or a line end, in the {name} id"))
            .when(text.str.contains(_SHORTENED))
            .then(pl.format("{}, from which a spreadsheet has cut digits", shown))
        )
        .to_series()
    )


def index(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the index of each id among the sorted different ids, and those ids."""
    places, text = different(ids)
    if text.dtype.is_integer():
        return places, text
    whole = text.str.replace(INTEGRAL, "$1")
    if not whole.equals(text):  # 3.0 is 3: two texts may be one id
        places = (whole.rank("dense") - 1).gather(places)
        text = whole.unique().sort()
    number = text.cast(pl.Int64, strict=False)
    # "007" is not 7: ids count as integers only where every one is written as its integer is.
    raw_id = number if number.cast(pl.String).equals(text) else text
    order = raw_id.arg_sort()
    return order.arg_sort().gather(places), raw_id.gather(order)


def different(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the place of each id among the different ids, and those, as integers or texts."""
    places, unique = _index_integers(ids.to_physical())
    if ids.dtype.is_integer():
        return places, unique.cast(pl.Int64)
    return places, unique.cat.to(ids.dtype).cast(pl.String)


def _index_integers(keys: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return the index of each integer among the sorted different integers, and those integers."""
    values = keys.to_numpy().astype(np.int64)
    if not len(values):
        return pl.Series(dtype=pl.UInt32), keys
    low, high = int(values.min()), int(values.max())
    if high - low >= MAX_SPAN * len(values):
        return keys.rank("dense") - 1, keys.unique().sort()
    values -= low
    occurs = np.zeros(high - low + 1, bool)
    occurs[values] = True
    index = np.cumsum(occurs, dtype=np.uint32) - 1
    return pl.Series(index[values]), pl.Series(low + np.flatnonzero(occurs)).cast(keys.dtype)
