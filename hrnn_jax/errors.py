"""The errors that a command reports in one line."""


class InputError(ValueError):
    """The user's to mend: say what is wrong, where (file, row, flag) and what to do about it."""


class DivergedError(ArithmeticError):
    """The loss is not a number any more: say which seed, epoch and step."""


class StorageError(OSError):
    """What is kept cannot be written or read: nothing was changed, nor acknowledged."""
