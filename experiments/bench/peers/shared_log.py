"""The log that all contenders read: a prepared log, or its first users, as one npz file.

python -m experiments.bench.peers.shared_log --flagfile=journey.flags --npz=log.npz

The file holds the arrays of an `EventLog`; numpy alone reads it. The command's last line is a JSON
object with the sizes of the log.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
from absl import flags

from hrnn_jax.config import setting
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic
from hrnn_jax.preprocess import prepared

from ...common import cli, config_flags, data_flags

# A log with more is cut to its first users: an epoch of the slowest model has to fit.
MOST_USERS, MOST_EVENTS = 2_000, 200_000


@dataclasses.dataclass(frozen=True)
class SharedLogFlags:
    """The flags of this command alone.

    Attributes:
        npz: The file to write.
        users_share: Share of the log's users, above 0.
    """

    npz: str = setting("log.npz")
    users_share: float = setting(1.0, least=1e-5)


FLAGS = flags.FLAGS


def first_users(log: EventLog, share: float) -> EventLog:
    """Return the events of the first users, as a log of the items that these train on.

    Args:
        log: A prepared log.
        share: Share of its users; never more than `MOST_USERS`, nor more than have `MOST_EVENTS`
            training events together, but always one.

    Returns:
        The log, its items numbered anew in their order. Test events with items that none of these
        users trains on are left out.
    """
    events = np.cumsum(np.bincount(log.user[~log.test], minlength=log.user[-1] + 1))
    users = min(round(share * len(events)), MOST_USERS, np.count_nonzero(events <= MOST_EVENTS))
    kept = log.where(log.user < max(1, users))
    trained = np.unique(kept.item[~kept.test])
    kept = kept.where(np.isin(kept.item, trained))
    item = np.searchsorted(trained, kept.item).astype(np.int32)
    return dataclasses.replace(kept, item=item, n_items=len(trained))


def write(log: EventLog, path: pathlib.Path) -> None:
    """Write a log as npz."""

    def save(partial: pathlib.Path) -> None:
        with partial.open("wb") as file:  # given a path, numpy adds to its name
            np.savez(file, **{name: of for name, of in vars(log).items() if of is not None})

    atomic.write(path, save)


def read(path: pathlib.Path) -> EventLog:
    """Read what `write` has written."""
    with np.load(path) as file:
        numbers = {"n_items": int(file["n_items"]), "has_times": bool(file["has_times"])}
        return EventLog(**{**file, **numbers})


def main() -> None:
    """Prepare the log that the flags name, and write its first users."""
    folder = data_flags.prepare()
    log = first_users(prepared.load(folder), FLAGS.users_share)
    write(log, pathlib.Path(FLAGS.npz))
    sizes = {
        "users": len(np.unique(log.user)),
        "training events": int(np.count_nonzero(~log.test)),
        "items": log.n_items,
        "test cases": len(log.cases),
    }
    kind = prepared.load_meta(folder)["data"]  # real or simulated
    print(json.dumps({"data": kind, "sizes": sizes}), flush=True)


if __name__ == "__main__":
    config_flags.define_command(SharedLogFlags)
    cli.run(main, whole=False)
