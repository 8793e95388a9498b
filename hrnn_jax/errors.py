"""The errors that a caller may catch; all others are faults of this package.

Each message is one line: what is wrong, where (file, row or argument), and what to do about it.
An argument is named in backquotes, which commands turn into the flag of that name.
"""

import os
import re


class InputError(ValueError):
    """Invalid user input: an argument, a file or folder, an event, or a folder without room.

    Attributes:
        public: the message without the path that is in it; None if it has none of the state file.
    """

    public: str | None = None


class DivergedError(ArithmeticError):
    """The loss is not a number any more: names the seed, epoch and step. Lower the learning rate.

    Raised by training alone.
    """


class StorageError(OSError):
    """The state file cannot be written or read: no state was changed, no event acknowledged.

    Raised by `hrnn_jax.live` alone. The same call may succeed later.

    Attributes:
        public: as of `InputError`.
    """

    public: str | None = None


def reason(error: BaseException) -> str:
    """Return in a few words why a file could not be read or written.

    Args:
        error: the operating system's error, or that of a reader or writer which gives the system's
            error number in its text: "os error 28" (polars), "os_error_code='28'" (orbax),
            "[Errno 28]" (shutil).

    Returns:
        The operating system's description, or else the first line of the error's text.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip() or repr(error)
    if "allow_pickle" in text:  # numpy advises to load it unsafely
        return "it is no file of arrays"
    number = re.search(r"(?:os error |os_error_code='|\[Errno )(\d+)", text)
    return os.strerror(int(number[1])) if number else text.splitlines()[0][:200]
