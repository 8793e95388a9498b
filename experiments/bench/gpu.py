"""Rows of the benchmark about a GPU: rates and peak memory of its device, and where its time goes.

Each part runs in a process of its own: the device's peak memory is that of its process, and a part
that runs out of memory or time leaves the others alone.
"""

from __future__ import annotations

import collections
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import jax
import numpy as np

from hrnn_jax import errors
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.network import make_network
from hrnn_jax.training.held_out import HeldOut

from ..training.epochs import Network, rank, train_epoch
from .benchmark_model import (
    INIT_LARGE,
    INIT_SMALL,
    PLUS_SAMPLED,
    BenchmarkModel,
    random_log,
    train_steps,
)
from .record import Row
from .timing import Settings, operations, seconds

BATCHES = (50, 100, 512, 4_096)
SEEDS = 10
CATALOGUES = (60_000, 1_000_000)
PLUS_USERS = 2_000  # of the log of hrnn_plus
TOP = 10  # operations of the profile

Rows = Iterator[tuple[str, Row]]


def batches(settings: Settings, model: BenchmarkModel) -> Rows:
    """Measure training at growing batch sizes: the peak so far is then the latest one's."""
    for batch in BATCHES:
        scaled = _scaled(settings, model, batch)
        training = train_steps(scaled, settings.steps)
        what = _title(scaled)
        yield f"{batch}", _rate_row(settings, what, training.events, training.epoch)


def seeds(settings: Settings) -> Rows:
    """Measure the training of ten seeds side by side."""
    model = _scaled(settings, INIT_SMALL)
    training = train_steps(model, settings.steps, SEEDS)
    what = f"{_title(model)}, {SEEDS} seeds vmapped, all together"
    yield "", _rate_row(settings, what, training.events, training.epoch)


def plus(settings: Settings, n_items: int) -> Rows:
    """Measure the training and the ranking of hrnn_plus on a catalogue."""
    model = _scaled(settings, PLUS_SAMPLED.replace(n_items=n_items))
    what, n_items = _title(model), model.model_config.n_items
    users = max(2, round(settings.scale * PLUS_USERS))
    network = plus_network(model, random_log(np.random.default_rng(0), users, n_items, tested=True))
    state = network.init_state(0)
    pairs = int(network.train_log.follows.sum())

    def epoch() -> float:
        nonlocal state
        done = train_epoch(network, state, [0], 0, title="training")
        state = done.state
        return done.seconds

    # Of an untrained network: its weights do not change the time.
    mixture = HeldOut(network, None, 0).mixture(0)

    def ranking() -> float:
        return seconds(lambda: rank(network, state.params, mixture, title="ranking"))

    yield "training", _rate_row(settings, what, pairs, epoch, long=True)
    cases = len(network.log.cases)
    what = f"{what}: ranking"
    yield "ranking", _rate_row(settings, what, cases, ranking, unit="cases/s", long=True)


def plus_network(model: BenchmarkModel, log: EventLog) -> Network:
    """Return hrnn_plus on a log, as `experiments.run` makes it."""
    return make_network(log, model.model_config, model.train_config, EvaluationConfig(cutoffs=(5,)))


def profile(settings: Settings, model: BenchmarkModel) -> Rows:
    """Measure the operations of training that take most of the device's time."""
    model = _scaled(settings, model)
    training = train_steps(model, 1)  # one chunk: all steps are alike
    epochs: list[float] = []
    [turns] = settings.turns(lambda: operations(settings, lambda: epochs.append(training.epoch())))
    totals = [turn.total() for turn in turns]
    if not all(totals):
        raise errors.InputError("XLA's profiler saw no operation on the device")
    busy = [total / epoch for total, epoch in zip(totals, epochs[-len(totals) :], strict=True)]
    of = f"{jax.default_backend().upper()}: share of a profiled step of {model.name}"
    yield "busy", Row(f"{of} in which the device computes", busy, unit="%")
    largest = sum(turns, collections.Counter[str]()).most_common(TOP)
    for number, (name, _) in enumerate(largest, start=1):
        shares = [turn[name] / total for turn, total in zip(turns, totals, strict=True)]
        yield f"{number}", Row(f"{of}'s computing: {number}. {name}", shares, unit="%")


