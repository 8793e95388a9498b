"""The benchmark's results: rows and sweeps, kept in a JSON record and shown as a table."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hrnn_jax import errors
from hrnn_jax.files import atomic

from ..common import text
from ..common.text import Spread

FEW_TURNS = 5  # a row of fewer turns states their number in its notes
UNITS = {  # of rows: the units to show a value in, from large to small, with size and decimals
    "s": [("s", 1, 2), ("ms", 1e-3, 2), ("us", 1e-6, 1)],
    "B": [("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)],
    "events/s": [("events/s", 1, 0)],
    "cases/s": [("cases/s", 1, 0)],
    "requests/s": [("requests/s", 1, 0)],
    "lists/s": [("lists/s", 1, 0)],
    "%": [("%", 1e-2, 1)],
}
HEAD = ("what", "measured", "floor", "ratio", "target", "")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a cost next to its floor, the least that the same work can cost.

    The cost and its floor are measured in turns, and their ratio is the median of the turns' own
    ratios: machines are noisy, and the noise of one turn affects both alike.
    """

    what: str
    measured: Sequence[float] = ()  # one value a turn; empty where it cannot be measured here
    floor: Sequence[float] = ()  # of the same turns; empty where there is no floor
    floor_name: str = ""
    limit: float | None = None  # the target for the ratio, or for `measured` without a floor
    unit: str = "s"  # of `measured` and `floor`, a key of `UNITS`
    at_least: bool = False  # the target is a lower bound, not an upper one
    notes: Sequence[str] = ()
    made: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `timing.made`

    @property
    def ratio(self) -> Spread | None:
        """The ratio to the floor in each turn; None without a floor."""
        if not self.measured or not self.floor:
            return None
        return Spread(tuple(m / f for m, f in zip(self.measured, self.floor, strict=True)))

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a measurement."""
        if self.limit is None or not self.measured:
            return None
        value = (self.ratio or Spread(tuple(self.measured))).median
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def all_notes(self) -> str:
        """The notes in one line, with the number of turns where that is small."""
        turns = len(self.measured)
        times = "once" if turns == 1 else f"{turns} times"
        few = [f"measured {times}"] if 0 < turns < FEW_TURNS else []
        return "; ".join([*self.notes, *few])

    def cells(self) -> tuple[str, ...]:
        """Return the text of each column of `HEAD`."""
        target = ""
        if self.limit is not None:
            shown, size, _ = ("x", 1, 0) if self.floor_name else _unit(self.limit, self.unit)
            target = f"{'>=' if self.at_least else '<='} {self.limit / size:g} {shown}"
        if not self.measured:
            return (self.what, "not measured", "", "", target, "")
        floor = f"{_quantity(self.floor, self.unit)}: {self.floor_name}" if self.floor else ""
        ratio = _with_range(self.ratio, 2) if self.ratio else ""
        met = {None: "", True: "met", False: "missed"}[self.met]
        return (self.what, _quantity(self.measured, self.unit), floor, ratio, target, met)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How costs grow with one size, drawn as curves in one or several panels."""

    what: str
    x: str  # label of the horizontal axis
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Sequence[float]]]]]
    # label of the vertical axis -> name of the curve -> (x, one value a turn)
    notes: Sequence[str] = ()
    made: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `timing.made`


def add(path: pathlib.Path, results: Mapping[str, Row | Sweep], made: Mapping[str, Any]) -> None:
    """Add results to a record by their names; those of other names stay as they are."""
    record = read(path) if path.exists() else {}
    record |= {name: dataclasses.replace(result, made=made) for name, result in results.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: _to_json(result) for name, result in record.items()}
    atomic.write(path, json.dumps(content, indent=1) + "\n")


def read(path: pathlib.Path) -> dict[str, Row | Sweep]:
    """Read a record.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        return {name: _from_json(**kept) for name, kept in json.loads(path.read_text()).items()}
    except FileNotFoundError as error:
        raise errors.InputError(f"{path} is missing: measure first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.InputError(f"{path} is damaged: remove it and measure again") from error


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as a table, and their notes below it."""
    text.print_table(HEAD, [row.cells() for row in rows])
    if notes := [f"{row.what}: {row.all_notes}" for row in rows if row.all_notes]:
        print("", *notes, sep="\n")


def _to_json(result: Row | Sweep) -> dict[str, Any]:
    """Return the record's form of a result, in which `measured` is called `subject`."""
    fields = dataclasses.asdict(result)
    if isinstance(result, Sweep):
        return {"kind": "sweep", **fields}
    return {"kind": "row", "subject": fields.pop("measured"), **fields}


def _from_json(kind: str, made: Mapping[str, Any], **fields: Any) -> Row | Sweep:
    if not {"commit", "machine", "finished", "threads"} <= made.keys():
        raise KeyError("made")
    if kind == "sweep":
        return Sweep(**fields, made=made)
    row = Row(measured=fields.pop("subject"), **fields, made=made)
    row.cells()  # raises where its unit or its values are damaged
    return row


def _quantity(values: Sequence[float], unit: str) -> str:
    shown, size, decimals = _unit(statistics.median(values), unit)
    return _with_range(Spread(tuple(value / size for value in values)), decimals, shown)


def _with_range(spread: Spread, decimals: int, unit: str = "") -> str:
    median = f"{spread.median:,.{decimals}f} {unit}".strip()
    if spread.n == 1:
        return median
    return f"{median} ({spread.low:,.{decimals}f} .. {spread.high:,.{decimals}f})"


def _unit(value: float, unit: str) -> tuple[str, float, int]:
    """Return the largest unit in which a value is 1 or more, with its size and decimals."""
    return next((each for each in UNITS[unit] if value >= each[1]), UNITS[unit][-1])
