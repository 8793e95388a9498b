"""The floors of the benchmark: the least time that the same work can take.

A floor computes every matrix product of a step, or of ranking, and nothing else. Operands are
random arrays of the right shapes. One number of each product leaves the scan, so that the compiler
keeps the product, and is written into its left operand, so that it cannot be moved out of the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hrnn_jax.config import ModelConfig

BLOCK = 128  # cases whose scores are held at a time


class Floor:
    """A compiled program and its operands on the device."""

    def __init__(self, program: Callable[..., object], *operands: object) -> None:
        """Compile a function for these operands."""
        self.operands = jax.device_put(operands)
        self.compiled = jax.jit(program).lower(*self.operands).compile()

    def __call__(self) -> Any:
        """Run the program and wait for its end."""
        return jax.block_until_ready(self.compiled(*self.operands))


def products(
    config: ModelConfig, batch: int, opening: int, candidates: int
) -> list[tuple[int, int, int]]:
    """Return the rows, inner size and columns of each product of an update, forward and backward.

    Args:
        config: The model.
        batch: Lanes B.
        opening: W, the lanes that open a session of a known user: they run GRU_usr and Eq. 4.
        candidates: Items that a step's lanes are scored against.
    """
    b, w, h, c = batch, opening, config.hidden_units, candidates
    # GRU_ses (Eq. 1): gates, and candidate of r h; scores of the candidates.
    shapes = [(b, h, 2 * h), (b, h, h), (b, h, c)]
    # Back to the hidden state and to r h; gradients of item_out, cand and gates.
    shapes += [(b, c, h), (b, h, h), (c, b, h), (h, b, h), (h, b, 2 * h)]
    if config.embedding != "none":  # the input of GRU_ses, and both gradients
        shapes += [(b, h, 3 * h), (b, 3 * h, h), (h, b, 3 * h)]
    if config.hierarchical and w:
        # GRU_usr (Eq. 3): input, gates, candidate; Eq. 4.
        shapes += [(w, h, 3 * h), (w, h, 2 * h), (w, h, h), (w, h, h)]
        # Back to the opened states, the only ones whose h has a gradient, through Eq. 4, to r c.
        shapes += [(w, 2 * h, h), (w, h, h), (w, h, h)]
        # Gradients of init, user_cand, user_gates and user_in.
        shapes += [(h, w, h), (h, w, h), (h, w, 2 * h), (h, w, 3 * h)]
    if config.variant == "hrnn_all":
        # Eq. 5, its gradient, and back to the user states of the opening lanes, the only new ones.
        given = 3 * h if config.user_input == "full" else 2 * h
        shapes += [(b, h, given), (h, b, given), (w, given, h)]
    return [shape for shape in shapes if all(shape)]


def step(config: ModelConfig, *, batch: int, opening: int, steps: int, candidates: int) -> Floor:
    """Compile the matrix products of training steps.

    Args:
        config: The model.
        batch: Lanes B.
        opening: W, as for `products`.
        steps: Number of steps.
        candidates: As for `products`.

    Returns:
        A function that runs them once.
    """
    rng = np.random.default_rng(0)
    shapes = products(config, batch, opening, candidates)
    lefts = [rng.standard_normal((rows, inner), np.float32) for rows, inner, _ in shapes]
    # Below 1, so that what is written into the left operands does not grow from step to step.
    rights = [
        rng.random((inner, columns), np.float32) / np.float32(inner) for _, inner, columns in shapes
    ]

    def floor(lefts: list[jax.Array], rights: list[jax.Array]) -> tuple[list, list]:
        def update(lefts: list[jax.Array], _: None) -> tuple[list, list]:
            pairs = zip(lefts, rights, strict=True)
            kept = [(left @ right)[0, 0] for left, right in pairs]
            return [a.at[0, 0].set(x) for a, x in zip(lefts, kept, strict=True)], kept

        return jax.lax.scan(update, lefts, None, length=steps)

    return Floor(floor, lefts, rights)


def scores(n_cases: int, n_items: int, units: int) -> Floor:
    """Compile the product of [cases, H] and [H, V], `BLOCK` cases at a time.

    Args:
        n_cases: Number of cases.
        n_items: Items V.
        units: Units H.

    Returns:
        A function that computes it once.
    """
    rng = np.random.default_rng(0)
    block = min(BLOCK, n_cases)
    hidden = rng.standard_normal((-(-n_cases // block), block, units), np.float32)
    item_out = rng.standard_normal((n_items, units), np.float32)

    def floor(hidden: jax.Array, item_out: jax.Array) -> jax.Array:
        return jax.lax.map(lambda block: (block @ item_out.T)[0, 0], hidden)

    return Floor(floor, hidden, item_out)
