"""Rows of the benchmark: a subject beside its floor, as medians of turns; and its sweeps.

Machines are noisy, so subject and floor take turns, and a ratio is the median of the turns' own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hrnn_jax import atomic, errors

from ..common import machine, provenance
from ..common.spread import Spread

_T = TypeVar("_T")
THREADS = ("NPROC", "OMP_NUM_THREADS", "POLARS_MAX_THREADS", "XLA_FLAGS")  # as the caller set them
ENOUGH = 5  # turns; of fewer a row tells
SLOW = 10  # seconds; longer turns are told one by one


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table. Without a subject it could not be measured; its notes say why."""

    what: str
    unit: str = "s"  # of subject and floor, a key of `UNITS`
    subject: Sequence[float] = ()  # a value a turn
    floor: Sequence[float] = ()  # the same turns', or none: then the limit is one of the subject
    floor_name: str = ""
    limit: float | None = None  # the target of the ratio to the floor, or of the subject
    at_least: bool = False  # ... from which on it is met, rather than up to which
    notes: Sequence[str] = ()

    @property
    def ratio(self) -> Spread | None:
        """The subject's ratio to the floor, turn by turn."""
        if not self.subject or not self.floor:
            return None
        return Spread(tuple(s / f for s, f in zip(self.subject, self.floor, strict=True)))

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or no figure."""
        if self.limit is None or not self.subject:
            return None
        found = (self.ratio or Spread(tuple(self.subject))).median
        return found >= self.limit if self.at_least else found <= self.limit


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How costs grow with one size: for each vertical axis its curves, by name, of turns by x."""

    what: str
    x: str  # what is on the horizontal axis, with its unit
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Sequence[float]]]]]
    notes: Sequence[str] = ()


Found = Mapping[str, Row | Sweep]  # by the name it has in the record


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured, and where."""

    repeats: int  # turns, after one to warm up
    long_repeats: int  # ... of what takes minutes
    scale: float  # share of the users of the large logs
    steps: int  # of an epoch of HRNN Init small; larger steps are fewer
    prepared: pathlib.Path  # keeps simulated logs, to use again
    scratch: pathlib.Path  # emptied in the end
    say: Callable[[str], None]  # tells how far it is


def take_turns(
    functions: Sequence[Callable[[], _T]],
    *,
    repeats: int,
    say: Callable[[str], None] = lambda line: None,
    warm_up: bool = True,
) -> list[list[_T]]:
    """Call each function once to warm up, then all in turn; return what each returned."""
    if warm_up:
        for function in functions:
            function()
    taken: list[list[_T]] = [[] for _ in functions]
    started = time.perf_counter()
    for turn in range(1, repeats + 1):
        for function, values in zip(functions, taken, strict=True):
            values.append(function())
        seconds = (time.perf_counter() - started) / turn
        if seconds > SLOW and turn < repeats:
            say(f"turn {turn} of {repeats}, {(repeats - turn) * seconds:.0f} s left")
    return taken


def seconds(function: Callable[[], object]) -> float:
    """Call a function, and return how long it took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def made() -> dict[str, Any]:
    """Say where, when and with what a row is measured, and what else ran there."""
    set_ = {name: os.environ[name] for name in THREADS if name in os.environ}
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {**provenance.made(), "cores": machine.cores(), "threads": set_, "load": load}


def merge(path: pathlib.Path, found: Found, by: Mapping[str, Any]) -> None:
    """Put what was found into a record; what it holds under other names stays."""
    record = read(path) if path.exists() else {}
    for name, each in found.items():
        kind = "sweep" if isinstance(each, Sweep) else "row"
        record[name] = {"kind": kind, **dataclasses.asdict(each), "made": by}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, json.dumps(record, indent=1) + "\n")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Read a record. Raises InputError where it is missing or damaged."""
    try:
        record = json.loads(path.read_text())
        for entry in record.values():
            parse(entry)
            entry["made"]["commit"]
            if entry["kind"] == "row":
                UNITS[entry["unit"]]
    except FileNotFoundError as error:
        raise errors.InputError(f"{path} is missing: measure first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.InputError(f"{path} is damaged: remove it and measure again") from error
    return record


def parse(entry: Mapping[str, Any]) -> Row | Sweep:
    """Return the row or sweep of a record's entry."""
    kind = {"row": Row, "sweep": Sweep}[entry["kind"]]
    return kind(**{field.name: entry[field.name] for field in dataclasses.fields(kind)})


UNITS = {  # of a Row: the units it is shown in, the largest that leaves 1 or more, with decimals
    "s": {"s": (1, 2), "ms": (1e-3, 2), "us": (1e-6, 1)},
    "B": {"GB": (1e9, 2), "MB": (1e6, 1), "kB": (1e3, 1)},
    "events/s": {"events/s": (1, 0)},
    "%": {"%": (1e-2, 1)},
}
HEAD = ("what", "measured", "floor", "ratio", "target", "")


def cells(row: Row) -> tuple[str, ...]:
    """Write a row's cells, those of `HEAD`."""
    if not row.subject:
        return (row.what, "not measured", "", "", _target(row), "")
    floor = f"{_quantity(row.floor, row.unit)}: {row.floor_name}" if row.floor else row.floor_name
    ratio = _with_range(row.ratio, 2) if row.ratio else ""
    met = {None: "", True: "met", False: "missed"}[row.met]
    return (row.what, _quantity(row.subject, row.unit), floor, ratio, _target(row), met)


def table(rows: Sequence[Row]) -> str:
    """Format rows as text, their notes below."""
    lines = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(HEAD))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    notes = [f"{row.what}: {said}" for row in rows if (said := notes_of(row))]
    return "\n".join(line.rstrip() for line in [*text, *([""] if notes else []), *notes])


def notes_of(row: Row) -> str:
    """Join a row's notes, and say how often it was measured if that is seldom."""
    turns = len(row.subject)
    often = [f"measured {'once' if turns == 1 else f'{turns} times'}"] if 0 < turns < ENOUGH else []
    return "; ".join([*row.notes, *often])


def _quantity(values: Sequence[float], unit: str) -> str:
    shown, one, decimals = _shown(statistics.median(values), unit)
    scaled = Spread(tuple(value / one for value in values))
    return _with_range(scaled, decimals, shown)


def _with_range(found: Spread, decimals: int, unit: str = "") -> str:
    values = (found.median, found.low, found.high)
    median, low, high = (f"{value:,.{decimals}f}" for value in values)
    median = f"{median} {unit}".strip()
    return f"{median} ({low} .. {high})" if found.n > 1 else median


def _shown(value: float, unit: str) -> tuple[str, float, int]:
    """Return the unit to show a value in, its size, and the decimals to give."""
    units = [(name, *how) for name, how in UNITS[unit].items()]
    return next((each for each in units if value >= each[1]), units[-1])


def _target(row: Row) -> str:
    if row.limit is None:
        return ""
    sign = ">=" if row.at_least else "<="
    if row.floor_name:
        return f"{sign} {row.limit:g} x"
    shown, one, _ = _shown(row.limit, row.unit)
    return f"{sign} {row.limit / one:g} {shown}"
