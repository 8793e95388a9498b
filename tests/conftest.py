"""Strictness for all tests; warnings are errors too (pyproject.toml)."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
