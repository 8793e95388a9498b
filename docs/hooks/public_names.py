"""The reference of the library's public names, each where its module defines it."""

from __future__ import annotations

import hrnn_jax

_PLACES: dict[str, str] = vars(hrnn_jax)["_PLACES"]  # name -> module
_shown: set[str] = set()


def section(*names: str) -> str:
    """Return the directives of some public names; of `rest`, those that no section named."""
    if names == ("rest",):
        names = tuple(sorted(set(hrnn_jax.__all__) - _shown - {"__version__"}))
    unknown = set(names) - set(hrnn_jax.__all__)
    if unknown:
        raise ValueError(f"the reference names what is not public: {', '.join(sorted(unknown))}")
    _shown.update(names)
    return "\n\n".join(_directive(name) for name in names)


def _directive(name: str) -> str:
    return f"::: hrnn_jax.{_PLACES[name]}.{name}"
