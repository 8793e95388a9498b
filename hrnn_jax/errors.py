"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Say in one line what is wrong, where (file, row, flag) and what to do about it."""
