"""What tests of commands share."""

import sys

import pytest
from absl.testing import flagsaver

from experiments.common import cli
from tests.helpers import logs, runs

# In a flag file, as a typed flag that the model does not use is refused.
STUDY = "--min_support=1\n--hidden_units=8\n--model=rnn\n--epochs=2\n--study_dir=study\n--jobs=1\n"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A small trained run folder, next to its log and prepared folder; tests must not change it."""
    return runs.train(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """Run a command in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(main, *argv):
        monkeypatch.setattr(sys, "argv", ["command", *argv])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
            cli.run(main)
        out, err = capfd.readouterr()
        return stop.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def tune_argv(tmp_path_factory):
    """Flags of tune for a small model on a small log, with the study in the working directory."""
    log = logs.write(tmp_path_factory.mktemp("logs") / "log.csv")
    path = log.with_name("small.flags")
    path.write_text(STUDY)
    return ("--dataset=events", f"--events={log}", f"--flagfile={path}")


@pytest.fixture
def tune(call, tune_argv):
    """Run experiments.tune on a small log."""
    from experiments import tune

    return lambda *argv: call(tune.main, *tune_argv, *argv)
