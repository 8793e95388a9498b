"""Pages of the state file and of the -wal next to it, as far as SQLite does not look after them.

- SQLite takes any -wal next to a file for the file's own: a copy that was put back would be mixed
  with pages of later states. Here each -wal begins with page 1, in which `application_id` is the
  `user_version` that the file has without the -wal, and `user_version` is a new one.
- `secure_delete` writes zeros over deleted rows, but where SQLite moves rows to another page it may
  leave copies of them in the unused part of the first one.
"""

from __future__ import annotations

import os
import pathlib
import sqlite3
from collections.abc import Iterable

_WAL_HEADER, _FRAME_HEADER = 32, 24
_USER_VERSION, _APPLICATION_ID = slice(60, 64), slice(68, 72)  # in page 1
_TREE_PAGES = {2: 12, 5: 12, 10: 8, 13: 8}  # bytes of a page's header by its first byte
_MOST_PAGES = 2**24  # of a larger file other pages may begin with one of these bytes


def begin_wal(db: sqlite3.Connection) -> None:
    """Let the -wal begin with page 1; all that it had before is in the file."""
    [old] = db.execute("PRAGMA user_version").fetchone()
    [new] = db.execute("SELECT abs(random()) % 2147483647 + 1").fetchone()
    db.execute("BEGIN IMMEDIATE")
    with db:
        db.execute(f"PRAGMA application_id = {old}")
        db.execute(f"PRAGMA user_version = {new}")


def versions_of_wal(wal: pathlib.Path) -> set[int]:
    """Return the `user_version` before and after a -wal; an empty set where it has none."""
    with wal.open("rb") as file:
        content = file.read(_WAL_HEADER + _FRAME_HEADER + _APPLICATION_ID.stop)
    frame, page = content[_WAL_HEADER:], content[_WAL_HEADER + _FRAME_HEADER :]
    if len(page) < _APPLICATION_ID.stop or _number(frame[:4]) != 1:
        return set()
    versions = {_number(page[_USER_VERSION]), _number(page[_APPLICATION_ID])}
    # The first -wal of a file begins where that has no version: 0.
    return versions if any(versions) else set()


def pages_of_wal(wal: pathlib.Path) -> set[int]:
    """Return the numbers of the pages in a -wal, of earlier uses of its bytes too."""
    content = wal.read_bytes() if wal.exists() else b""
    step = _FRAME_HEADER + _number(content[8:12])
    begins = range(_WAL_HEADER, len(content) - step + 1, step) if content else ()
    return {_number(content[begin : begin + 4]) for begin in begins}


def clear_unused_parts(file: int, pages: Iterable[int] | None) -> None:
    """Write zeros over the unused parts of pages, and sync the file.

    Nothing reads these parts, so that a process may be killed at any byte.

    Args:
        file: descriptor of the state file; its -wal has been written into it.
        pages: numbers of pages; None for all.
    """
    size = _number(os.pread(file, 2, 16))
    size = 65_536 if size == 1 else size
    n_pages = os.fstat(file).st_size // size
    if n_pages >= _MOST_PAGES:
        return
    every = range(1, n_pages + 1)
    for number in every if pages is None else sorted(set(pages).intersection(every)):
        page = os.pread(file, size, (number - 1) * size)
        header = 100 if number == 1 else 0
        if len(page) < size or page[header] not in _TREE_PAGES:
            continue
        # After the header and the places of the rows; the rows are at the page's end.
        n_rows, rows = (
            _number(page[header + 3 : header + 5]),
            _number(page[header + 5 : header + 7]),
        )
        begin = header + _TREE_PAGES[page[header]] + 2 * n_rows
        zeros = bytes(max(0, rows - begin))
        if page[begin:rows] != zeros:
            os.pwrite(file, zeros, (number - 1) * size + begin)
    os.fsync(file)


def sync(wal: pathlib.Path) -> None:
    """Wait until a -wal is on the disk as it is; SQLite does not, where it has cut one."""
    if wal.exists():
        descriptor = os.open(wal, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _number(big_endian: bytes) -> int:
    return int.from_bytes(big_endian, "big")
