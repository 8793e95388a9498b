"""The state file on disk: the files next to it, its errors in one line, and whether it is lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import sqlite3
from collections.abc import Generator

from hrnn_jax import errors
from hrnn_jax.files import atomic
from hrnn_jax.live.store import sqlite_pages

IN_MEMORY = ":memory:"  # in the place of a path
_LOCKED_BYTES = 512, 0x4000_0000  # number and first one of those that SQLite locks in a file

# Codes of SQLite's errors, and what is raised for them; the last row is for all other codes.
_ERRORS = (
    (
        (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
        errors.InputError,
        "is in use by another process: end it, or give another file",
    ),
    (
        (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
        errors.StorageError,
        "cannot be written ({}): make room on its disk, or see what is wrong with the disk",
    ),
    (
        (sqlite3.SQLITE_READONLY,),
        errors.StorageError,
        "cannot be written ({}): give the process the right to write it and its folder",
    ),
    (
        (sqlite3.SQLITE_CANTOPEN,),
        errors.InputError,
        "cannot be opened ({}): give a file in a folder that can be written",
    ),
    (
        range(256),
        errors.StorageError,
        "is damaged ({}): move it away together with the files {beside} that are next to it, then "
        "put back a copy of it, or start without states",
    ),
)


def _beside(path: pathlib.Path | str) -> list[pathlib.Path]:
    """Return the files that SQLite keeps next to a state file, whether they exist or not."""
    return [pathlib.Path(f"{os.path.realpath(path)}{end}") for end in ("-wal", "-shm", "-journal")]


def wal_of(path: pathlib.Path | str) -> pathlib.Path:
    """Return the path of the -wal of a state file."""
    return _beside(path)[0]


def refuse_strays(path: pathlib.Path | str) -> None:
    """Check that a state file which is to be opened or made has no files of another one next to it.

    SQLite takes them for its own, and reads the states of the other file out of them. A -journal
    that is left of making a file, by a process that was killed, is removed: it holds nothing.

    Args:
        path: of the state file.

    Raises:
        InputError: names the files; or another process is making the state file.
    """
    if path == IN_MEMORY:
        return
    file, wal = pathlib.Path(path), wal_of(path)
    journal = _beside(path)[-1]
    if is_new(file) and journal.exists() and _is_of_new_file(journal):
        _refuse_in_use(file)
        journal.unlink()
    strays = [stray.name for stray in _beside(path) if stray.exists()]
    it_is, them, they_do = ("are", "them", "do") if len(strays) > 1 else ("is", "it", "does")
    if is_new(file):
        if strays:
            _refuse_in_use(file)
            raise errors.InputError(
                f"{path} does not exist, but {' and '.join(strays)} of a former one {they_do}: "
                f"move {them} away, or put the file back"
            )
    elif wal.exists() and not _is_wal_of(wal, file):
        _refuse_in_use(file)
        raise errors.InputError(
            f"{' and '.join(strays)} next to {path} {it_is} of another state file: move {them} "
            "away, or put the other file back"
        )


def is_new(file: pathlib.Path) -> bool:
    """Tell whether a state file is still to be made: one without a byte holds no state."""
    return not (file.exists() and file.stat().st_size)


def remove_empty(file: pathlib.Path) -> None:
    """Remove a state file without a byte, as a start that failed may have left it.

    Raises:
        InputError: another process is making the state file.
    """
    if file.exists() and is_new(file):
        _refuse_in_use(file)
        file.unlink()


@contextlib.contextmanager
def writing_new(path: pathlib.Path | str) -> Generator[pathlib.Path]:
    """Write a new state file together with what it is to hold at first: all of it, or no file.

    Args:
        path: of the file, or a link to where it is to be made.

    Yields:
        The path to write it at. When the block ends, the file there becomes that at `path`.

    Raises:
        InputError: the file cannot be written, or another process has made one meanwhile.
    """
    path = pathlib.Path(path).resolve()
    refuse_strays(path)
    atomic.remove_interrupted(path)
    with atomic.writing(path) as partial:
        yield partial
        made = errors.InputError(f"{path} was made meanwhile: is another service starting?")
        if not is_new(path):
            raise made
        refuse_strays(path)
        remove_empty(path)
        try:
            path.hardlink_to(partial)  # to rename would replace what another process has just made
        except FileExistsError:
            raise made from None
        except OSError:  # a file system without links
            pass


def _refuse_in_use(file: pathlib.Path) -> None:
    """Raise InputError if another process has a state file open: the files next to it are its own.

    They do not look so while that process makes the file. Closing the file here ends the locks that
    this process has on it, which it has none of before it has opened it.
    """
    if not file.exists():
        return
    with contextlib.suppress(OSError), file.open("rb") as opened:
        try:
            fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB, *_LOCKED_BYTES)
        except BlockingIOError:
            _, kind, text = _ERRORS[0]
            raise _about(file, kind, text) from None


def _is_of_new_file(journal: pathlib.Path) -> bool:
    """Tell whether a -journal was begun when its file had no page, or has no header at all."""
    with journal.open("rb") as file:
        return not any(file.read(20)[16:])  # the number of pages


def _is_wal_of(wal: pathlib.Path, file: pathlib.Path) -> bool:
    """Tell whether a -wal can be of a state file: it can where one of both does not say."""
    versions = sqlite_pages.versions_of_wal(wal)
    try:
        # Immutable: without the -wal. SQLite opens it, as closing a file ends locks of the process.
        uri = f"{file.absolute().as_uri()}?immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            return not versions or db.execute("PRAGMA user_version").fetchone()[0] in versions
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return True  # damaged, as will be found when it is opened


@contextlib.contextmanager
def one_line_errors(path: pathlib.Path | str) -> Generator[None]:
    """Raise an error of SQLite as one line that names the file and says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError as error:  # of a closed connection
        text = "is closed: load the recommender again"
        raise _about(path, errors.InputError, text) from error
    except errors.StorageError:
        raise
    except (OSError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # UnicodeDecodeError: of a name in SQLite's message.
        of_system = isinstance(error, OSError)
        default = sqlite3.SQLITE_IOERR if of_system else sqlite3.SQLITE_CORRUPT
        code = getattr(error, "sqlite_errorcode", default) & 0xFF
        if code == sqlite3.SQLITE_IOERR and not _has_right_to_write(path):
            code = sqlite3.SQLITE_READONLY  # of a file system that is mounted so, SQLite says IOERR
        kind, text = next((kind, text) for codes, kind, text in _ERRORS if code in codes)
        # What a check finds is a text of several lines.
        words = errors.reason(error) if of_system else " ".join(str(error).split())
        beside = ", ".join(path.name for path in _beside(path))
        raise _about(path, kind, text.format(words, beside=beside)) from error


def _has_right_to_write(path: pathlib.Path | str) -> bool:
    file = pathlib.Path(path).absolute()
    return all(os.access(each, os.W_OK) for each in (file, file.parent) if each.exists())


def _about(
    path: pathlib.Path | str, kind: type[errors.InputError | errors.StorageError], text: str
) -> errors.InputError | errors.StorageError:
    """Return an error about the state file."""
    error = kind(f"{path} {text}")
    error.public = f"the state file {text}"
    return error


class FileWatch:
    """Notices that an open state file, or the -wal next to it, is no longer the one at its path.

    SQLite goes on with the files that it has open, also where others stand at their paths: what it
    writes would be gone with the process.
    """

    def __init__(self, path: pathlib.Path | str):
        """Watch a state file, whose identity the first call of `check` takes down.

        Args:
            path: of the file; `IN_MEMORY` has none to watch.
        """
        path_of_main = pathlib.Path(path).absolute()  # a link to another file is one put in place
        self._paths = [] if path == IN_MEMORY else [path_of_main, wal_of(path)]
        # Device, inode and size.
        self._known: dict[pathlib.Path, tuple[int, int, int]] = {}

    @property
    def wal_size(self) -> int:
        """Return the bytes of the -wal at the last check."""
        return sum(self._known[path][2] for path in self._paths[1:] if path in self._known)

    def expect_empty_wal(self) -> None:
        """Take down that this process has emptied the -wal."""
        for path in self._paths[1:]:
            if known := self._known.get(path):
                self._known[path] = (*known[:2], 0)

    def check(self) -> None:
        """Check that the files are those of the last call; neither gets smaller by itself.

        Raises:
            StorageError: one was removed, replaced or cut.
        """
        for path in self._paths:
            try:
                found = os.stat(path)
                now = found.st_dev, found.st_ino, found.st_size
            except OSError:
                now = None
            known = self._known.get(path)
            if known and (now is None or now[:2] != known[:2] or now[2] < known[2]):
                raise _about(
                    path,
                    errors.StorageError,
                    "was removed, replaced or cut while in use: restart the service, or load the "
                    "recommender again",
                )
            if now:
                self._known[path] = now
