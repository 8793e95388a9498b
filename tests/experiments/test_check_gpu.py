"""The command that checks a GPU: tried on a CPU, with parts that measure nothing."""

import json
import os
import re
import sys

import pytest
from absl.testing import flagsaver

from experiments import check_gpu
from experiments.bench import gpu
from experiments.bench.record import Row
from experiments.common import cli


def measured(settings):
    yield "", Row("CPU: a", [settings.scale], unit="%")


def crash(_):
    yield "first", Row("CPU: b", [2.0])
    os._exit(3)


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Check in this process, in a project with one recorded step; returns (exit code, output)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check_gpu, "ROOT", tmp_path)
    monkeypatch.setattr(check_gpu, "GOLDEN", "test_recorded.py")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setattr(gpu, "PARTS", {"small": measured})
    (tmp_path / "test_recorded.py").write_text("def test_step():\n    pass\n")

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["check_gpu", *argv])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
            cli.run(check_gpu.main, whole=False)
        return stop.value.code or 0, *capfd.readouterr()

    return call


def test_rows_are_recorded_and_summarised(command, tmp_path):
    """Bug: measure in full sizes whatever is asked for."""
    code, out, err = command("--device=cpu", "--trial")
    assert code == 0, out + err
    assert re.search(r"2 of 2: small, \d+ min", out)  # are left: fewer on a busy machine
    assert out.endswith("recorded steps: reproduced\n")
    recorded = json.loads((tmp_path / "out/check_gpu/benchmark.json").read_text())
    assert recorded["gpu/small"]["subject"] == [0.01]
    assert {"commit", "machine", "finished"} <= recorded["gpu/small"]["made"].keys()


def test_steps_that_are_not_reproduced_fail_the_check_but_not_the_rows(command, tmp_path):
    """Bug: ignore pytest's exit code."""
    (tmp_path / "test_recorded.py").write_text("def test_step():\n    assert False\n")
    code, out, _ = command("--device=cpu", "--trial")
    assert code == 1
    assert "recorded steps: NOT REPRODUCED" in out
    assert (tmp_path / "out/check_gpu/benchmark.json").exists()


def test_a_part_that_fails_leaves_the_others_alone(command, monkeypatch):
    """Bug: end at the first part that fails."""
    monkeypatch.setattr(gpu, "PARTS", {"large": crash, "small": measured})
    code, out, _ = command("--device=cpu", "--trial")
    assert code == 1
    assert "failed: large: its process ended with code 3" in out
    summary = out[out.index("what ") :]
    assert "CPU: b" in summary
    assert "CPU: a" in summary


def test_what_the_time_did_not_reach_is_said(command):
    """Bug: count the minutes from the start of this command alone."""
    code, out, _ = command("--device=cpu", "--trial", "--began=1")
    assert code == 0
    assert "not complete: small: the time was up" in out


def test_a_machine_without_gpu_is_told_so_in_one_line(command):
    """Bug: measure the CPU instead."""
    code, out, err = command()
    assert (code, out) == (2, "")
    assert err.startswith("error: no GPU found (--device=cuda)")
    assert err.count("\n") == 1
