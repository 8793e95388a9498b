"""Optuna's record of a study's trials, and the lock under which processes write it."""

from __future__ import annotations

import fcntl
import os
import pathlib

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hrnn_jax import errors


class Lock:
    """A lock between processes, also for Optuna's journal; its holder may acquire it again.

    Optuna's own lock is a file that a killed process leaves behind; the others wait 30 s for it.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Open the file to lock, which nobody removes."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._depth = 0

    def acquire(self) -> bool:
        """Wait for the lock."""
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._depth += 1
        return True

    def release(self) -> None:
        """Release it, once for each time that it was acquired."""
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> None:
        """Acquire it."""
        self.acquire()

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()


def open_storage(journal: pathlib.Path, lock: Lock) -> JournalStorage:
    """Open Optuna's record of a study's trials, or make it.

    Args:
        journal: The file.
        lock: Held by the caller, and taken by Optuna when it writes.

    Raises:
        InputError: The file is damaged.
    """
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a full disk cut the last line short; Optuna cannot read past it
            os.truncate(journal, whole)
    try:
        return JournalStorage(
            JournalFileBackend(str(journal), lock)  # pyright: ignore[reportArgumentType]
        )
    except (ValueError, KeyError) as error:
        raise errors.InputError(
            f"{journal} is damaged: remove {journal.parent} and start again"
        ) from error
