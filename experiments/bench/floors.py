"""The floors of the benchmark: the least that a subject's own work can cost, compiled alone.

A floor makes every product of its subject and nothing else. What keeps the products alive is that
one number of each leaves the scan; the operands change from step to step, so that none is hoisted
out of it. Arrays stand in for others of their shape: values do not matter, as long as they neither
die out nor grow, so weights are orthogonal and what is carried is only ever turned.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from hrnn_jax.config import ModelConfig

BLOCK = 128  # cases whose scores are held at a time


def step(config: ModelConfig, *, batch: int, opening: int, steps: int) -> Callable[[], object]:
    """Return what runs the matrix products of `steps` updates, once compiled.

    opening: the lanes W that open a session of a known user and so run GRU_usr and Eq. 4.
    """
    weights, carry = _operands(config, batch, opening)

    def floor(weights: dict, carry: dict) -> tuple:
        return jax.lax.scan(lambda c, _: _products(weights, c), carry, None, length=steps)

    compiled = jax.jit(floor).lower(weights, carry).compile()
    return Floor(compiled, (weights, carry))


def scores(n_cases: int, n_items: int, units: int) -> Callable[[], object]:
    """Return what multiplies [cases, H] by [H, V], `BLOCK` cases at a time."""
    rng = np.random.default_rng(0)
    block = min(BLOCK, n_cases)
    hidden = rng.standard_normal((-(-n_cases // block), block, units), np.float32)
    item_out = rng.standard_normal((n_items, units), np.float32)

    def floor(hidden: jax.Array, item_out: jax.Array) -> jax.Array:
        return jax.lax.map(lambda block: (block @ item_out.T)[0, 0], hidden)

    operands = jax.device_put((hidden, item_out))
    return Floor(jax.jit(floor).lower(*operands).compile(), operands)


class Floor:
    """A compiled program and its operands; calling it waits until it has run."""

    def __init__(self, compiled: jax.stages.Compiled, operands: tuple) -> None:
        self.compiled, self.operands = compiled, operands

    def __call__(self) -> object:
        return jax.block_until_ready(self.compiled(*self.operands))


def _operands(config: ModelConfig, batch: int, opening: int) -> tuple[dict, dict]:
    """Draw the weights, and what is carried from step to step."""
    rng = np.random.default_rng(0)
    units = config.hidden_units

    def turns(n: int) -> np.ndarray:
        """Draw [H, n H]: n orthogonal matrices side by side."""
        drawn = (np.linalg.qr(rng.standard_normal((units, units)))[0] for _ in range(n))
        return np.concatenate([*drawn], axis=1).astype(np.float32)

    def states(lanes: int) -> np.ndarray:
        return rng.standard_normal((lanes, units), np.float32)

    tall = np.linalg.qr(rng.standard_normal((max(batch, units), min(batch, units))))[0]
    weights = {
        "gates": turns(2),
        "cand": turns(1),
        "item_out": (tall if batch >= units else tall.T).astype(np.float32),  # [B, H]
    }
    carry = {"h": states(batch), "reset": states(batch)}
    if config.hierarchical and opening:
        weights |= {"user_in": turns(3), "user_gates": turns(2)}
        weights |= {"user_cand": turns(1), "init": turns(1)}
        carry |= {
            "ended": states(opening),
            "before": states(opening),
            "user_reset": states(opening),
        }
    if config.variant == "hrnn_all":
        weights["to_session"] = turns(3 if config.user_input == "full" else 2)
        carry["user"] = states(batch)
    return jax.device_put((weights, carry))


def _products(w: dict, c: dict) -> tuple[dict, list[jax.Array]]:
    """Make the products of one update, forward and backward; c: what the step before left.

    Returns what the next step starts from, and a number of each product that goes nowhere else.
    """
    # GRU_ses (Eq. 1) and the scores of the batch's targets.
    gates = c["h"] @ w["gates"]  # [B, 2H]
    cand = c["reset"] @ w["cand"]  # [B, H], of r h
    found = cand @ w["item_out"].T  # [B, B]
    d_hidden = found @ w["item_out"]  # [B, H]
    d_reset = d_hidden @ w["cand"].T  # [B, H]
    ends = [
        found.T @ cand,  # [B, H], for item_out
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
