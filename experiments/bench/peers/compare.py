"""Measure all contenders on a log, in turns."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hrnn_jax import errors

from ...jobs import pool
from ...jobs.grid import Column, log_column
from ..process import measure, of_module
from ..record import Row
from .contenders import CONTENDERS, LIBRARIES, Library, Ours, Peer
from .install import install

if TYPE_CHECKING:  # the flags of the benchmark are checked before jax is loaded
    from ..timing import Settings

NAME = "peers"  # of the task; its rows are peers/LOG/CONTENDER/MEASURE
SECONDS = 5  # of training that are timed at least
RESULT = r'^\{"events": '  # the line at which a process has measured all
VIDEO_SHAPE = ("--dataset=simulated", "--simulate_shape=video")
LOGS: Mapping[str, tuple[str, ...]] = {  # those that need no file
    "journey": ("--flagfile=journey.flags",),
    "video": VIDEO_SHAPE,
}


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one process measured."""

    events_per_second: float  # in training
    cases_per_second: float  # in ranking
    peak_bytes: int
    about: str  # settings and versions


MEASURES: Mapping[str, tuple[str, Callable[[Turn], float]]] = {  # with unit
    "training": ("events/s", lambda turn: turn.events_per_second),
    "ranking": ("cases/s", lambda turn: turn.cases_per_second),
    "peak memory": ("B", lambda turn: turn.peak_bytes),
}


def tasks(
    texts: Sequence[str], folder: pathlib.Path
) -> dict[str, Callable[[Settings], Mapping[str, Row]]]:
    """Return the task of each log by its name.

    Args:
        texts: The logs, each name=path:recipe or a key of `LOGS`.
        folder: The folder of the libraries' virtual environments.

    Raises:
        InputError: A text is none of these, its file is missing, or two have one name.
    """
    if unknown := [text for text in texts if text not in LOGS and "=" not in text]:
        raise errors.InputError(
            f"`logs`={unknown[0]}: give {', '.join(LOGS)} or name=path:recipe, as in "
            "mine=log.parquet:video"
        )
    columns = [
        Column(text, LOGS[text]) if text in LOGS else log_column(text, "logs") for text in texts
    ]
    keys = [column.key for column in columns]
    if twice := sorted(key for key in {*keys} if keys.count(key) > 1):
        raise errors.InputError(f"`logs`: two are named {twice[0]}; choose another name")
    return {
        f"{NAME}/{column.key}": functools.partial(compare, column=column, folder=folder)
        for column in columns
    }


def compare(settings: Settings, column: Column, folder: pathlib.Path) -> Mapping[str, Row]:
    """Measure all contenders on a log; each turn runs all of them, one after the other."""
    pythons = {library: install(library, folder) for library in LIBRARIES}
    with settings.folder() as scratch:
        npz = (scratch / "log.npz").absolute()
        shared = measure(
            *of_module("bench.peers.shared_log", *column.flags, f"--npz={npz}"),
            *(f"--users_share={settings.scale}", f"--prepared_dir={settings.prepared}"),
        )
        described = json.loads(shared.last_line)
        sizes = ", ".join(f"{size:,} {of}" for of, size in described["sizes"].items())
        about = f"{column.key}, {described['data']} events: {sizes}"
        settings.print(about)
        turns = settings.turns(
            *(
                functools.partial(_turn, settings, contender, npz, pythons)
                for contender in CONTENDERS
            ),
            long=True,
            warm_up=False,
        )
    rows = {}
    for contender, own in zip(CONTENDERS, turns, strict=True):
        for name, (unit, value) in MEASURES.items():
            what = f"{contender.name} on {column.key}: {name}"
            notes = [about, own[0].about] if name == "training" else []
            rows[f"{contender.key}/{name}"] = Row(
                what, [value(turn) for turn in own], unit=unit, notes=notes
            )
    return rows


def _turn(
    settings: Settings,
    contender: Peer | Ours,
    npz: pathlib.Path,
    pythons: Mapping[Library, pathlib.Path],
) -> Turn:
    """Run a contender once."""
    with settings.folder() as scratch:
        if isinstance(contender, Ours):
            given = (*contender.flags, f"--npz={npz}", f"--seconds={SECONDS}")
            command, python = of_module("bench.peers.ours", *given), None
        else:
            script, python = str(contender.library.script), pythons[contender.library]
            place = str(scratch.absolute())
            command = (*pool.OF_LIBRARY, script, contender.model, str(npz), place, str(SECONDS))
        try:
            # All turns share what is compiled.
            cost = measure(
                *command, python=python, cache=npz.parent / "cache", until=RESULT, core=0
            )
        except errors.InputError as error:
            raise errors.InputError(f"{contender.name}: {error}") from error
    result = json.loads(cost.last_line)
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    turn = Turn(
        result["events"] / result["seconds"],
        result["cases"] / result["rank_seconds"],
        cost.peak_bytes,
        f"{result['settings']}; {versions}",
    )
    settings.print(
        f"{contender.name}: {turn.events_per_second:,.0f} events/s, {turn.cases_per_second:,.0f} "
        f"cases/s, {turn.peak_bytes / 1e9:.2f} GB, {cost.seconds:.0f} s"
    )
    return turn
