"""Strictness for all tests; warnings are errors too (pyproject.toml)."""

import sys

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # commands run in tests would turn it on


@pytest.fixture(autouse=True)
def _hooks(monkeypatch):
    """Take back the hook that a command keeps to the end of its process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Let go of what a file's tests compiled.

    Each program is some maps of memory, of which Linux gives a process 65,530: with those of all
    tests it runs out of them, and ends by a segmentation fault.
    """
    yield
    jax.clear_caches()
