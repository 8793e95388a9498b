"""Processes that compute together, real ones: they go on after a kill, and say what is wrong."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from hrnn_jax.errors import InputError
from hrnn_jax.sharding import processes

WORKER = pathlib.Path(__file__).with_name("worker.py")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(n_processes, folder, work, which=None, **environment):
    """Run the processes; return the exit code and the lines on standard error of each."""
    port, root = free_port(), str(WORKER.parents[3])
    environment = os.environ | {"PYTHONPATH": root} | environment
    running = [
        subprocess.Popen(
            [sys.executable, WORKER, *map(str, (port, n_processes, me, folder, work))],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in (range(n_processes) if which is None else which)
    ]
    try:
        errors = [process.communicate(timeout=120)[1].splitlines() for process in running]
        return [process.returncode for process in running], errors
    finally:
        for process in running:
            process.kill()


def result(folder, work, n_processes):
    with np.load(folder / f"result_{work}_{n_processes}.npz") as file:
        return dict(file)


def test_process_0_killed_ends_the_other_in_one_line_and_both_go_on_to_the_same_bits(tmp_path):
    """Of another one, see test_distributed. Bug: let jax connect with process 0 by itself."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert start(2, whole, "go") == ([0, 0], [[], []])
    expected = result(whole, "go", 2)
    assert expected["table"].any()

    codes, errors = start(2, killed, "kill")
    assert codes == [-signal.SIGKILL, 1]
    assert len(errors[1]) == 1
    assert "process 1 ends, as another one has ended" in errors[1][0]
    assert sorted(path.name for path in killed.iterdir()) == ["1", "2"]

    # On four devices in place of two, as well as on two.
    other = tmp_path / "other"
    shutil.copytree(killed, other)
    four = "--xla_force_host_platform_device_count=4"
    assert start(2, killed, "go") == ([0, 0], [[], []])
    assert start(1, other, "go", XLA_FLAGS=four) == ([0], [[]])
    for folder, n_processes in ((killed, 2), (other, 1)):
        for name, array in result(folder, "go", n_processes).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_processes_of_different_work_end_and_name_what_differs_and_where(tmp_path):
    codes, errors = start(2, tmp_path, "differ")
    assert codes == [2, 2]
    line = (
        "error: process 1: another log than process 0: give all processes the same command and "
        "the same files"
    )
    assert errors == [[line], [line]]


@pytest.mark.parametrize(("me", "says"), [(0, "not all of 2 processes"), (1, "process 0 has not")])
def test_a_process_whose_peer_never_comes_ends_in_one_line(tmp_path, me, says):
    codes, [[line]] = start(2, tmp_path, "go", which=[me], WITHIN="0.5")
    assert codes == [2]
    assert says in line
    assert "within 0.5 seconds" in line


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is taken"):
            processes.join(processes.Place(f"127.0.0.1:{port}", 2, 0))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("node0", 2, 0), "give HOST:PORT of process 0"),
        (("node0:port", 2, 0), "give HOST:PORT of process 0"),
        (("node0:70000", 2, 0), "give HOST:PORT of process 0"),
        (("node0:9876", None, 0), "needs `processes`"),
        (("node0:9876", 2, None), "needs `process`"),
        (("node0:9876", 0, 0), "`processes`=0: give at least 1"),
        (("node0:9876", 2, 2), "`process`=2: of 2 processes they are 0 to 1"),
        (("node0:9876", 2, -1), "`process`=-1: of 2"),
    ],
)
def test_a_place_that_cannot_be_is_refused(place, says):
    with pytest.raises(InputError, match=says):
        processes.Place(*place)


def test_other_errors_than_a_lost_process_pass_through():
    with pytest.raises(ValueError, match="of the work itself"), processes.together():
        raise ValueError("of the work itself")
