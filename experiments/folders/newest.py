"""The runs in the default place, for commands that are not told which."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable

from hrnn_jax import errors

from ..common.cli import command
from ..common.run_folder import METRICS, read_recipe

ROOT = pathlib.Path("out/runs")


def newest_run(
    what: str, flag: str, suits: Callable[[pathlib.Path], bool] = lambda folder: True
) -> pathlib.Path:
    """Return the newest finished run in out/runs: the one that was trained or ranked last.

    Args:
        what: What is looked for, for the message.
        flag: What would name one, for the message.
        suits: Whether a run's folder will do.

    Raises:
        InputError: There is none.
    """
    for folder in _newest_first(ROOT.glob(f"*/*/{METRICS}")):
        if suits(folder):
            return folder
    raise errors.InputError(
        f"there is no {what} in {ROOT}: give {flag}, or make one with "
        f"{command('run')} --flagfile=video.flags"
    )


def newest_network() -> pathlib.Path:
    """Return the newest finished run that has a network's weights. Raises InputError."""
    return newest_run(
        "finished run of a network", "--run", lambda folder: (folder / "checkpoint").is_dir()
    )


def runs_beside(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the finished runs on the prepared log of a run, itself among them, newest first."""
    data = read_recipe(folder)["data"]
    found = _newest_first(folder.parent.glob(f"*/{METRICS}"))
    return [run for run in found if read_recipe(run)["data"] == data]


def _newest_first(metrics: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Return run folders by the time of their metrics.json: a run that is reported keeps it."""
    found = [path for path in metrics if (path.parent / "recipe.json").exists()]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent for path in found]
