"""A run of several processes: its folder is that of one; wrong flags are refused in one line."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import polars as pl
import pytest

from experiments import run
from hrnn_jax.files import checkpoint
from hrnn_jax.sharding import checkpoints
from tests.helpers import logs, runs

ROOT = pathlib.Path(__file__).parents[3]
SMALL = ("--dataset=events", "--min_support=1", "--hidden_units=8", "--batch_size=16")
PLACES = ("--places=5", "--neighbours=4")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def weights(folder):
    return jax.tree.leaves(checkpoint.load_run(folder)[1])


@contextlib.contextmanager
def two_processes(*flags):
    """Start two processes of a run; they are killed after the block."""
    command = [sys.executable, "-u", "-m", "experiments.run", *flags, "--processes=2"]
    command.append(f"--coordinator=127.0.0.1:{free_port()}")
    running = [
        subprocess.Popen(
            [*command, f"--process={n}"],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def ended(running):
    """Wait; return the exit codes, and what each printed as an error."""
    errors = [process.communicate()[1] for process in running]
    return [process.returncode for process in running], errors


def test_two_processes_go_on_after_any_end_and_leave_the_run_folder_of_one(tmp_path):
    """And the second one prints nothing. One device goes on from where they ended."""
    log = logs.write(tmp_path / "log.csv")
    given = [
        *SMALL,
        *PLACES,
        f"--events={log}",
        f"--prepared_dir={tmp_path / 'prepared'}",
        "--resume",
    ]
    given += ["--lane_groups=4", f"--compilation_cache={tmp_path / 'compiled'}"]
    both, alone = tmp_path / "both", tmp_path / "alone"
    lost = "error: process 0 ends, as another one has ended or cannot be reached; start the same "
    lost += "command on all again to go on\n"
    interrupted = "interrupted: the same command with --resume goes on\n"
    for signals, codes, errors in (
        ({1: signal.SIGTERM}, [1, -signal.SIGTERM], [lost, ""]),
        ({0: signal.SIGINT, 1: signal.SIGINT}, [130, 130], [interrupted, interrupted]),
    ):
        with two_processes(*given, f"--output_dir={both}", "--epochs=100000") as running:
            assert any("loss" in line for line in running[0].stdout)
            for number, sent in signals.items():
                running[number].send_signal(sent)
            assert ended(running) == (codes, errors)
    last = checkpoint.latest(checkpoints.folder(both, 0)) + 1
    with two_processes(*given, f"--output_dir={both}", f"--epochs={last}") as running:
        out = running[0].stdout.read()
        assert running[1].stdout.read() == ""
        assert ended(running) == ([0, 0], ["", ""])
    assert "training over 2 devices of 2 processes" in out
    for folder, epochs in ((alone, last), (both, last + 1), (alone, last + 1)):
        options = [f"--epochs={epochs}", f"--output_dir={folder}"]
        assert runs.call(run.main, *given, *options) == 0
    names = [sorted(path.name for path in folder.iterdir()) for folder in (both, alone)]
    assert names[0] == names[1]
    for found, expected in zip(weights(both), weights(alone), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    ranks, expected = (pl.read_parquet(folder / "ranks.parquet") for folder in (both, alone))
    assert ranks.equals(expected)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--processes=2"], "--processes needs --coordinator"),
        (["--process=0"], "--process needs --coordinator"),
        (["--coordinator=a:9", "--processes=2", "--process=2"], "--process=2: of 2 processes"),
        (["--coordinator=a:9", "--process=0"], "--coordinator needs --processes"),
        (["--coordinator=a:9", "--processes=0", "--process=0"], "--processes=0: give 1 or more"),
        (["--coordinator=a", "--processes=2", "--process=1"], "give HOST:PORT of process 0"),
        (["--coordinator=auto", "--processes=2"], "--coordinator=auto asks the cluster"),
        (["--coordinator=a:9", "--processes=3", "--process=0"], "cannot be shared by 3 processes"),
        (["--coordinator=a:9", "--seeds_at_once=2"], "--seeds_at_once=2 is for one device"),
        (["--coordinator=a:9", "--model=sr"], "--coordinator is not used by --model=sr"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(flags, says, capfd):
    small = SMALL[:2] if "--model=sr" in flags else (*SMALL, "--lane_groups=4")
    assert runs.call(run.main, *small, "--events=log.csv", *flags) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert says in error
