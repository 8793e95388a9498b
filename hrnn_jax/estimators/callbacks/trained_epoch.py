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
            "events_per_second": self.rate,
            **self.metrics,
        }


Callback = Callable[[Epoch], Any]


def close(callbacks: Sequence[Callback]) -> None:
    """Close the callbacks that can be closed."""
    for callback in callbacks:
        if hasattr(callback, "close"):
            callback.close()  # pyright: ignore[reportFunctionMemberAccess]


def training_figures(history: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Sum up the times of a training.

    Args:
        history: Entries of `Epoch.entry`, or what they have of events, seconds and
            events_per_second.

    Returns:
        "train_seconds"; "train_compile_seconds": the part of them in which training waited for
        programs to be compiled, None where no epoch's rate is known; "train_events_per_second":
        without that part where it is known.
    """
    seconds, events = (sum(entry[name] for entry in history) for name in ("seconds", "events"))
    known = [(e["events"], rate) for e in history if (rate := e.get("events_per_second"))]
    rate, waited = events / seconds if seconds else None, None
    if known:
        rate = sum(n for n, _ in known) / sum(n / rate for n, rate in known)
        waited = max(0.0, seconds - events / rate)
    return {
        "train_seconds": seconds,
        "train_compile_seconds": waited,
        "train_events_per_second": rate,
    }