PARTS: dict[str, Callable[[Settings], Rows]] = {  # what matters most first
    "small": functools.partial(batches, model=INIT_SMALL),
    **{f"plus_{n}": functools.partial(plus, n_items=n) for n in CATALOGUES},
    "large": functools.partial(batches, model=INIT_LARGE),
    "seeds": seeds,
    "profile": functools.partial(profile, model=INIT_SMALL),
}


def measure_all(settings: Settings) -> Mapping[str, Row]:
    """Measure all parts, where there is a GPU."""
    if jax.default_backend() != "gpu":
        settings.print("no GPU here: nothing is measured")
        return {}
    rows: dict[str, Row] = {}
    for part in PARTS:
        for name, row in measure(part, settings):
            settings.print("  ".join(filter(None, row.cells())))
            rows[name] = row
    return rows


def measure(part: str, settings: Settings, until: float | None = None) -> Rows:
    """Measure one of `PARTS` in a process of its own.

    Args:
        part: Its name.
        settings: How much is measured.
        until: The value of `time.monotonic` at which to stop.

    Yields:
        The name of each row below the benchmark's task, and the row, as soon as it is measured.

    Raises:
        TimeoutError: Some rows are missing, because the time was up.
        InputError: The process failed; it printed why.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    arguments = sending, PARTS[part], settings
    process = context.Process(target=_send_rows, args=arguments, daemon=True)
    process.start()
    sending.close()  # the pipe then ends when the process does
    try:
        while receiving.poll(until and max(0, until - time.monotonic())):
            name, row = receiving.recv()
            yield f"{part}/{name}".rstrip("/"), row
        raise TimeoutError(f"{part}: the time was up")
    except EOFError:
        process.join()
        if process.exitcode:
            failed = f"{part}: its process ended with code {process.exitcode}"
            raise errors.InputError(failed) from None
    finally:
        process.kill()
        process.join()


def _send_rows(
    sending: Connection, measure_part: Callable[[Settings], Rows], settings: Settings
) -> None:
    """Measure a part, in its own process, and send each row."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the starter says that it was interrupted
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the starter may hold device memory too
    jax.config.update("jax_compilation_cache_dir", str((settings.scratch / "compiled").absolute()))
    for name_and_row in measure_part(settings):
        sending.send(name_and_row)


def _scaled(settings: Settings, model: BenchmarkModel, batch: int | None = None) -> BenchmarkModel:
    """Return a model whose lanes and items are that share of the full number."""
    batch = batch or model.train_config.batch_size
    return model.replace(
        batch_size=max(2, round(settings.scale * batch)),
        n_items=max(100, round(settings.scale * model.model_config.n_items)),
    )


def _title(model: BenchmarkModel) -> str:
    config, batch = model.model_config, model.train_config.batch_size
    device = jax.default_backend().upper()
    return (
        f"{device}: {model.name} (batch {batch:,}, {config.hidden_units} units, "
        f"{config.n_items:,} items)"
    )


def _rate_row(
    settings: Settings,
    what: str,
    count: int,
    function: Callable[[], float],
    *,
    unit: str = "events/s",
    long: bool = False,
) -> Row:
    """Measure how many of something a function does in a second, as it returns its seconds."""
    [durations] = settings.turns(function, long=long)
    rates = [count / duration for duration in durations]
    return Row(what, rates, unit=unit, notes=peak_notes(jax.devices()[0]))


def peak_notes(device: Any) -> list[str]:
    """Return the most memory that was in use on a device so far; nothing where it is not known."""
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return [] if peak is None else [f"peak device memory {peak / 1e9:.2f} GB"]
