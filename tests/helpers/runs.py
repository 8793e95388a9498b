"""A small trained run folder."""

import pathlib
import sys

import pytest
from absl import app
from absl.testing import flagsaver

from experiments import run
from experiments.common import cli
from tests.helpers import logs

app.define_help_flags()  # else the first command would, and flagsaver take them back after it


def train(folder: pathlib.Path, *argv: str) -> pathlib.Path:
    """Train HRNN Init on the log of `logs.write`, all inside a folder; return its run folder."""
    log = logs.write(folder / "log.csv")
    given = [
        *("--dataset=events", f"--events={log}", f"--prepared_dir={folder / 'prepared'}"),
        *("--min_support=1", "--hidden_units=8", "--batch_size=10", "--epochs=2"),
        *("--compilation_cache=", f"--output_dir={folder / 'run'}", *argv),
    ]
    with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
        patch.setattr(sys, "argv", ["run", *given])
        with pytest.raises(SystemExit) as stop:
            cli.run(run.main)
    assert not stop.value.code
    return folder / "run"
