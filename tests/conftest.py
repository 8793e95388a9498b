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
