"""One process at a time writes into a run folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
from collections.abc import Generator

from hrnn_jax import errors
from hrnn_jax.files.file_lock import FileLock

FILE = "lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path, argument: str) -> Generator[None]:
    """Keep other writers out of a run folder while the block runs; the folder is made.

    The operating system releases the lock when its holder ends, by kill -9 too, so no run waits
    for a dead one. On a network drive it also holds between machines, where the drive has locks; a
    line says where it has none. A run of several processes takes it in one of them. The file stays:
    removed, it could be locked twice. It holds the process id and the machine of its last holder.

    Args:
        folder: Of the run.
        argument: What names it, for messages.

    Raises:
        InputError: Another process holds the lock, or the folder cannot be written.
    """
    path = folder / FILE
    fresh, made = not path.exists(), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
    except OSError as error:
        raise errors.InputError(
            f"cannot write `{argument}`={folder}: {error.strerror}; choose another folder"
        ) from error
    try:
        _acquire(lock, folder, argument)
        try:
            yield
        finally:
            if fresh and not (folder / "recipe.json").exists():
                path.unlink()  # it has not become a run's folder
                if made:
                    with contextlib.suppress(OSError):  # it holds something else
                        folder.rmdir()
    finally:
        lock.close()


def _acquire(lock: FileLock, folder: pathlib.Path, argument: str) -> None:
    try:
        if not lock.acquire(wait=False):
            raise errors.InputError(
                f"another process{_named(lock.note)} writes in {folder}: wait for it, or choose "
                f"another `{argument}`"
            )
    except OSError as error:
        print(
            f"{folder}: this drive has no locks ({error.strerror}): nothing keeps a second "
            "process from writing there",
            flush=True,
        )
        return
    with contextlib.suppress(OSError):  # on a full disk: the run's first file says so
        lock.note = f"{os.getpid()} {socket.gethostname()}\n"


def _named(note: str) -> str:
    """Name the process that holds the lock, and its machine where that is another."""
    pid, _, host = note.strip().partition(" ")
    if not pid:  # it has just begun
        return ""
    return f" (pid {pid})" if host == socket.gethostname() else f" (pid {pid} on {host})"
