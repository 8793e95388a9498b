"""The rows of the benchmark, their text and the record."""

import pytest

from experiments.bench import record
from experiments.bench.record import Row, Sweep
from hrnn_jax import errors

MADE = {"commit": "abc", "machine": "m", "finished": "2026-01-02", "threads": {}, "load": 1.0}


def spread(ratio):
    return ratio.median, ratio.low, ratio.high


def test_the_ratio_is_the_median_of_the_turns_ratios():
    """Bug: divide the medians: 4 / 2, of turns that were 8, 2 and 1 times the floor's."""
    row = Row("a", [8, 4, 4], [1, 2, 4], "floor", 2.0)
    assert spread(row.ratio) == (2, 1, 8)
    row = Row("a", [8, 4, 4], [1, 1, 4], "floor", 2.0)
    assert spread(row.ratio) == (4, 1, 8)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", [2.0], [1.0], "floor", 2.0), True),
        (Row("a", [2.1], [1.0], "floor", 2.0), False),
        (Row("a", [2.1], [1.0], "floor", 1.8, at_least=True), True),
        (Row("a", [1.7], [1.0], "floor", 1.8, at_least=True), False),
        (Row("a", [9.0], limit=10), True),
        (Row("a", [11.0], limit=10), False),
        (Row("a", [11.0]), None),
        (Row("a", unit="B", limit=1), None),  # not measured: neither
    ],
)
def test_a_target_is_met_or_missed(row, met):
    """Bug: ignore `at_least`."""
    assert row.met is met


def test_the_cells_of_rows_computed_by_hand():
    """Bug: show the range of the floor for that of the measurement."""
    step = Row("step", [3e-4, 2e-4, 4e-4], [1e-4] * 3, "products", 1.5, notes=["W is 8"])
    peak, gpu = Row("peak", [5.5e9], unit="B", limit=6e9), Row("GPU", unit="events/s")
    assert step.cells() == (
        "step",
        "300.0 us (200.0 .. 400.0)",
        "100.0 us (100.0 .. 100.0): products",
        "3.00 (2.00 .. 4.00)",
        "<= 1.5 x",
        "missed",
    )
    assert peak.cells() == ("peak", "5.50 GB", "", "", "<= 6 GB", "met")
    assert gpu.cells() == ("GPU", "not measured", "", "", "", "")


def test_the_record_collects_the_results_of_several_calls(tmp_path):
    """Bug: replace the whole record by the new results."""
    path = tmp_path / "folder" / "record.json"
    old, new = Row("old", [1.0]), Row("new", [2.0], notes=["again"])
    sweep = Sweep("s", "items", {"us": {"a": [(1, [2.0, 3.0])]}})
    record.add(path, {"a": old, "b": old, "c": sweep}, MADE)
    record.add(path, {"b": new}, MADE | {"commit": "def"})
    results = record.read(path)
    assert [results[name].what for name in "abc"] == ["old", "new", "s"]
    assert [results[name].made["commit"] for name in "abc"] == ["abc", "def", "abc"]
    assert results["b"].notes == ["again"]


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ('"unit": "s"', '"unit": "m"'),
        ('"subject": [', '"measured": ['),
        ('"subject": [', '"subject": [null,'),
        ('"commit"', '"version"'),
        ('"kind": "row"', '"kind": "sweep"'),
        ("{", ""),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path, text, damage):
    """Bug: read only the names of the entries."""
    path = tmp_path / "record.json"
    record.add(path, {"a": Row("a", [1.0])}, MADE)
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, damage, 1))
    with pytest.raises(errors.InputError, match=r"record\.json is damaged: .*measure again$"):
        record.read(path)


def test_the_table_has_its_columns_below_each_other(capsys):
    """Bug: let a terminal's 80 columns wrap what goes to a file."""
    step = Row("step", [3e-4, 2e-4, 4e-4], [1e-4] * 3, "products", 1.5, notes=["W is 8"])
    peak, gpu = Row("peak", [5.5e9], unit="B", limit=6e9), Row("GPU", unit="events/s")
    record.print_table([step, peak, gpu])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[3].split() == ["GPU", "not", "measured"]
    assert lines[4:] == ["", "step: W is 8; measured 3 times", "peak: measured once"]
    ends = [lines[0].index("target") + len("target")] * 2
    assert [
        line.index(target) + len(target)
        for line, target in ((lines[1], "<= 1.5 x"), (lines[2], "<= 6 GB"))
    ] == ends
