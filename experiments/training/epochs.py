"""Train a network for an epoch and rank with it, each under a progress bar."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Sequence

from hrnn_jax.model import Params
from hrnn_jax.network import EpochResult, Network, stack, unstack
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.repeat_explore.mixture import Mixture
from hrnn_jax.training import train

from ..common import progress

__all__ = ["EpochResult", "Network", "rank", "stack", "train_epoch", "unstack"]
COMPILING = "compiling"
FIRST_CHUNK = "the first steps are trained"


@functools.cache
def _print_once(text: str) -> None:
    """Print what the start has come to; on a terminal the progress bar shows it."""
    if not sys.stderr.isatty():
        print(text, flush=True)


def train_epoch(
    network: Network,
    state: train.TrainState,
    seeds: Sequence[int],
    epoch: int,
    *,
    title: str,
    on_events: Callable[[int, int], None] = lambda n, of: None,
) -> EpochResult:
    """Train the seeds of a stacked state for one epoch, numbered from 0, under a progress bar.

    on_events: called with the events of each chunk of steps, and those of the epoch.
    """

    @contextlib.contextmanager
    def watch(events: int) -> Generator[Callable[[int, float], None]]:
        _print_once(COMPILING)
        with progress.bar(title, events, "events", first=COMPILING) as advance:

            def on_chunk(n: int, loss: float) -> None:
                _print_once(FIRST_CHUNK)
                advance(n, loss=f"{loss:.4f}")
                on_events(n, events)

            yield on_chunk

    return network.devices.train_epoch(network, state, seeds, epoch, watch=watch)


def rank(
    network: Network,
    params: Params,
    mixture: Mixture | None = None,
    *,
    title: str,
) -> Ranking:
    """Rank the test cases with a network's weights, under a progress bar."""
    with progress.bar(title, len(network.log.cases), "cases") as advance:
        return network.devices.rank(network, params, mixture, on_cases=advance)
