"""The columns of a table by role, and a row for each item of a cell."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import polars as pl
import polars.selectors as cs

from hrnn_jax.errors import InputError

from .table import ITEM, ROW, UNEQUAL, Table, has_column

LIST, SPACE = "list", "space"  # values of `explode`


def by_role(
    table: Table, named: Mapping[str, str], explode: str | None, path: pathlib.Path
) -> pl.LazyFrame:
    """Return the columns that are read, under the names of their roles.

    Args:
        table: as a reader opened it.
        named: the name of the column of each role; a.b is field b of column a.
        explode: what separates the items of a cell, see `ReadConfig`.
        path: for messages.

    Returns:
        The columns in the types of the file. Where cells are taken apart also `ROW`, the place of
        the row from 0. Where several lists are, `UNEQUAL` too: of a row whose lists have different
        lengths the first of their values are one row.

    Raises:
        InputError: a column is one of several of its name, or has lists and `explode` is not given.
    """
    for role, column in named.items():
        if column in table.duplicated:
            raise InputError(
                f"{path}: has several columns {column!r}: rename those that are not the {role}'s"
            )
    scan = table.scan
    frame = scan.select(
        _field(scan.collect_schema(), column).alias(role) for role, column in named.items()
    )
    schema = frame.collect_schema()
    lists = [name for name, dtype in schema.items() if isinstance(dtype, pl.List | pl.Array)]
    if explode is None:
        for role in lists:
            raise InputError(
                f"{path}: column {named[role]!r} holds {schema[role]}, several values in a cell: "
                "give `explode`=list to make an event of each"
            )
        return frame
    frame = frame.with_row_index(ROW)
    if explode == LIST:
        if ITEM not in lists:
            raise InputError(
                f"{path}: `explode`=list needs lists, and column {named[ITEM]!r} holds "
                f"{schema[ITEM]}: give what separates its items, as in `explode`=space"
            )
        if len(lists) == 1:
            return frame.explode(lists, empty_as_null=False).filter(pl.col(ITEM).is_not_null())
        return _together(frame, lists, schema)
    if lists:
        raise InputError(f"{path}: column {named[lists[0]]!r} holds lists: give `explode`=list")
    text = pl.col(ITEM).cast(pl.String)
    items = text.str.extract_all(r"\S+") if explode == SPACE else text.str.split(explode)
    exploded = frame.with_columns(items.alias(ITEM)).explode(ITEM, empty_as_null=False)
    if explode != SPACE:
        exploded = exploded.with_columns(pl.col(ITEM).str.strip_chars(" "))
    return exploded.filter(pl.col(ITEM).is_not_null() & (pl.col(ITEM) != ""))


def _together(frame: pl.LazyFrame, lists: Sequence[str], schema: pl.Schema) -> pl.LazyFrame:
    """Take lists of one length apart together, and mark the rows of other lists."""
    arrays = [name for name in lists if isinstance(schema[name], pl.Array)]
    frame = frame.with_columns(pl.col(name).arr.to_list() for name in arrays)
    length, *others = (pl.col(name).list.len().fill_null(0) for name in lists)
    is_unequal = pl.any_horizontal(length != other for other in others)
    frame = frame.with_columns(is_unequal.alias(UNEQUAL)).with_columns(
        pl.when(is_unequal)
        .then(pl.concat_list(pl.col(name).list.first()))
        .when(length > 0)  # else null: polars takes no empty list apart together with a null
        .then(pl.col(name))
        .alias(name)
        for name in lists
    )
    exploded = frame.explode(lists, empty_as_null=False)
    return exploded.filter(pl.col(ITEM).is_not_null() | pl.col(UNEQUAL))


def missing(table: Table, named: Mapping[str, str]) -> dict[str, str]:
    """Return the roles whose columns the table lacks, with the names that were looked for."""
    lacking = {}
    schema = table.scan.collect_schema()
    for role, column in named.items():
        if not has_column(table.names, column) or not has_field(schema, column):
            lacking[role] = column
    return lacking


def has_field(schema: pl.Schema, column: str) -> bool:
    """Tell whether a column, or a field of one as in `events.item`, is among those of a schema."""
    if column in schema:
        return True
    for name, dtype in schema.items():
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if column.startswith(f"{name}.") and isinstance(inner, pl.Struct):
            fields = pl.Schema({field.name: field.dtype for field in inner.fields})
            return has_field(fields, column.removeprefix(f"{name}."))
    return False


def _field(schema: pl.Schema, column: str) -> pl.Expr:
    """Return a column by its exact name, which is no pattern, or a field of one."""
    if column in schema:
        return cs.by_name(column).as_expr()
    [outer] = [name for name in schema if column.startswith(f"{name}.")][:1]
    return _inner(cs.by_name(outer).as_expr(), schema[outer], column.removeprefix(f"{outer}."))


def _inner(expression: pl.Expr, dtype: pl.DataType, field: str) -> pl.Expr:
    if isinstance(dtype, pl.List):
        element = _inner(pl.element(), dtype.inner, field)  # pyright: ignore[reportArgumentType]
        return expression.list.eval(element)
    assert isinstance(dtype, pl.Struct)
    types = {of.name: of.dtype for of in dtype.fields}
    name = field if field in types else field.partition(".")[0]
    rest = field.removeprefix(name).removeprefix(".")
    inner = expression.struct.field(name)
    return _inner(inner, types[name], rest) if rest else inner  # pyright: ignore[reportArgumentType]
