"""The benchmark: its floors are the products they stand for, its record and its table tell true."""

import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import benchmark
from experiments.bench import anatomy, children, floors, measures, probe, steps
from experiments.bench import report as bench_report
from experiments.bench.measures import Row, Sweep
from experiments.common import cli
from hrnn_jax import train
from hrnn_jax.config import ModelConfig, TrainConfig
from tests.helpers import logs
from tests.hrnn_jax import test_train_compiled

B, H, W = 6, 5, 3
SESSION = [(B, H, 2 * H), (B, H, H), (B, H, B), (B, B, H), (B, H, H)]  # GRU_ses, scores, back
SESSION += [(B, B, H), (H, B, H), (H, B, 2 * H)]  # gradients of item_out, w_cand, w_gates
USER = [(W, H, 3 * H), (W, H, 2 * H), (W, H, H), (W, H, H)]  # GRU_usr and Eq. 4
USER += [(W, 2 * H, H), (W, H, H), (W, H, H)]  # back to the opened states, through Eq. 4, to r c
USER += [(H, W, H), (H, W, H), (H, W, 2 * H), (H, W, 3 * H)]  # gradients of their weights
PRODUCTS = {  # (rows, inner, columns) by hand
    ("rnn", "full"): SESSION,
    ("rnn_concat", "full"): SESSION,
    ("hrnn_init", "full"): SESSION + USER,
    ("hrnn_all", "full"): [*SESSION, *USER, (B, H, 3 * H), (H, B, 3 * H), (W, 3 * H, H)],
    ("hrnn_all", "gates"): [*SESSION, *USER, (B, H, 2 * H), (H, B, 2 * H), (W, 2 * H, H)],
}
MADE = {"commit": "abc", "machine": "m", "finished": "2026-01-02", "threads": {}, "load": 1.0}


def config(variant, user_input):
    return ModelConfig(n_items=20, variant=variant, user_input=user_input, hidden_units=H)


def flops_of(compiled):
    """Return the flops of each matrix product in a compiled program."""
    text = compiled.as_text()
    shapes = {
        name: [int(n) for n in sizes.split(",")]
        for name, sizes in re.findall(r"(%[\w.-]+) = f32\[([\d,]+)\]", text)
    }
    products = re.findall(
        r"(%[\w.-]+) = f32\S* dot\((%[\w.-]+), .*lhs_contracting_dims=\{(\d)\}", text
    )
    return sorted(
        2 * int(np.prod(shapes[out])) * shapes[left][int(dim)] for out, left, dim in products
    )


def opening(variant):
    return W if variant.startswith("hrnn") else 0


@pytest.mark.parametrize(("form", "expected"), PRODUCTS.items())
def test_a_floor_makes_each_product_of_a_step_once_a_step_and_nothing_else(form, expected):
    """Neither dropped, nor merged, nor cut down to the number that leaves the scan.

    Bug: leave `ends` out of what `_products` returns.
    """
    floor = floors.step(config(*form), batch=B, opening=opening(form[0]), steps=7)
    expected = sorted(2 * m * k * n for m, k, n in expected)
    assert flops_of(floor.compiled) == expected
    # Beside them, the count of steps.
    assert sum(expected) <= floor.compiled.cost_analysis()["flops"] < sum(expected) + 10


@pytest.mark.parametrize("form", [("rnn", "full"), ("hrnn_all", "gates")])
def test_a_step_makes_the_products_of_its_floor(form):
    """Bug: give either one the other has not, such as the gradient of all of the batch's states."""
    made = TrainConfig(batch_size=B, chunk_steps=7)
    arguments = test_train_compiled.abstract(config(*form), made, 7, opening(form[0]))
    step = train.compiled_chunk(config(*form), made, stacked=False).lower(*arguments).compile()
    floor = floors.step(config(*form), batch=B, opening=opening(form[0]), steps=7)
    assert flops_of(step) == flops_of(floor.compiled)


