"""A disk below SQLite that loses power, gets full, fails to sync, and on which bits flip.

The files are real ones, as a running operating system shows them. Next to them the disk knows what
has been synced: the content that a power failure cannot take.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import pathlib
import random
from collections.abc import Generator
from typing import Any, NamedTuple

import apsw

NAME = "simulated disk"
SECTOR = 512
_BASE = "unix"


class Killed(BaseException):
    """The process was killed: nothing that it does from now on reaches the disk."""


class _Write(NamedTuple):
    path: str
    offset: int
    data: bytes

    def apply(self, files: dict[str, bytearray]) -> None:
        content = files.setdefault(self.path, bytearray())
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


class _Cut(NamedTuple):
    path: str
    size: int

    def apply(self, files: dict[str, bytearray]) -> None:
        content = files.setdefault(self.path, bytearray())
        del content[self.size :]


class _Removal(NamedTuple):
    path: str

    def apply(self, files: dict[str, bytearray]) -> None:
        files.pop(self.path, None)


class Disk(apsw.VFS):
    """The disk of one run; SQLite reaches it by the name `NAME`."""

    settles = False  # whether what a call that failed has done is known at once

    def __init__(self, folder: pathlib.Path, draw: random.Random):
        """Mount the disk.

        Args:
            folder: of the files.
            draw: what happens.
        """
        super().__init__(NAME, _BASE, makedefault=True)
        self.folder, self._draw = folder, draw
        self._synced: dict[str, bytearray] = {}
        self._unsynced: list[_Write | _Cut | _Removal] = []  # in order
        self.counts: collections.Counter[str] = collections.Counter()  # operations, and kills at
        self.dead = False
        self.kill_after: int | None = None  # operations
        self.room: int | None = None  # bytes that files may still grow by
        self.failing_syncs = 0  # the next ones
        apsw.randomness(0)  # SQLite draws anew, from xRandomness

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802
        return self._draw.randbytes(numbytes)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        first = self.before("remove", filename)
        if first:
            super().xDelete(filename, syncdir)
            self._unsynced.append(_Removal(filename))
            if syncdir:
                self._sync(filename)
        self.after()

    @property
    def faults(self) -> int:
        """Return how often a call was refused."""
        return self.counts["full"] + self.counts["failed sync"]

    def before(self, kind: str, path: str) -> bool:
        """Count an operation; return whether it happens if the process is killed at it.

        Raises:
            apsw.IOError: the process is dead.
        """
        if self.dead:
            raise apsw.exception_for(apsw.SQLITE_IOERR)
        self.counts[f"{kind} {_role(path)}"] += 1
        if self.kill_after is None:
            return True
        self.kill_after -= 1
        if self.kill_after >= 0:
            return True
        self.counts[f"kill at {kind} {_role(path)}"] += 1
        self.dead = True
        return self._draw.random() < 0.5

    def after(self) -> None:
        """End an operation: with an error if the process was killed at it."""
        if self.dead:
            raise apsw.exception_for(apsw.SQLITE_IOERR)

    def wrote(self, path: str, offset: int, data: bytes) -> None:
        self._unsynced.append(_Write(path, offset, data))

    def cut(self, path: str, size: int) -> None:
        self._unsynced.append(_Cut(path, size))

    def synced(self, path: str) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            self.counts["failed sync"] += 1
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        self._sync(path)

    def _sync(self, path: str) -> None:
        """Make a file durable, and the removals before it: a journal of the file system does."""
        self._synced.setdefault(path, bytearray())
        rest = []
        for operation in self._unsynced:
            if operation.path == path or isinstance(operation, _Removal):
                operation.apply(self._synced)
            else:
                rest.append(operation)
        self._unsynced = rest

    def pwrite(self, file: int, data: bytes, offset: int) -> None:
        """Write to the state file in the place of `os.pwrite`."""
        with self._as_os(file) as path:
            if self.before("clear", path):
                os.pwrite(file, data, offset)
                self.wrote(path, offset, data)
            self.after()

    def fsync(self, file: int) -> None:
        """Sync the state file in the place of `os.fsync`."""
        with self._as_os(file) as path:
            if self.before("sync", path):
                self.synced(path)
            self.after()

    @contextlib.contextmanager
    def _as_os(self, file: int) -> Generator[str]:
        """Return the path of a descriptor, and raise errors as the operating system does."""
        try:
            yield os.readlink(f"/proc/self/fd/{file}")
        except apsw.Error as error:
            if self.dead:
                raise Killed from None
            raise OSError(errno.EIO, "input/output error") from error

    def grow(self, n_bytes: int) -> None:
        """Take room for a file that grows."""
        if self.room is not None:
            if n_bytes > self.room:
                self.counts["full"] += 1
                raise apsw.exception_for(apsw.SQLITE_FULL)
            self.room -= n_bytes

    def restart(self) -> None:
        """Let a new process use the disk."""
        self.dead, self.kill_after, self.failing_syncs = False, None, 0

    def lose_power(self) -> None:
        """Drop unsynced operations: all, none or some of them, and sectors of writes."""
        share = self._draw.choice([0, 0.5, 1])
        for operation in self._unsynced:
            if self._draw.random() >= share:
                continue
            if isinstance(operation, _Write) and share == 0.5:
                for begin in range(0, len(operation.data), SECTOR):
                    if self._draw.random() < 0.8:
                        data = operation.data[begin : begin + SECTOR]
                        _Write(operation.path, operation.offset + begin, data).apply(self._synced)
            else:
                operation.apply(self._synced)
        self._unsynced = []
        for path in self.files():
            path.unlink()
        for name, content in self._synced.items():
            pathlib.Path(name).write_bytes(content)

    def write_back(self) -> None:
        """Sync all that is not, as the operating system does after a while."""
        for operation in self._unsynced:
            operation.apply(self._synced)
        self._unsynced = []

    def settle(self) -> None:
        """Take the files as they are for synced, after somebody else than SQLite changed them."""
        self._unsynced = []
        self._synced = {str(path): bytearray(path.read_bytes()) for path in self.files()}

    def files(self) -> list[pathlib.Path]:
        """Return the files of the folder."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def put(self, path: pathlib.Path, content: bytes | None) -> None:
        """Write or remove a file as an operator does, synced.

        An existing file is overwritten in its place, as by cp.
        """
        name = str(path)
        self._unsynced = [one for one in self._unsynced if one.path != name]
        self._synced.pop(name, None)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
            self._synced[name] = bytearray(content)

    def flip(self, path: pathlib.Path) -> int:
        """Flip one bit of a file, mostly of a byte that is not zero; return the byte's place."""
        content = bytearray(path.read_bytes())
        used = [place for place, byte in enumerate(content) if byte]
        place = self._draw.choice(used if self._draw.random() < 0.9 else range(len(content)))
        content[place] ^= 1 << self._draw.randrange(8)
        self.put(path, bytes(content))
        return place


class _File(apsw.VFSFile):
    """A file that SQLite has open."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk, self._path = disk, path
        creates = path is not None and not pathlib.Path(path).exists()
        if creates and not disk.before("create", path):
            disk.after()
        super().__init__(_BASE, name, flags)
        if creates:
            disk.after()

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self._disk.dead:
            raise apsw.exception_for(apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._path is None:
            super().xWrite(data, offset)
            return
        happens = self._disk.before("write", self._path)
        data = bytes(data)
        self._disk.grow(max(0, offset + len(data) - self.xFileSize()))
        if happens:
            super().xWrite(data, offset)
            self._disk.wrote(self._path, offset, data)
        self._disk.after()

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self._path is not None:
            happens = self._disk.before("cut", self._path)
            if happens:
                self._disk.cut(self._path, newsize)
            else:
                self._disk.after()
        super().xTruncate(newsize)
        self._disk.after()

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._path is not None:
            if self._disk.before("sync", self._path):
                self._disk.synced(self._path)
            self._disk.after()


def _role(path: str) -> str:
    """Return what a file is to SQLite."""
    return (
        {"l": "-wal", "m": "-shm", "k": "-journal"}.get(path[-1], "file")
        if "-" in path[-8:]
        else "file"
    )
