"""A few seeds of the simulator, and that a seed is one run."""

import pytest

from tests.fault_simulator import schedule
from tests.fault_simulator.__main__ import PLACES, main
from tests.fault_simulator.oracle import Oracle

SEEDS = 40  # of `make fault-test`, in about two seconds


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_seeds_run_without_a_fault(first):
    for seed in range(first, first + 10):
        run = schedule.run_seed(seed)
        assert run.counts["acknowledged events"] + run.counts["errors"] > 0


def test_a_seed_is_one_run():
    """Bug: draw something from a clock, a folder's name or the operating system."""
    once, again = schedule.run_seed(3), schedule.run_seed(3)
    assert once.all_counts == again.all_counts

    def plain(run):
        return [step.replace(str(run.process.disk.folder), "") for step in run.steps]

    assert plain(once) == plain(again)


def test_the_command_prints_what_was_run(capsys):
    assert main(range(2), places=PLACES, with_steps=False) == 0
    lines = capsys.readouterr().out.splitlines()
    for place, line in zip(("file", "database"), lines, strict=True):
        assert line.startswith(f"states in a {place}: 2 seeds without a fault, 50 steps, ")


def test_the_command_prints_a_fault_with_its_steps_and_its_seed(monkeypatch, capsys):
    monkeypatch.setattr(Oracle, "best", lambda *_, **__: [])
    assert main([7], places=PLACES, with_steps=False) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].startswith("seed 7: FaultError: ")
    assert lines[-1] == "run it again: make fault-test SEED=7 STATES=file"
