"""The bytes of a text file as UTF-8, which is all that polars reads."""

from __future__ import annotations

import codecs
import gzip
import pathlib
import zlib

import polars as pl

from hrnn_jax.errors import InputError

Text = pathlib.Path | bytes  # UTF-8: a file as it is, or its content
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_HEAD = 1 << 16  # bytes
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS = (
    (b"PAR1", "a Parquet file: its name must end in .parquet"),
    (b"PK\x03\x04", "a zip archive or a workbook of Excel: unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel: save it as CSV"),
    (b"SQLite format 3", "a SQLite database: export the table as CSV"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"Obj\x01", "an Avro file: write it as Parquet"),
    (b"ORC", "an ORC file: write it as Parquet"),
    (b"BZh", "compressed by bzip2: unpack it"),
    (b"\xfd7zXZ", "compressed by xz: unpack it"),
    (b"\x89HDF", "an HDF5 file: write it as Parquet"),
)


def open_text(path: pathlib.Path, encoding: str | None) -> Text:
    """Return a text file in UTF-8, with lines that end in a line feed.

    Args:
        path: of the file; its compression is known by its first bytes.
        encoding: that of the file; by default UTF-8, or UTF-16 where it begins so.

    Returns:
        The path where polars reads the file itself, else its content.

    Raises:
        InputError: the file holds another format, or not the encoding.
    """
    with path.open("rb") as file:
        start = file.read(max(len(mark) for mark, _ in _OTHER_FORMATS))
    for mark, what in _OTHER_FORMATS:
        if start.startswith(mark):
            raise InputError(f"{path}: is {what}")
    for mark, ending in ((GZIP, ".gz"), (ZSTD, ".zst")):
        if start.startswith(mark) and path.suffix.lower() != ending:
            raise InputError(f"{path}: is compressed: its name must end in {ending}")
    head = _head(path, start)
    encoding = encoding or _encoding(head)
    if start.startswith(ZSTD) and _encoding(head) in ("utf-16-le", "utf-16-be"):
        raise not_utf8(path)
    mac = b"\r" in head and b"\n" not in head
    if encoding is None and not mac and not (start.startswith(GZIP) and _is_padded(path)):
        return path
    content = unpacked(path)
    try:
        text = content.decode(encoding or "utf-8")
    except LookupError as error:
        raise InputError(f"`encoding`={encoding}: there is no encoding of this name") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not written in {encoding or 'UTF-8'} (byte {error.start}): give its "
            "`encoding`, such as latin-1 or cp1252"
        ) from error
    text = text.removeprefix("\ufeff")
    return (text.replace("\r", "\n") if mac else text).encode()


def not_utf8(path: pathlib.Path) -> InputError:
    """Return the error of a text file in another encoding that polars reads itself."""
    if path.suffix.lower() == ".zst":
        return InputError(
            f"{path}: text inside zstd is read in UTF-8 alone, and this is in another encoding: "
            "run `zstd -d` on it, and give its `encoding` unless it is UTF-16"
        )
    return InputError(
        f"{path}: is not written in UTF-8: give its `encoding`, such as latin-1 or cp1252"
    )


def unpacked(path: pathlib.Path) -> bytes:
    """Return the content of a file, unpacked."""
    with path.open("rb") as file:
        start = file.read(len(ZSTD))
    if start.startswith(ZSTD):
        return "\n".join(pl.scan_lines(path, glob=False).collect().to_series()).encode() + b"\n"
    if start.startswith(GZIP):
        with gzip.open(path) as file:
            return file.read()
    return path.read_bytes()


def _head(path: pathlib.Path, start: bytes) -> bytes:
    """Return the first bytes of the file, unpacked."""
    if start.startswith(ZSTD):
        lines = pl.scan_lines(path, glob=False, n_rows=1).collect().to_series()
        return "\n".join(lines).encode() + b"\n"
    try:
        with gzip.open(path) if start.startswith(GZIP) else path.open("rb") as file:
            return file.read(_HEAD)
    except (EOFError, OSError, zlib.error):  # damaged: its reader says so
        return b""


def _encoding(head: bytes) -> str | None:
    """Return the encoding that a file begins with, None for UTF-8 without a mark."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    few = head[: min(len(head), 100) // 2 * 2]  # one byte more after zstd, by whole lines
    if len(few) > 3:  # Western text in UTF-16: each second byte is 0
        if not any(few[1::2]):
            return "utf-16-le"
        if not any(few[::2]):
            return "utf-16-be"
    return None


def _is_padded(path: pathlib.Path) -> bool:
    """Tell whether a compressed file ends in zeros, as on a tape: polars refuses these."""
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), 2)
        return not any(file.read())
