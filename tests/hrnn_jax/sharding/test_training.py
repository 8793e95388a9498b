"""The number of devices does not change what is trained.

Two runs with the same schedule, draws and rows differ in the order of sums alone, by about 1e-7 of
a sum. If 1,000 updates add up such differences without enlarging them, losses differ by at most
1e-4 of their value; that they are not enlarged is what the longest run here shows.
"""

import functools
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
NAMES = ("top1", "one group", "bpr_max", "log_q", "full_softmax")


@functools.cache
def found():
    """Train in a process of its own; the last line is what it prints."""
    command = [sys.executable, "-m", "tests.hrnn_jax.sharding.on_devices"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_trains_what_one_device_does(name):
    run = found()["runs"][name]
    assert run["moved"] > 0.01
    for figures in run["runs"].values():
        assert figures["loss"] < (1e-4 if name == "top1" else 1e-5)
        assert figures["weights"] < (1e-2 if name == "top1" else 1e-4)
        assert figures["events"] == 1


def test_losses_stay_together_over_a_thousand_steps():
    run = found()["runs"]["top1"]
    assert run["steps"] >= 1000
    assert set(run["runs"]) == {"1", "2", "4"}


def test_devices_that_cannot_share_the_groups_are_refused_in_one_line():
    assert found()["refusal"] == (
        "`lane_groups`=1 cannot be shared by 4 devices: give a multiple of 4"
    )


def test_a_device_holds_its_part_of_the_tables_and_what_is_replicated():
    """Of ten million items on four devices; steps, lanes and what an update needs are 1% more."""
    large = found()["large"]
    part = large["tables"] / 4 + large["all"] - large["tables"]
    assert part < large["used"] < 1.01 * part + 10_000_000 * 4 / 4  # and the scratch memory


def test_a_checkpoint_of_four_devices_is_read_by_four_two_and_one():
    assert found()["restored"] == [0, 0, 0]
