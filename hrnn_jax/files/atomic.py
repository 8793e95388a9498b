"""The one way to write a file: under another name first, then renamed.

A reader sees the old file or the new one, never half of one, also after a power cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from hrnn_jax.errors import InputError, StorageError, reason

PARTIAL = ".partial"  # ends the name of a file that is being written
_ELSEWHERE = "choose another folder"


def write(
    path: Path, content: str | bytes | Callable[[Path], object], *, elsewhere: str = _ELSEWHERE
) -> None:
    """Write a file that only this process writes.

    Args:
        path: where the file is to be; its folder exists. Until it is complete its name ends in
            `PARTIAL`.
        content: a text, bytes, or a function that writes the file at the path it is given.
        elsewhere: what the error message advises if there is no room here.

    Raises:
        InputError: the file cannot be written, on a full disk say. Nothing of it is left, and an
            older file at `path` stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    with _reported(path, elsewhere):
        try:
            if callable(content):
                content(partial)
            elif isinstance(content, str):
                partial.write_text(content)
            else:
                partial.write_bytes(content)
            _sync(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they do not exist.

    Args:
        path: of the folder.

    Raises:
        InputError: the folder cannot be made, as where a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {path}: {reason(error)}; choose another folder") from error


@contextlib.contextmanager
def writing(path: Path, *, elsewhere: str = _ELSEWHERE, replaces: bool = False) -> Generator[Path]:
    """Write a file or folder that several processes may write at the same time.

    A folder that another process has put at `path` meanwhile stays, unless `replaces`; a file is
    replaced.

    Args:
        path: where the file or folder is to be; the folder above it is made.
        elsewhere: what the error message advises if there is no room here.
        replaces: whether a folder at `path` is replaced; a link to one stays, and leads to the new
            one.

    Yields:
        A free path of the same name, in a temporary folder next to `path`. The file or folder
        that stands there when the block ends is renamed to `path`; after an error it is removed.

    Raises:
        InputError: as `write` does.
    """
    with _reported(path, elsewhere):
        path = path.resolve() if replaces else path
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as parent,
            _locked(Path(parent)),
        ):
            partial = Path(parent) / path.name
            yield partial
            for file in partial.iterdir() if partial.is_dir() else [partial]:
                _sync(file)
            if replaces and path.is_dir():
                _exchange(partial, path, Path(parent) / "replaced")
                return
            try:
                partial.replace(path)
            except OSError:
                if not path.is_dir():
                    raise


def remove_interrupted(path: Path) -> None:
    """Remove the temporary folders that killed processes left of what `writing` should write.

    Empty ones stay.

    Args:
        path: where the file or folder was to be.
    """
    for folder in path.parent.glob(f".{glob.escape(path.name)}-*"):
        if not re.fullmatch("[a-z0-9_]{8}", folder.name.rpartition("-")[2]) or not folder.is_dir():
            continue
        # Its process may end meanwhile, and removes it then.
        with contextlib.suppress(FileNotFoundError):
            # An empty folder may be new: its process locks it before it writes into it.
            if any(folder.iterdir()):
                with _locked(folder) as is_left:
                    if is_left:
                        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[bool]:
    """Lock a folder while its process writes; yield whether that was possible."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # by another process, or the file system has no locks
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)


def _exchange(partial: Path, path: Path, replaced: Path) -> None:
    """Rename a folder to the name of another one, which is moved away first."""
    try:
        path.rename(replaced)
        partial.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise


def _sync(path: Path) -> None:
    """Wait until the file is on the disk: a rename may otherwise be kept without the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reported(path: Path, elsewhere: str) -> Generator[None]:
    """Raise the operating system's errors as InputError, also those that polars wraps in its own.

    Polars is not imported for that: its messages end in "(os error 28)", say.
    """
    try:
        yield
    except StorageError:  # names its file and reason itself
        raise
    except Exception as error:
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise InputError(
            f"cannot write {path}: {reason(error)}; make room there, or {elsewhere}"
        ) from error
