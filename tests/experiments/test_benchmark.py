"""The benchmark's command: what it measures, records and reports."""

import json
import sys

import pytest
from absl.testing import flagsaver

from experiments import benchmark
from experiments.bench import evaluation
from experiments.bench.record import Row
from experiments.common import cli


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Run the benchmark in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["benchmark", *argv])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
            cli.run(benchmark.main, whole=False)
        out, err = capfd.readouterr()
        return stop.value.code or 0, out, err

    return call


def test_rows_are_measured_recorded_and_reported(command, monkeypatch, tmp_path):
    """Bug: name the record's entries by their part alone, so that tasks overwrite each other."""
    monkeypatch.setattr(evaluation, "EVALUATED_ITEMS", 500)
    code, out, err = command(
        "--only=evaluation,schedule,gpu",
        "--users_share=0.0002",
        "--repeats=2",
    )
    assert code == 0, err
    assert "3 of 3: gpu" in out
    names = ["evaluation/ranking", "evaluation/bootstrapping", "schedule"]
    record = json.loads((tmp_path / "out/benchmark/benchmark.json").read_text())
    assert [*record] == [*names, "gpu/1", "gpu/10"]
    for name in names:
        assert len(record[name]["subject"]) == len(record[name]["floor"]) == 2, name
        assert min(record[name]["floor"]) > 0
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "benchmark_notes.md").write_text("It bends `here`.\n")
    assert command("--record", "--record_dir=results")[0] == 0
    report = (tmp_path / "results" / "benchmark.md").read_text()
    assert report.endswith("\nIt bends `here`.\n")
    [gpu] = [line for line in report.splitlines() if line.startswith("| GPU: HRNN Init small, 1 ")]
    assert gpu.count("not measured") == 1
    assert json.loads((tmp_path / "results" / "benchmark.json").read_text()) == record


@pytest.mark.parametrize("argv", [["--only=stpe"], ["--record"], ["--only=gpu", "--repeats=0"]])
def test_invalid_flags_are_refused_in_one_line(command, argv):
    """Bug: ignore an unknown name."""
    code, _, err = command(*argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_table_has_its_columns_below_each_other(capsys):
    """Bug: let a terminal's 80 columns wrap what goes to a file."""
    step = Row("step", [3e-4, 2e-4, 4e-4], [1e-4] * 3, "products", 1.5, notes=["W is 8"])
    peak, gpu = Row("peak", [5.5e9], unit="B", limit=6e9), Row("GPU", unit="events/s")
    benchmark.print_table([step, peak, gpu])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[3].split() == ["GPU", "not", "measured"]
    assert lines[4:] == ["", "step: W is 8; measured 3 times", "peak: measured once"]
    ends = [lines[0].index("target") + len("target")] * 2
    assert [
        line.index(target) + len(target)
        for line, target in ((lines[1], "<= 1.5 x"), (lines[2], "<= 6 GB"))
    ] == ends
