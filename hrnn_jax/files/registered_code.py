"""The code behind registered names: a run folder says which code made it, and has a copy.

A name of this package stands for the same code in every run of a version; a registered one stands
for what its file holds at the time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pathlib
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["loss", "model"]
SOURCES: dict[tuple[Kind, str], bytes] = {}  # by kind and name
_DIGITS = 12


def note(kind: Kind, name: str, function: Callable[..., Any]) -> None:
    """Keep a registered function's source.

    Args:
        kind: what it is registered as.
        name: its name there.
        function: its whole file counts, as it may call others in it; of a notebook's function its
            own text. What its file imports does not count.
    """
    SOURCES[kind, name] = _source(function)


def of(model: str, loss: str | None) -> str | None:
    """Return the digest of the code that a run's registered name stands for; None without one.

    Args:
        model: the name of the model.
        loss: of a network, the name of its loss.
    """
    source = text(model, loss)
    return None if source is None else hashlib.sha256(source).hexdigest()[:_DIGITS]


def text(model: str, loss: str | None) -> bytes | None:
    """Return the code that a run's registered name stands for; None without one, see `of`.

    It is empty where no text of it is left.
    """
    return SOURCES.get(("model", model) if loss is None else ("loss", loss))


def _source(function: Callable[..., Any]) -> bytes:
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    where: Any = function if inspect.isroutine(function) else type(function)
    try:
        if file := inspect.getsourcefile(where):
            path = pathlib.Path(file)
            return path.read_bytes() if path.is_file() else inspect.getsource(where).encode()
    except (OSError, TypeError):
        pass
    return b""  # no text of it is left: it was typed at a prompt, or made by exec
