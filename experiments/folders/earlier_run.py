"""What a run folder of the same recipe has of the run that is asked for.

Seeds, epochs and what decides the ranking alone are not in the recipe: runs that differ in them
alone share a folder.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from ..common import run_folder
from ..common.text import as_flag

SHARED = ("epochs", "seeds", "cutoffs", "ties", "candidates", "exclude_session_items")
_ANEW = "another --output_dir begins anew"


def refusal(
    folder: pathlib.Path, about: Mapping[str, Any], *, resume: bool, is_default: bool
) -> str | None:
    """Say why a run does not go on in a folder that holds one of its recipe.

    Args:
        folder: The run folder; it may be empty.
        about: What metrics.json would say of the run.
        resume: Whether it was asked to go on.
        is_default: Whether the command did not name the folder.

    Returns:
        What differs and what to do; None where the run goes on, has ended and is reported, or
        was interrupted before it had begun, see `run_folder.has_begun`.
    """
    there = run_folder.read_metrics(folder)
    if resume:
        return _left_out(folder, there, about["seeds"]) if there else None
    if not run_folder.has_begun(folder):
        return None
    if there is None:
        return f"{folder} holds an unfinished run of these settings: {_or('--resume goes on')}"
    differs = [name for name in SHARED if name in there and _differs(there[name], about[name])]
    if differs:
        made = ", ".join(_made(name, there[name]) for name in differs)
        return f"{folder} was made {made}: {_or(_resumed(there, about, differs))}"
    if is_default:
        return None
    return f"{folder} holds this run already, complete: {_or('--resume prints its result')}"


def _differs(there: Any, asked: Any) -> bool:
    if isinstance(asked, list):  # its order decides nothing
        return {*there} != {*asked}
    return there != asked


def _left_out(folder: pathlib.Path, there: Mapping[str, Any], seeds: list[int]) -> str | None:
    """Say which seeds of a folder's result the next one would not have."""
    if not set(there["seeds"]) - set(seeds):
        return None
    return (
        f"{folder} was made {_made('seeds', there['seeds'])}, and its result would have "
        f"{_made('seeds', seeds).removeprefix('with ')} alone: give "
        f"{_all_seeds(there, seeds)}, or another --output_dir"
    )


def _resumed(there: Mapping[str, Any], about: Mapping[str, Any], differs: list[str]) -> str:
    """Say what --resume would do; nothing where it cannot."""
    if about["epochs"] < there["epochs"]:
        return ""
    if set(there["seeds"]) - set(about["seeds"]):
        return f"{_all_seeds(there, about['seeds'])} --resume trains those that are missing"
    does = []
    if "epochs" in differs:
        does.append(f"continues to {about['epochs']}")
    if "seeds" in differs:
        new = [seed for seed in about["seeds"] if seed not in there["seeds"]]
        does.append(f"adds {as_flag('seeds', new)}")
    return f"--resume {' and '.join(does or ['ranks it anew'])}"


def _all_seeds(there: Mapping[str, Any], seeds: list[int]) -> str:
    return as_flag("seeds", sorted({*there["seeds"], *seeds}))


def _made(name: str, value: Any) -> str:
    return f"without --{name}" if value in (None, False) else f"with {as_flag(name, value)}"


def _or(advice: str) -> str:
    return f"{advice}, {_ANEW}" if advice else _ANEW
