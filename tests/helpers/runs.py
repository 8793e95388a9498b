"""Commands run in this process, and a small trained run folder."""

import pathlib
import sys
from collections.abc import Callable, Sequence

import pytest
from absl import app
from absl.testing import flagsaver

from experiments.common import cli
from tests.helpers import logs

app.define_help_flags()  # else the first command would, and flagsaver would remove them after it


def call(main: Callable[[], None], *argv: str, defaults: Callable[[], Sequence[str]] = list) -> int:
    """Run a command in this process; return its exit code. defaults: see `cli.run`."""
    with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
        patch.setattr(sys, "argv", ["command", *argv])
        with pytest.raises(SystemExit) as stop:
            cli.run(main, defaults=defaults)
    return int(stop.value.code or 0)


def train(folder: pathlib.Path, *argv: str) -> pathlib.Path:
    """Train HRNN Init on the log of `logs.write`, all inside a folder; return its run folder."""
    from experiments import run  # not with this module: its flags have names that others have too

    log = logs.write(folder / "log.csv")
    code = call(
        run.main,
        "--dataset=events",
        f"--events={log}",
        f"--prepared_dir={folder / 'prepared'}",
        "--min_support=1",
        "--hidden_units=8",
        "--batch_size=30",
        "--epochs=2",
        "--compilation_cache=",
        f"--output_dir={folder / 'run'}",
        *argv,
    )
    assert code == 0
    return folder / "run"
