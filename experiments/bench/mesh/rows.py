"""Rows of the benchmark about a mesh: its rate, what is sent, what a device holds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
from collections.abc import Generator, Mapping, Sequence

import psutil

from ...common.cli import module
from .. import process
from ..record import Row
from ..timing import Settings
from .compiled import COLLECTIVES, Compiled, sent
from .one_process import LANES, MODEL, RATE

ITEMS = (60_000, 1_000_000)
PROCESSES = 2
MANY_DEVICES, MANY_ITEMS = 8, 10_000_000
EFFICIENCY, MEMORY = 0.85, 1.02  # targets
UNITS = MODEL.model_config.hidden_units


def training(settings: Settings) -> Mapping[str, Row]:
    """Measure two processes next to one, each with a core and a thread, and count what they send.

    A value is the rate of an epoch. The processes stay: those that do not train wait.
    """
    rows: dict[str, Row] = {}
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < PROCESSES:
        settings.print(f"fewer than {PROCESSES} cores here: rates are not measured")
    else:
        rows |= {str(n_items): _rates(settings, n_items) for n_items in ITEMS}
    return rows | _bytes(compiled(settings, PROCESSES, ITEMS[0]))


def _rates(settings: Settings, n_items: int) -> Row:
    with _processes(settings, n_items, 1) as one, _processes(settings, n_items, PROCESSES) as all_:
        both, alone = settings.turns(lambda: _epoch(all_), lambda: _epoch(one))
    what = (
        f"training over a mesh of {PROCESSES} processes, a core and a thread each: HRNN Init "
        f"({LANES} lanes in all, {UNITS} units, {n_items:,} items)"
    )
    name = f"{PROCESSES} times the rate of one process"
    notes = [
        "whole epochs, with their schedules; of one that compiles, what follows its first chunk",
        f"one: {statistics.median(alone):,.0f} events/s",
    ]
    floor = [PROCESSES * rate for rate in alone]
    return Row(
        *(what, both, floor, name, EFFICIENCY),
        unit="events/s",
        at_least=True,
        notes=notes,
    )


@contextlib.contextmanager
def _processes(
    settings: Settings, n_items: int, n_processes: int
) -> Generator[Sequence[psutil.Popen]]:
    """Start processes of one mesh, and wait until their programs are compiled."""
    with contextlib.ExitStack() as opened, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        name = module("bench.mesh.one_process")
        given = ("-m", name, str(n_items), str(settings.steps // 4), coordinator, str(n_processes))
        started = [
            opened.enter_context(process.running(*given, str(number), core=number))
            for number in range(n_processes)
        ]
        for each in started:
            process.wait_for(each, f"^{RATE}")
        yield started


def _epoch(processes: Sequence[psutil.Popen]) -> float:
    """Have processes of one mesh train an epoch; return the events/s of all."""
    for each in processes:
        print(file=each.stdin, flush=True)
    lines = [process.wait_for(each, f"^{RATE}") for each in processes]
    return min(float(line.removeprefix(RATE)) for line in lines)  # they all wait for the slowest


def compiled(settings: Settings, n_devices: int, n_items: int, n_lanes: int = LANES) -> Compiled:
    """Compile an update in a process of its own, see `compiled.compile_update`."""
    name = module("bench.mesh.compiled")
    cost = process.measure("-m", name, *map(str, (n_devices, n_items, n_lanes)))
    return Compiled(**json.loads(cost.last_line))


def _bytes(program: Compiled) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for collective in COLLECTIVES:
        sizes, rest = (of.get(collective, []) for of in (program.of_update, program.of_chunk))
        if not sizes and not rest:
            continue
        total = sum(sizes) + sum(rest) / program.chunk
        each = " + ".join(f"{size:,}" for size in sizes)
        arrays = f"arrays of an update: {each} bytes" if sizes else "none of an update"
        notes = [f"counted in the compiled program, as a ring sends; {arrays}"]
        what = (
            f"what each of {PROCESSES} devices sends in a step over a mesh: {collective} ({LANES} "
            f"lanes in all, {UNITS} units)"
        )
        measured = [sent(collective, total, PROCESSES)]
        rows[collective] = Row(what, measured, unit="B", notes=notes)
    return rows


def memory(settings: Settings) -> Mapping[str, Row]:
    """Compare what a device of many holds with its part of the tables; nothing is trained."""
    program = compiled(settings, MANY_DEVICES, MANY_ITEMS)
    what = (
        f"memory of each of {MANY_DEVICES} devices: HRNN Init ({LANES} lanes in all, {UNITS} "
        f"units, {MANY_ITEMS:,} items)"
    )
    name = f"(tables + optimizer state) / {MANY_DEVICES} + what is replicated of both"
    notes = ["compiled for forced devices of a CPU, not run"]
    return {"": Row(what, [program.held], [program.expected], name, MEMORY, unit="B", notes=notes)}
