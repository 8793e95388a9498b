"""Parquet files."""

from __future__ import annotations

import gzip
import io
import os
import pathlib

import polars as pl

from hrnn_jax.errors import InputError

from .table import Table, input_errors

# Polars refuses a file with a time zone such as +05:30, even in a column that is not read. Instants
# are stored in UTC whatever the zone, so its name is not needed.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")


def open_parquet(path: pathlib.Path) -> Table:
    """Open a Parquet file.

    Raises:
        InputError: it is none, or is inside zstd.
    """
    with input_errors(path):
        scan = pl.scan_parquet(_unpacked(path), glob=False, hive_partitioning=False)
        return Table(scan, scan.collect_schema().names())


def _unpacked(path: pathlib.Path) -> pathlib.Path | io.BytesIO:
    """Decompress a Parquet file into memory, as it is read from its end."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as file:
            return io.BytesIO(file.read())
    if path.suffix.lower() == ".zst":
        raise InputError(
            f"{path}: Parquet inside zstd cannot be read; run `zstd -d` on it (Parquet compresses "
            "its columns itself)"
        )
    return path
