"""JSON lines: an object in each line."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Collection, Sequence

import polars as pl

from hrnn_jax.config import ReadConfig
from hrnn_jax.errors import InputError

from . import lines
from .fields import has_field
from .table import BadRow, Table, has_column, input_errors
from .text import Text, open_text, unpacked

_SAMPLE = 1000  # lines that show which columns there are, where they have all that are needed


def open_json_lines(path: pathlib.Path, config: ReadConfig, wanted: Collection[str]) -> Table:
    """Open a file of JSON lines.

    Args:
        path: of the file.
        config: how to read it.
        wanted: the columns that are needed.

    Returns:
        The table, with all values as text, so that 10 and "10" are the same id. Only objects and
        lists keep their form, with texts in them.

    Raises:
        InputError: it is no text, or none of its lines is an object.
    """
    text = open_text(path, config.encoding)
    with input_errors(path):
        if isinstance(text, pathlib.Path) and set(str(text)) & set("[]*?{}"):
            text = unpacked(text)  # polars takes such a name as a pattern
        try:
            return _table(text, wanted)
        except pl.exceptions.PolarsError:
            if _is_array(text):
                raise InputError(
                    f"{path}: is a JSON array; write an object in each line, as `jq -c '.[]'` does"
                ) from None
            return _by_line(text, wanted)


def _table(
    text: Text,
    wanted: Collection[str],
    rows: pl.Series | None = None,
    bad: Sequence[BadRow] = (),
) -> Table:
    schema = pl.scan_ndjson(text, infer_schema_length=_SAMPLE).collect_schema()
    if not all(has_field(schema, of) and schema.get(of) != pl.Null for of in wanted):
        schema = pl.scan_ndjson(text, infer_schema_length=None).collect_schema()
    first = pl.scan_lines(text, glob=False, n_rows=1).collect().item()
    kept = {
        name: _texts(dtype) if any(has_column([name], column) for column in wanted) else pl.String()
        for name, dtype in schema.items()
    }
    return Table(
        pl.scan_ndjson(text, schema=kept),
        list(schema),
        is_text=True,
        duplicated=lines.json_duplicates(first),
        rows=rows,
        bad=bad,
        numbers=None if rows is not None else functools.partial(_numbers, text),
        by_line=None if rows is not None else functools.partial(_by_line, text, wanted),
        lines=functools.partial(_lines, text, rows),
    )


def _texts(dtype: pl.DataType) -> pl.DataType:
    """Return the type with text in place of numbers and truth values."""
    if isinstance(dtype, pl.List):
        return pl.List(_texts(dtype.inner))  # pyright: ignore[reportArgumentType]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _texts(field.dtype) for field in dtype.fields})  # pyright: ignore[reportArgumentType]
    return pl.String()


def _numbered(text: Text) -> pl.LazyFrame:
    scan = pl.scan_lines(text, glob=False, name="line").with_row_index("row", 1)
    return scan.filter(pl.col("line").str.strip_chars() != "")


def _numbers(text: Text) -> pl.Series:
    return _numbered(text).select("row").collect(engine="streaming").to_series()


def _lines(text: Text, rows: pl.Series | None, numbers: Sequence[int]) -> list[str]:
    if rows is not None:  # the text has the good rows alone
        place = {row: at for at, row in enumerate(rows, start=1)}
        numbers = [place[number] for number in numbers]
    found = _numbered(text).filter(pl.col("row").is_in(list(numbers))).select("line").collect()
    return found.to_series().to_list()


def _is_array(text: Text) -> bool:
    """Tell whether the text is one JSON array, in a line or with its bracket in the first one."""
    first, *others = _numbered(text).head(2).collect()["line"].str.strip_chars().to_list() or [""]
    return first == "[" or (first.startswith("[") and not others)


def _by_line(text: Text, wanted: Collection[str]) -> Table:
    """Read the file anew, without the lines that are no objects."""
    numbered = _numbered(text).collect()
    good, rows, bad = [], [], []
    for row, line in numbered.iter_rows():
        if problem := lines.json_problem(line):
            bad.append(BadRow(row, problem))
        else:
            good.append(line)
            rows.append(row)
    content = "".join(f"{line}\n" for line in good).encode()
    return _table(content, wanted, pl.Series("row", rows, pl.UInt32), bad)
