"""The report of the benchmark: its figures, and the shipped one."""

import pathlib

import experiments
from experiments.bench import record, report, tasks
from experiments.bench.record import Sweep

RESULTS = pathlib.Path(experiments.__file__).with_name("results")
MADE = {"commit": "abc", "machine": "m", "finished": "2026-01-02", "threads": {}, "load": 1.0}


def test_sweeps_are_drawn(tmp_path):
    """Bug: draw only the first curve of a panel."""
    points = [(1e3, [1.0, 2.0]), (1e6, [3.0])]
    sweep = Sweep("Size", "items", {"us": {"a step": points, "a floor": points}})
    record.add(tmp_path / "record.json", {"scaling_items": sweep}, MADE)
    report.write(tmp_path / "record.json", tmp_path, order=[])
    drawn = (tmp_path / "figures" / "benchmark_scaling_items.svg").read_text()
    assert all(f">{text}</text>" in drawn for text in ("a step", "a floor", "items", "us"))
    assert "(figures/benchmark_scaling_items.svg)" in (tmp_path / "benchmark.md").read_text()


def test_the_shipped_report_is_made_from_the_shipped_record(tmp_path):
    """Bug: change a sentence of the report without writing the shipped one again."""
    for name in ("benchmark.json", "benchmark_notes.md"):
        (tmp_path / name).write_text((RESULTS / name).read_text())
    written = report.write(tmp_path / "benchmark.json", tmp_path, order=[*tasks.TASKS])
    assert written.read_text() == (RESULTS / "benchmark.md").read_text()
