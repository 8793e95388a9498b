"""The benchmark's command: what it measures, records and reports."""

import json
import sys

import pytest
from absl.testing import flagsaver

from experiments import benchmark
from experiments.bench import evaluation
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
    assert "3 of 3: gpu\n    no GPU here: nothing is measured\n" in out
    of_evaluation = ["ranking", "bootstrapping", "hrnn_plus"]
    names = [*(f"evaluation/{name}" for name in of_evaluation), "schedule"]
    record = json.loads((tmp_path / "out/benchmark/benchmark.json").read_text())
    assert [*record] == names
    for name in names:
        assert len(record[name]["subject"]) == len(record[name]["floor"]) == 2, name
        assert min(record[name]["floor"]) > 0
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "benchmark_notes.md").write_text("It bends `here`.\n")
    assert command("--record", "--record_dir=results")[0] == 0
    report = (tmp_path / "results" / "benchmark.md").read_text()
    assert report.endswith("\nIt bends `here`.\n")
    assert json.loads((tmp_path / "results" / "benchmark.json").read_text()) == record


@pytest.mark.parametrize(
    "argv",
    [
        ["--only=stpe"],
        ["--only="],
        ["--only=peers", "--logs="],
        ["--record"],
        ["--only=gpu", "--repeats=0"],
        ["--only=peers", "--logs=video mine=missing.csv:video"],
    ],
)
def test_invalid_flags_are_refused_in_one_line(command, argv):
    """Bug: ignore an unknown name, or measure nothing where there is none."""
    code, _, err = command(*argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