def test_the_anatomy_of_a_step_knows_its_parts():
    """Bug: look for dots in the operation alone, not in what is fused into it."""
    network = steps.Network("hrnn_init", H, B, 0.0, n_items=40)
    sorts = anatomy._sorts(network, W)
    step = steps.compiled_chunk(network, W)
    assert list(sorts.values()).count(anatomy.PRODUCTS) == len(flops_of(step))
    # A weight and its sum of squares, of 2 GRUs of 3, of GRU_usr's input and of Eq. 4.
    assert list(sorts.values()).count(anatomy.DENSE) >= 2 * (2 * 3 + 1 + 2)
    assert (
        list(sorts.values()).count(anatomy.ROWS) >= 3 * 3
    )  # read, summed and written, of 3 tables


def test_what_a_floor_carries_neither_dies_out_nor_grows():
    """Bug: scale `turns` by 1.1; numbers that are not normal may be slow to multiply."""
    floor = floors.step(config("hrnn_all", "full"), batch=B, opening=W, steps=20_000)
    after, _ = floor()
    for leaf in jax.tree.leaves(after):
        assert 1e-3 < np.abs(leaf).max() < 1e3


def test_the_floor_of_ranking_holds_all_scores_of_a_block():
    """Bug: multiply `block[:1]`, as a compiler could that knows one number to be asked for."""
    floor = floors.scores(300, 1_000, H)
    assert floor.compiled.cost_analysis()["flops"] == pytest.approx(
        2 * floors.BLOCK * H * 1_000, rel=0.01
    )
    assert floor.compiled.memory_analysis().temp_size_in_bytes >= 4 * floors.BLOCK * 1_000


def test_subject_and_floor_take_turns_after_a_warm_up():
    """Bug: measure all of one before the other, so that noise hits one."""
    said, calls = [], []
    functions = [lambda name=name: calls.append(name) or len(calls) for name in "sf"]
    taken = measures.take_turns(functions, repeats=3, say=said.append)
    assert "".join(calls) == "sf" * 4
    assert taken == [[3, 5, 7], [4, 6, 8]]


def test_the_ratio_is_of_each_turn():
    """Bug: divide the medians: 4 / 2, of turns that were 8, 2 and 1 times the floor's."""
    row = Row("a", "s", [8, 4, 4], [1, 2, 4], "floor", 2.0)
    assert row.ratio == (2, 1, 8)
    row = Row("a", "s", [8, 4, 4], [1, 1, 4], "floor", 2.0)
    assert row.ratio == (4, 1, 8)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "s", [2.0], [1.0], "floor", 2.0), True),
        (Row("a", "s", [2.1], [1.0], "floor", 2.0), False),
        (Row("a", "s", [2.1], [1.0], "floor", 1.8, at_least=True), True),
        (Row("a", "s", [1.7], [1.0], "floor", 1.8, at_least=True), False),
        (Row("a", "s", [9.0], limit=10), True),
        (Row("a", "s", [11.0], limit=10), False),
        (Row("a", "s", [11.0]), None),
        (Row("a", "B", limit=1), None),  # not measured: neither
    ],
)
def test_a_target_is_met_or_missed(row, met):
    """Bug: ignore `at_least`."""
    assert row.met is met


def test_the_table_by_hand():
    """Bug: show the floor's spread for the subject's."""
    step = Row("step", "s", [3e-4, 2e-4, 4e-4], [1e-4] * 3, "products", 1.5, notes=["W is 8"])
    peak, gpu = Row("peak", "B", [5.5e9], limit=6e9), Row("GPU", "events/s")
    assert measures.cells(step) == (
        "step",
        "300.0 us (200.0 .. 400.0)",
        "100.0 us (100.0 .. 100.0): products",
        "3.00 (2.00 .. 4.00)",
        "<= 1.5 x",
        "missed",
    )
    assert measures.cells(peak) == ("peak", "5.50 GB", "", "", "<= 6 GB", "met")
    assert measures.cells(gpu) == ("GPU", "not measured", "", "", "", "")
    lines = measures.table([step, peak, gpu]).splitlines()
    said = ["step: W is 8; measured 3 times", "peak: measured once"]
    assert lines[3:] == ["GPU   not measured", "", *said]
    assert [line.index("<=") for line in lines[1:3]] == [lines[0].index("target")] * 2


