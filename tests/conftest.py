"""Strictness for all tests; warnings are errors too (pyproject.toml)."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # commands run in tests would turn it on
