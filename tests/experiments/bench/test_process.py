"""A command's time and memory, measured from outside."""

import os
import pathlib

import pytest

from experiments.bench import process
from experiments.training.epochs import FIRST_CHUNK
from hrnn_jax import errors
from tests.helpers import logs

ROOT = str(pathlib.Path(__file__).parents[3])
WAIT = "print('ready', flush=True); import threading; threading.Event().wait()"


def test_the_peak_is_that_of_the_command():
    """Bug: take it from getrusage, which counts this process, of which the command was a fork."""
    holding, empty = (
        process.measure("-c", f"{line}; {WAIT}", until="ready").peak_bytes
        for line in ("held = b'1' * 100_000_000", "held = 0")
    )
    assert empty < 60e6 < 100e6 < holding < 160e6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind")
def test_a_process_is_bound_to_one_core_and_this_one_is_not():
    """Bug: leave this process bound."""
    cores = os.sched_getaffinity(0)
    code = "import os; print(len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'])"
    assert process.measure("-c", code, core=0).last_line == "1 1\n"
    assert os.sched_getaffinity(0) == cores


def test_a_failure_is_reported_with_the_commands_last_line():
    """Bug: report the first line, which of a traceback says nothing."""
    code = "import sys; print('begun'); print('error: no log'); sys.exit(2)"
    for until in ("", "ready"):
        with pytest.raises(errors.InputError, match=r"^no log$"):
            process.measure("-c", code, until=until)


def test_a_run_is_ended_after_its_first_chunk(tmp_path, monkeypatch):
    """Bug: wait for the end of the run, which has a million epochs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    flags = [
        "--dataset=events",
        f"--events={logs.write(tmp_path / 'log.csv')}",
        "--min_support=1",
        f"--prepared_dir={tmp_path}",
        "--epochs=1000000",
        "--model=rnn",
        "--hidden_units=4",
        f"--output_dir={tmp_path / 'run'}",
    ]
    command = process.of_module("run", *flags)
    assert process.measure(*command, cache=tmp_path / "cache", until=FIRST_CHUNK).seconds > 0
    assert (tmp_path / "run" / "recipe.json").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()
