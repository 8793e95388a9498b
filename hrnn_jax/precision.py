"""Networks are computed in 32 bits."""

import jax

from hrnn_jax.errors import InputError


def check_precision() -> None:
    """Raise InputError where jax is set to 64 bits: states and weights would not fit each other."""
    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(
            "jax is set to 64 bits (JAX_ENABLE_X64=1 or jax_enable_x64), and networks are computed "
            "in 32: unset it before they are used"
        )
