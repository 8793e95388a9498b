"""A trained epoch, as callbacks get it and history.jsonl keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch of one seed.

    Attributes:
        number: From 1, counted over all calls of `fit` and `partial_fit` on one log.
        last: The number of the last epoch of this call.
        loss: The mean loss of the epoch's events.
        metrics: Of the `validation` part, as in {"recall@5": 0.2}; empty without one.
        events: How many events were trained on.
        seconds: How long training took, without the metrics.
        seed: Of the weights.
        rate: Events per second, without the time in which programs were compiled; None where it is
            not known, as in the first epoch of a small log.
    """

    number: int
    last: int
    loss: float
    metrics: Mapping[str, float]
    events: int
    seconds: float
    seed: int = 0
    rate: float | None = None

    @property
    def values(self) -> dict[str, float]:
        """The loss and the metrics by name."""
        return {"loss": self.loss, **self.metrics}

    def entry(self) -> dict[str, Any]:
        """Return its line in a run folder's history.jsonl."""
        return {
            "seed": self.seed,
            "epoch": self.number,
            "loss": self.loss,
            "events": self.events,
            "seconds": self.seconds,
            **self.metrics,
        }


Callback = Callable[[Epoch], Any]


def close(callbacks: Sequence[Callback]) -> None:
    """Close the callbacks that can be closed."""
    for callback in callbacks:
        if hasattr(callback, "close"):
            callback.close()  # pyright: ignore[reportFunctionMemberAccess]
