"""The statistics of a prepared log that the paper prints of its data: Tables 1 and 4."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax.preprocess.protocols import TEST
from hrnn_jax.preprocess.read_log import ITEM, SESSION, USER
from hrnn_jax.preprocess.sessions import opens_session

SHORT_HISTORY = 6  # sessions before the test session (Section 4.3.1)

ROWS = {
    "users": "Users",
    "items": "Items",
    "sessions": "Sessions",
    "events": "Events",
    "events_per_item": "Events per item (median/mean/std)",
    "events_per_session": "Events per session (median/mean/std)",
    "sessions_per_user": "Sessions per user (median/mean/std)",
    "train_events": "Training - Events",
    "train_sessions": "Training - Sessions",
    "test_events": "Test - Events",
    "test_sessions": "Test - Sessions",
    "short": f"Test sessions after <= {SHORT_HISTORY} sessions",
    "long": f"Test sessions after > {SHORT_HISTORY} sessions",
}

# Tables 1 and 4 as printed; VIDEOXXL from Section 4.3.3.
# fmt: off
PAPER = {
    name: dict(zip(ROWS, column, strict=False))
    for name, column in {
        "xing": (
            "11,479", "59,297", "89,591", "546,862", "6/9.3/14.4", "4/6.1/5.5", "6/7.8/4.8",
            "488,576", "78,276", "58,286", "11,315", "67.00%", "33.00%",
        ),
        "video": (
            "13,717", "19,218", "133,165", "825,449", "9/43.0/683.7", "4/6.2/8.2", "7/9.8/7.8",
            "745,482", "120,160", "79,967", "13,605", "53.69%", "46.31%",
        ),
        "videoxxl": ("810k", "380k", "8.5M", "33M"),
    }.items()
}
# fmt: on


@dataclasses.dataclass(frozen=True)
class Measured:
    """What Tables 1 and 4 need to know of some users."""

    per_item: np.ndarray  # [items] events
    per_session: pl.Series  # [sessions] events
    per_user: pl.Series  # [users] sessions
    test_events: int
    trained: int  # sessions with training events
    tested: int  # sessions with test events
    histories: pl.Series  # [sessions with test events] the user's sessions before each


def measure(log: pl.DataFrame) -> Measured:
    """Measure the events of some users, in the schema of a prepared folder."""
    sessions = _sessions(log)
    before = sessions.select("tested", history=pl.int_range(pl.len()).over(USER))
    return Measured(
        per_item=np.bincount(log[ITEM].to_numpy()),
        per_session=log[SESSION].rle().struct["len"],
        per_user=sessions[USER].rle().struct["len"],
        test_events=int(log[TEST].sum()),
        trained=int(sessions["trained"].sum()),
        tested=int(sessions["tested"].sum()),
        histories=before.filter("tested")["history"],
    )


def merged(parts: Sequence[Measured]) -> Measured:
    """Return what the users of all parts measure together."""
    per_item = np.zeros(max(len(part.per_item) for part in parts), np.int64)
    for part in parts:
        per_item[: len(part.per_item)] += part.per_item
    return Measured(
        per_item,
        pl.concat([part.per_session for part in parts]),
        pl.concat([part.per_user for part in parts]),
        sum(part.test_events for part in parts),
        sum(part.trained for part in parts),
        sum(part.tested for part in parts),
        pl.concat([part.histories for part in parts]),
    )


def table1(log: Measured) -> dict[str, Any]:
    """Compute Table 1.

    Args:
        log: the events of a prepared folder (see prepared.py), training and test.

    Returns:
        Counts, and of three distributions the median, mean and standard deviation, by `ROWS`.
    """
    per_item = pl.Series(log.per_item)
    per_item = per_item.filter(per_item > 0)  # items of a run that is continued may be absent
    events = int(log.per_item.sum())
    return {
        "users": len(log.per_user),
        "items": len(per_item),
        "sessions": len(log.per_session),
        "events": events,
        "events_per_item": _spread(per_item),
        "events_per_session": _spread(log.per_session),
        "sessions_per_user": _spread(log.per_user),
        "train_events": events - log.test_events,
        "train_sessions": log.trained,
        "test_events": log.test_events,
        "test_sessions": log.tested,
    }


def table4(log: Measured) -> dict[str, float]:
    """Compute Table 4.

    Args:
        log: the events of a prepared folder, training and test.

    Returns:
        The shares of test sessions after few and after many sessions of the user, by `ROWS`.
    """
    short: float = (log.histories <= SHORT_HISTORY).mean()  # type: ignore[assignment]
    return {"short": short, "long": 1 - short}


def _sessions(log: pl.DataFrame) -> pl.DataFrame:
    """Return the user of each session, and whether it has test events and training events."""
    first = log.select(opens_session().arg_true()).to_series()
    test = log[TEST].to_numpy()
    has = {"tested": test, "trained": ~test}
    some = {name: np.logical_or.reduceat(of, first.to_numpy()) for name, of in has.items()}
    return pl.DataFrame({USER: log[USER].gather(first), **some})


def cells(meta: dict[str, Any]) -> dict[str, str]:
    """Format Tables 1 and 4 as the paper does.

    Args:
        meta: of a prepared folder.

    Returns:
        Texts, by `ROWS`.
    """
    return {key: _cell(value) for key, value in (meta["table1"] | meta["table4"]).items()}


def _spread(values: pl.Series) -> dict[str, float]:
    # A single value has no spread: 0, not the unbiased estimate's 0/0.
    return {
        "median": values.median(),
        "mean": values.mean(),
        "std": values.std() if len(values) > 1 else 0.0,
    }  # type: ignore[return-value]


def _cell(value: int | float | dict[str, float]) -> str:
    if isinstance(value, dict):
        return f"{value['median']:g}/{value['mean']:.1f}/{value['std']:.1f}"
    return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"
