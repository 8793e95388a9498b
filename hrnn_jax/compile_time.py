"""How long a piece of code takes, and how much of that it waits for compiling."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator

_EVENTS = "/jax/core/compile/"  # a program is traced, lowered and compiled, or read from the cache


@dataclasses.dataclass
class Timing:
    """What `timing` measured, in seconds; 0 until its code has ended."""

    seconds: float = 0.0
    compiling: float = 0.0  # the part of them in which programs were compiled


@contextlib.contextmanager
def timing() -> Generator[Timing]:
    """Time the code inside, and what it compiles in this thread."""
    import jax.monitoring  # here: metrics need no jax

    timed, thread = Timing(), threading.get_ident()
    spans: list[tuple[float, float]] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if not event.startswith(_EVENTS) or threading.get_ident() != thread:
            return
        end = time.perf_counter()
        begin = end - duration_secs
        # What is traced inside another program has ended before it, and is part of its time.
        while spans and spans[-1][0] >= begin:
            spans.pop()
        spans.append((begin, end))

    jax.monitoring.register_event_duration_secs_listener(note)
    started = time.perf_counter()
    try:
        yield timed
    finally:
        timed.seconds = time.perf_counter() - started
        timed.compiling = sum((end - begin for begin, end in spans), 0.0)
        jax.monitoring.unregister_event_duration_listener(note)
