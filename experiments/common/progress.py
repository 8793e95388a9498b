"""A progress bar on a terminal, nothing in a pipe: there, the commands' own lines tell."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import tqdm


@contextlib.contextmanager
def bar(title: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Show title, share done, rate and time left; yields advance(n, **values to show)."""
    with tqdm.tqdm(
        total=total,
        desc=title,
        unit=f" {unit}",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ) as shown:

        def advance(n: int, **values: str) -> None:
            shown.set_postfix(values, refresh=False)
            shown.update(n)

        yield advance
