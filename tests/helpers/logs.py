"""Small made event logs."""

import pathlib

import numpy as np
import polars as pl

from hrnn_jax.event_log import EventLog


def of(users: list[list[list[int]]], *, n_items: int | None = None) -> EventLog:
    """Make a log from users > sessions > items; each user's last session is the test.

    Sessions start a day apart in the order given, and their events a minute.
    """
    rows = []
    session = 0
    for user, sessions in enumerate(users):
        for number, items in enumerate(sessions):
            last = number == len(sessions) - 1
            start = 1_600_000_000 + 86_400 * session
            rows += [(user, session, item, start + 60 * n, last) for n, item in enumerate(items)]
            session += 1
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    return EventLog(
        user=columns[0].astype(np.int32),
        session=columns[1].astype(np.int32),
        item=columns[2].astype(np.int32),
        time=columns[3],
        test=columns[4].astype(bool),
        n_items=n_items or int(columns[2].max(initial=0)) + 1,
    )


def random(
    seed: int, *, users: int = 12, sessions: int = 4, events: int = 5, n_items: int = 40
) -> EventLog:
    """Draw a log: up to `sessions` sessions a user, of 2 to `events` items."""
    rng = np.random.default_rng(seed)
    return of(
        [
            [
                rng.integers(n_items, size=rng.integers(2, events + 1)).tolist()
                for _ in range(rng.integers(1, sessions + 1))
            ]
            for _ in range(users)
        ],
        n_items=n_items,
    )


def write(path: pathlib.Path) -> pathlib.Path:
    """Write a raw log of 30 users with a session on each of 6 days, items in steps of 1 or 2."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(30):
        for session in range(6):
            items = (rng.integers(20) + np.cumsum(rng.integers(1, 3, 4))) % 20
            start = 1_600_000_000 + 86_400 * session + user
            rows += [(f"u{user}", f"i{item}", start + 60 * n) for n, item in enumerate(items)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "ts"], orient="row").write_csv(path)
    return path
