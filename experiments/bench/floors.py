"""The floors of the benchmark: the least time that the same work can take.

A floor computes every matrix product of a step, or of ranking, and nothing else. One number of each
product leaves the scan, so that the compiler keeps the product; the operands change from step to
step, so that it cannot be moved out of the scan. Operands are random arrays of the right shapes.
Weights are orthogonal, so that what is carried from step to step neither vanishes nor grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hrnn_jax.config import ModelConfig

BLOCK = 128  # cases whose scores are held at a time


def step(config: ModelConfig, *, batch: int, opening: int, steps: int) -> Floor:
    """Compile the matrix products of training steps.

    Args:
        config: The model.
        batch: Lanes B.
        opening: W, the lanes that open a session of a known user: they run GRU_usr and Eq. 4.
        steps: Number of steps.

    Returns:
        A function that runs them once.
    """
    weights, carry = _operands(config, batch, opening)

    def floor(weights: dict, carry: dict) -> tuple:
        return jax.lax.scan(lambda c, _: _products(weights, c), carry, None, length=steps)

    return Floor(floor, weights, carry)


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


class Floor:
    """A compiled program and its operands on the device."""

    def __init__(self, program: Callable, *operands: object) -> None:
        """Compile a function for these operands."""
        self.operands = jax.device_put(operands)
        self.compiled = jax.jit(program).lower(*self.operands).compile()

    def __call__(self) -> Any:
        """Run the program and wait for its end."""
        return jax.block_until_ready(self.compiled(*self.operands))


def _operands(config: ModelConfig, batch: int, opening: int) -> tuple[dict, dict]:
    """Draw the weights, and the arrays carried from step to step."""
    rng = np.random.default_rng(0)
    units = config.hidden_units

    def orthogonal(n: int) -> np.ndarray:
        """Draw [H, n H]: n orthogonal matrices side by side."""
        drawn = (np.linalg.qr(rng.standard_normal((units, units)))[0] for _ in range(n))
        return np.concatenate([*drawn], axis=1).astype(np.float32)

    def states(lanes: int) -> np.ndarray:
        return rng.standard_normal((lanes, units), np.float32)

    tall = np.linalg.qr(rng.standard_normal((max(batch, units), min(batch, units))))[0]
    weights = {
        "gates": orthogonal(2),
        "cand": orthogonal(1),
        "item_out": (tall if batch >= units else tall.T).astype(np.float32),  # [B, H]
    }
    carry = {"h": states(batch), "reset": states(batch)}
    if config.hierarchical and opening:
        weights |= {"user_in": orthogonal(3), "user_gates": orthogonal(2)}
        weights |= {"user_cand": orthogonal(1), "init": orthogonal(1)}
        carry |= {
            "ended": states(opening),
            "before": states(opening),
            "user_reset": states(opening),
        }
    if config.variant == "hrnn_all":
        weights["to_session"] = orthogonal(3 if config.user_input == "full" else 2)
        carry["user"] = states(batch)
    return weights, carry


def _products(w: dict, c: dict) -> tuple[dict, list[jax.Array]]:
    """Compute the products of one update, forward and backward.

    Args:
        w: The weights.
        c: The arrays carried from the previous step.

    Returns:
        The arrays for the next step, and one number of each product that is used nowhere else.
    """
    # GRU_ses (Eq. 1) and the scores of the batch's targets.
    gates = c["h"] @ w["gates"]  # [B, 2H]
    cand = c["reset"] @ w["cand"]  # [B, H], of r h
    score = cand @ w["item_out"].T  # [B, B]
    d_hidden = score @ w["item_out"]  # [B, H]
    d_reset = d_hidden @ w["cand"].T  # [B, H]
    ends = [
        score.T @ cand,  # [B, H], for item_out
        c["reset"].T @ d_hidden,  # [H, H], for cand
        c["h"].T @ gates,  # [H, 2H], for gates
    ]
    after = {**c, "h": cand, "reset": d_reset}
    if "ended" in c:  # GRU_usr (Eq. 3) and Eq. 4, of the opening lanes
        x = c["ended"] @ w["user_in"]  # [W, 3H]
        user_gates = c["before"] @ w["user_gates"]  # [W, 2H]
        user_cand = c["user_reset"] @ w["user_cand"]  # [W, H]
        opened = user_cand @ w["init"]  # [W, H]
        d_opened = user_gates @ w["gates"].T  # [W, H], the only lanes whose h has a gradient
        d_user = d_opened @ w["init"].T  # [W, H]
        ends += [
            user_cand.T @ d_opened,  # [H, H], for init
            c["user_reset"].T @ d_user,  # [H, H], for user_cand
            d_user @ w["user_cand"].T,  # [W, H], of r c
            c["before"].T @ user_gates,  # [H, 2H], for user_gates
            c["ended"].T @ x,  # [H, 3H], for user_in
        ]
        after |= {"ended": user_cand, "before": c["ended"], "user_reset": opened}
        if "user" in c:
            d_given = x if w["to_session"].shape == w["user_in"].shape else user_gates
            ends.append(d_given @ w["to_session"].T)  # [W, H]: only they have a new user state
    if "user" in c:  # Eq. 5
        given = c["user"] @ w["to_session"]  # [B, 3H], or [B, 2H]
        ends.append(c["user"].T @ given)  # [H, 3H], or [H, 2H]
        after["user"] = c["h"]
    return after, [end[0, 0] for end in ends]