def test_calls_come_together_in_one_record(tmp_path):
    """Bug: write what was found in place of the record."""
    path = tmp_path / "folder" / "record.json"
    old, new = Row("old", "s", [1.0]), Row("new", "s", [2.0], notes=["again"])
    sweep = Sweep("s", "items", {"us": {"a": [(1, [2.0, 3.0])]}})
    measures.merge(path, {"a": old, "b": old, "c": sweep}, MADE)
    measures.merge(path, {"b": new}, MADE | {"commit": "def"})
    record = measures.read(path)
    assert [measures.parse(record[name]).what for name in "abc"] == ["old", "new", "s"]
    assert [record[name]["made"]["commit"] for name in "abc"] == ["abc", "def", "abc"]
    assert measures.parse(record["b"]).notes == ["again"]


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


def test_rows_are_measured_recorded_and_reported(command, tmp_path):
    """Bug: name the record's entries by their part alone, so that tasks overwrite each other."""
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


def test_sweeps_are_drawn(tmp_path):
    """Bug: draw only the first curve of a panel."""
    points = [(1e3, [1.0, 2.0]), (1e6, [3.0])]
    sweep = Sweep("Size", "items", {"us": {"a step": points, "a floor": points}})
    measures.merge(tmp_path / "record.json", {"scaling_items": sweep}, MADE)
    bench_report.write(tmp_path / "record.json", tmp_path, order=[])
    drawn = (tmp_path / "figures" / "benchmark_scaling_items.svg").read_text()
    assert all(f">{text}</text>" in drawn for text in ("a step", "a floor", "items", "us"))
    assert "(figures/benchmark_scaling_items.svg)" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.parametrize("argv", [["--only=stpe"], ["--record"], ["--only=gpu", "--repeats=0"]])
def test_what_is_wrong_is_said_in_one_line(command, argv):
    """Bug: let an unknown row pass in silence."""
    code, _, err = command(*argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_peak_is_the_commands_own(tmp_path, monkeypatch):
    """Bug: take it from getrusage, which counts this process, a fork of which it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "takes.py").write_text("held = b'1' * 100_000_000")
    (tmp_path / "nothing.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    takes, nothing = (
        children.command(name, folder=tmp_path, cache=tmp_path / "cache").peak_bytes
        for name in ("takes", "nothing")
    )
    if probe.peak_bytes() is None:
        pytest.skip("this system tells no peak")
    assert nothing < 60e6 < 100e6 < takes < 160e6


def test_a_run_is_ended_after_its_first_chunk(tmp_path):
    """Bug: listen to the end of an epoch, of which this run has a million."""
    folder = tmp_path / "folder"
    folder.mkdir()
    taken = children.command(
        "experiments.run",
        "--dataset=events",
        f"--events={logs.write(tmp_path / 'log.csv')}",
        "--min_support=1",
        f"--prepared_dir={tmp_path}",
        f"--output_dir={tmp_path / 'run'}",
        "--epochs=1000000",
        folder=folder,
        cache=tmp_path / "cache",
        until="chunk",
    )
    assert 0 < taken.seconds < 60
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_the_drawn_log_has_the_sizes_asked_for():
    """Bug: hold out no session."""
    log = steps.random_log(
        np.random.default_rng(0), 2_000, 50, sessions=10.5, events=3.9, tested=True
    )
    sessions, users = log.session.max() + 1, log.user.max() + 1
    assert sessions / users == pytest.approx(10.5, rel=0.03)
    assert len(log) / sessions == pytest.approx(3.9, rel=0.03)
    assert len(np.unique(log.session[log.test])) == users
    assert set(log.item) <= set(range(50))
