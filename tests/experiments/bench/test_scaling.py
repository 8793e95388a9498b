"""A sweep collects the curves that are measured at each size."""

from experiments.bench import record, scaling

MADE = {"commit": "abc", "machine": "m", "finished": "2026-01-02", "threads": {}, "load": 1.0}


def test_a_sweep_has_each_curve_in_its_panel_and_unit(tmp_path):
    """Bug: keep the panels in a defaultdict, which the record cannot copy."""
    result = scaling.sweep(
        "Size", "items", [1, 10], lambda n: {("us", "a step"): [1e-6 * n], ("us", "b"): [2e-6]}
    )
    record.add(tmp_path / "record.json", result, MADE)
    [read] = record.read(tmp_path / "record.json").values()
    assert isinstance(read, record.Sweep)
    assert read.panels == {
        "us": {"a step": [[1, [1.0]], [10, [10.0]]], "b": [[1, [2.0]], [10, [2.0]]]}
    }
