"""The name of this package, which is `experiments` in a checkout and another one when installed."""

from __future__ import annotations

assert __package__ is not None
PACKAGE = __package__.rpartition(".")[0]


def module(name: str) -> str:
    """Return the full name of a module, as `python -m` wants it: of "run", experiments.run."""
    return f"{PACKAGE}.{name}"
