"""Locks between processes."""

from __future__ import annotations

import fcntl
import os
import pathlib


class FileLock:
    """A lock on a file (flock), which the operating system releases when its holder ends.

    The holder may acquire it several times. It works between machines that share the file, if
    their file system has locks.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Open the file, or make it."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._depth = 0

    def acquire(self, wait: bool = True) -> bool:
        """Acquire the lock; return whether that succeeded, as it always does with `wait`."""
        if self._depth == 0:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Undo one `acquire`."""
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    @property
    def note(self) -> str:
        """What the last holder has written into the file."""
        return os.pread(self._file, 1024, 0).decode()

    @note.setter
    def note(self, text: str) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def close(self) -> None:
        """Release the lock, however often it was acquired, and close the file."""
        os.close(self._file)

    def __enter__(self) -> None:
        """Acquire the lock."""
        self.acquire()

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()
