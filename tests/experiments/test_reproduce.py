"""The whole evaluation as its users run it, in miniature: no run is repeated or lost."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from absl.testing import flagsaver

from experiments import reproduce
from experiments.common import cli
from experiments.jobs import grid, paper_rows
from experiments.jobs.runner import Runner
from experiments.paper import searches
from experiments.tuning import search_spaces
from tests.helpers import reproduction

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    """A log of 40 users with 7 sessions of 3 to 6 events; the last sessions are the test."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        for session in range(7):
            items = (rng.integers(20) + np.cumsum(rng.integers(1, 3, rng.integers(3, 7)))) % 20
            start = 1_600_000_000 + 86_400 * session + user
            rows += [(f"u{user}", f"i{item}", start + 60 * n) for n, item in enumerate(items)]
    path = tmp_path_factory.mktemp("logs") / "log.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "ts"], orient="row").write_csv(path)
    return path


@pytest.fixture
def reproduced(monkeypatch, capfd, tmp_path, log_file):
    """Run experiments.reproduce on a shrunken plan; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(grid, "columns", grid.columns)  # taken back after the test
    monkeypatch.setattr(grid, "rows", grid.rows)
    for name in ("TRIALS", "EPOCHS"):
        monkeypatch.setattr(searches, name, getattr(searches, name))

    def call(*argv, **shrunk):
        reproduction.shrink(shrunk.pop("log", log_file), **shrunk)
        monkeypatch.setattr(
            sys, "argv", ["reproduce", "--target=table3", "--n_seeds=2", "--jobs=2", *argv]
        )
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
            cli.run(reproduce.main)
        out, err = capfd.readouterr()
        return stop.value.code or 0, out, err

    return call


def made():
    """Return the time at which each complete run ended, by folder."""
    found = pathlib.Path("out/reproduce/runs").glob("*/*/*/metrics.json")
    return {str(path.parent): path.stat().st_mtime_ns for path in found}


def read(name):
    return pl.read_csv(f"out/reproduce/results/{name}.csv")


def test_a_reproduction_from_first_to_last(reproduced):
    """Several calls on one folder; the first fails to train one of the two networks."""
    wrong = ["--optimizer=adam", "--momentum=0.1"]
    code, out, err = reproduced(rnn_flags=wrong)  # a failed run stops no other, and is reported
    assert code == 1
    others = made()
    assert len(others) == 2 * (1 + 2)  # Item-KNN, and both seeds of the other network
    assert err.count("failed: one rnn_small seed") == 2
    assert "--momentum=0.1 has no effect without" in err
    assert "FAILED" in out
    assert read("failed")["row"].to_list() == ["rnn_small"] * 4
    assert "rnn_small" not in read("scores")["row"]
    report = pathlib.Path("out/reproduce/report.md").read_text()
    assert "--momentum=0.1 has no effect without" in report
    assert len(re.findall(r"^\[\d+/10\]", out, re.MULTILINE)) == 10
    assert "\r" not in out

    code, out, err = reproduced()
    assert code == 0, (out, err)
    assert "6 of 10 runs were done before" in out
    first = made()
    assert others.items() <= first.items()
    assert len(first) == 2 * (1 + 2 + 2)
    assert len(re.findall(r"^\[\d+/10\]", out, re.MULTILINE)) == 4
    scores = read("scores")
    # Two columns on the same log are the same data, so the same runs.
    one, two = (scores.filter(column=key).drop("column") for key in ("one", "two"))
    assert one.equals(two)
    for folder in first:
        metrics = json.loads(pathlib.Path(folder, "metrics.json").read_text())
        row = pathlib.Path(folder).parent.name.rpartition("-")[0]
        [own] = metrics["per_seed"]
        mine = one.filter(row=row, seed=own["seed"])
        assert len(mine) == 6 * len(grid.CUTOFFS)
        for metric, cutoff, value in mine.select("metric", "cutoff", "value").rows():
            assert own[f"{metric}@{cutoff}"] == pytest.approx(value), (row, metric, cutoff)
    assert read("runs").select("column", "row", "seed").n_unique() == 10
    assert set(read("runs")["cases"]) == {int(metrics["mean"]["cases"])}
    report = pathlib.Path("out/reproduce/report.md").read_text()
    best = one.filter(row="rnn_small", metric="recall", cutoff=5)["value"].mean()
    assert f"{best:.4f}" in report

    code, out, _ = reproduced()  # complete: nothing is left to do
    assert code == 0
    assert made() == first
    assert "10 of 10 runs were done before" in out

    reproduced("--rows=item_knn", "--data_sets=two")  # these alone; the others keep their runs
    assert made() == first
    assert read("runs").select("column", "row").rows() == [("two", "item_knn")]
    assert read("data").filter(key="command")["value"][0].endswith("ROWS=item_knn COLUMNS=two")

    reproduced("--norun", "--n_seeds=3")  # a report on the complete runs, no more
    assert made() == first
    assert read("runs").filter(column="one", row="rnn_small")["seed"].to_list() == [0, 1]

    code, out, _ = reproduced("--n_seeds=3", columns=("one",))  # one more seed of each network
    assert code == 0
    assert first.items() <= made().items()
    assert len(made()) == 10 + 2

    code, out, _ = reproduced(rnn_flags=["--learning_rate=0.05"], columns=("one",))
    assert code == 0
    assert "3 of 5 runs were done before" in out  # it affects the RNNs alone
    assert len(made()) == 12 + 2
    rates = read("hyper").filter(key="learning_rate").select("row", "value").unique()
    assert set(rates.rows()) == {("rnn_small", "0.05"), ("hrnn_init_small", "0.1")}


def test_a_tuned_row_is_searched_once_and_run_with_the_best_trials_settings(reproduced):
    shrunk = {"tuned": True, "columns": ("one",)}
    code, out, err = reproduced(rnn_flags=["--split=test"], **shrunk)
    assert code == 1
    assert "0 of 0 runs are done" in out
    assert "failed: tuning one rnn_tuned_large: --split=test: trials are measured" in err

    code, out, err = reproduced("--n_seeds=1", **shrunk)
    assert code == 0, (out, err)
    study = pathlib.Path("out/reproduce/tune/one/rnn_tuned_large")
    trials = pl.read_csv(study / "trials.csv")
    assert trials["epochs"].to_list() == [1, 1]
    best = trials.sort("value", descending=True, maintain_order=True).row(0, named=True)
    assert f"[1/1] one rnn_tuned_large: best {best['value']:.4f}" in out
    assert json.loads((study / "recipe.json").read_text())["user_share"] == 0.25
    chosen = {key: float(value) for key, value in read("chosen").select("key", "setting").rows()}
    assert chosen == {name: best[name] for name in search_spaces.BY_MODEL["rnn"]}
    first = made()
    [folder] = map(pathlib.Path, first)
    recipe = json.loads((folder / "recipe.json").read_text())
    ran = recipe["model"] | recipe["training"]
    assert {name: ran[name] for name in chosen} == chosen
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 2  # the row's, not the trial's
    assert metrics["split"] == "test"
    assert metrics["users"] == 40
    report = pathlib.Path("out/reproduce/report.md").read_text()
    assert "tuned, large" in report
    assert f"Recall@5 {best['value']:.4f} on the validation split, the best of 2 trials" in report

    code, out, _ = reproduced("--n_seeds=1", **shrunk)
    assert code == 0
    assert "1 of 1 studies were done before" in out
    assert made() == first

    # A better trial is another row of flags, and so another run.
    better = (study / "best.flags").read_text() + "--learning_rate=0.0123\n"
    (study / "best.flags").write_text(better)
    code, out, _ = reproduced("--n_seeds=1", **shrunk)
    assert code == 0
    assert len(made()) == 2
    assert read("hyper").filter(key="learning_rate")["value"].to_list() == ["0.0123"]


def test_a_log_that_cannot_be_read_is_reported(reproduced, tmp_path):
    (tmp_path / "empty.csv").write_text("user_id,item_id,ts\n")
    code, _, err = reproduced(log="empty.csv")
    assert code == 1
    assert "failed: one: " in err
    assert "empty.csv" in err


def start(tmp_path, log_file, epochs):
    argv = [sys.executable, "-m", "tests.helpers.reproduction", str(log_file), str(epochs)]
    argv += ["--target=table3", "--n_seeds=1", "--jobs=2"]
    return subprocess.Popen(
        argv,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def histories(root):
    """Returns the lines of each run's history; looks into no checkpoint, where folders vanish."""
    found = (root / "out/reproduce/runs").glob("*/*/*/history.jsonl")
    return {path: path.read_text().splitlines() for path in found}


def epochs_trained(root):
    return sum(map(len, histories(root).values()))


def test_an_interrupted_reproduction_goes_on_where_it_stopped(tmp_path, log_file):
    kept = []
    for number in (signal.SIGKILL, signal.SIGINT):
        before = epochs_trained(tmp_path)
        with start(tmp_path, log_file, 40) as process:
            try:
                for _ in range(3000):
                    if process.poll() is not None or epochs_trained(tmp_path) > before + 3:
                        break
                    time.sleep(0.1)
            finally:
                process.send_signal(number)
            _, err = process.communicate(timeout=300)
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), err
        if number == signal.SIGINT:
            assert err == "interrupted: the same command goes on\n"
        kept.append(histories(tmp_path))
        time.sleep(0.5)  # time in which a run that was left behind would write
        assert histories(tmp_path) == kept[-1]
    with start(tmp_path, log_file, 40) as again:
        out, err = again.communicate(timeout=300)
    assert again.returncode == 0, (out, err)
    after = histories(tmp_path)
    for path, before in [item for found in kept for item in found.items()]:
        # Seconds too: not trained again, but for an epoch cut off before its checkpoint was there.
        assert after[path][: len(before) - 1] == before[:-1]
        assert len(after[path]) == 40


def test_two_reproductions_do_not_share_a_folder(reproduced, tmp_path):
    with flagsaver.flagsaver(), Runner(tmp_path / "out" / "reproduce", "", 1).lock("one"):
        code, _, err = reproduced()
    assert code == 2
    assert "another reproduction" in err


def test_the_grid_is_that_of_the_papers_tables():
    columns = grid.columns(xing_events=None, video_events=None, extra=[])
    assert [column.key for column in columns] == ["xing", "video", "journey"]
    keys = [row.key for row in grid.rows(["small", "large"])]
    small = [
        *("rnn_small", "rnn_concat_small", "hrnn_all_small", "hrnn_all_gates_small"),
        *("hrnn_init_small", "hrnn_all_2017_small", "hrnn_all_gates_2017_small"),
        "hrnn_init_2017_small",
    ]
    large = [key.replace("small", "large") for key in small]
    large += ["rnn_tuned_large", "hrnn_init_tuned_large"]
    beyond = ["markov", "sr", "vsknn", "vsknn_br"]
    assert keys == ["item_knn", "ppop", *small, *large, *beyond]
    assert [row.key for row in grid.rows(["small"])] == ["item_knn", "ppop", *small, *beyond]
    cells = grid.cells(columns, grid.rows(["small", "large"]))
    cells += [(grid.xxl_column(0.1), row) for row in grid.xxl_rows()]
    prepared = dict.fromkeys(["xing", "video", "journey", "videoxxl"], "log")
    runs = grid.ordered_runs(pathlib.Path("root"), cells, 10, prepared, 3)
    # Two large rows have two seeds more, on two columns; two tuned ones have three on the third.
    n_table3 = 3 * (6 + 8 * 10 + 8) + 2 * 2 * 2 + 2 * 3
    assert len(runs) == len({run.folder for run in runs}) == n_table3 + 4
    tuned = {(run.column.key, run.row.key) for run in runs if "tuned" in run.row.key}
    assert tuned == {("journey", "rnn_tuned_large"), ("journey", "hrnn_init_tuned_large")}
    sizes = [run.row.size for run in runs]
    assert sizes == sorted(sizes, key=[None, "small", "large"].index)
    assert len(grid.ordered_runs(pathlib.Path("root"), cells, 1, prepared, 3)) == 3 * 22 + 2 + 4


def test_each_row_of_a_network_trains_what_its_section_says():
    """The settings of its command: of form, size and user input."""
    for row in paper_rows.NETWORKS.values():
        flags = dict(cli.split(flag) for flag in cli.expand(row.flags))
        assert flags["model"] == row.model
        assert flags["hidden_units"] == {"small": "100", "large": "500"}[row.size]
        assert (flags.get("user_input") == "gates") == ("gates" in row.key)
        leak = flags.get("leak", "equation") if row.is_hrnn else None
        assert (leak == "carried") == (row.form == paper_rows.CODE_2017)
        assert ("2017" in row.key) == row.section.startswith("code of 2017")
        assert ("tuned" in row.key) == (row.section == "tuned, large") == row.tuned
        stops = row.is_hrnn and row.size == "large" and not row.tuned
        assert flags.get("stop_above_loss") == ("1" if stops else None)


def test_a_row_is_compared_with_those_of_its_size_and_form():
    pairs = list(paper_rows.compared_pairs())
    assert len(pairs) == len(set(pairs))
    of = {
        key: {b for a, b in pairs if a == key} - {"ppop", "item_knn"} for key in paper_rows.NETWORKS
    }
    assert of["rnn_small"] == set()
    assert of["rnn_concat_large"] == {"rnn_large", "rnn_concat_small"}
    assert of["hrnn_all_gates_2017_large"] == {
        *("rnn_large", "rnn_concat_large", "hrnn_init_2017_large", "hrnn_all_gates_2017_small")
    }
    assert of["rnn_tuned_large"] == {"rnn_small"}
    # Not with RNN Concat, which is not tuned.
    assert of["hrnn_init_tuned_large"] == {"rnn_tuned_large", "hrnn_init_2017_small"}
    assert of["hrnn_init_small"] == {"rnn_small", "rnn_concat_small"}


def test_a_run_folder_is_named_by_all_that_decides_the_weights():
    def folder(flags=(), row="rnn_small", prepared="log"):
        [found] = [r for r in grid.rows(["small"]) if r.key == row]
        column = grid.Column("mine", ("--dataset=events", *flags))
        return grid.place_run(pathlib.Path(), column, found, 0, prepared).folder

    assert folder() == folder(["--events=moved.csv"])
    assert folder() != folder(prepared="changed")
    assert folder() == folder(["--batch_size=7"])  # the row's own flag comes later
    assert folder() != folder(["--bptt_steps=4"])
    assert folder(row="ppop") == folder(["--bptt_steps=4"], row="ppop")
    assert folder(row="ppop") != folder(["--candidates=9"], row="ppop")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("mine", "name=path:recipe"),
        ("mine=log.csv", "name=path:recipe"),
        ("mine=gone.csv:video", "no such file: gone.csv"),
        ("a b=log.csv:video", "name=path:recipe"),
        ("xing=log.csv:video", "taken"),
        ("videoxxl=log.csv:video", "taken"),
        ("mine=log.csv:nowhere.flags", "nowhere.flags"),
    ],
)
def test_a_wrong_extra_log_is_refused(tmp_path, monkeypatch, extra, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("x")
    with pytest.raises(ValueError, match=words):
        grid.columns(xing_events=None, video_events=None, extra=[extra])


def test_given_logs_replace_simulated_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("x")
    found = grid.columns(xing_events="log.csv", video_events="log.csv", extra=["mine=log.csv:xing"])
    assert found[0].flags == ("--flagfile=xing.flags", "--events=log.csv")
    assert found[1].flags == ("--flagfile=video.flags", "--events=log.csv")
    assert "--min_support=20" in found[3].flags
    with pytest.raises(ValueError, match="--video_events=gone"):
        grid.columns(xing_events=None, video_events="gone", extra=[])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--sizes=medium"], "--sizes=medium"),
        (["--sizes="], "--sizes="),
        (["--n_seeds=0"], "n_seeds"),
        (["--rows=rnn_small,rnn_medium"], "--rows: 'rnn_medium' is none; give some of item_knn,"),
        (["--rows=rnn_large", "--sizes=small"], "'rnn_large' is none"),
        (["--data_sets=journey,vidoe"], "--data_sets: 'vidoe' is none; give some of xing, video"),
        (["--xing_events=gone.csv"], "gone.csv"),
        (["--rows=rnn_tuned_large", "--data_sets=video"], "no row of --rows=rnn_tuned_large has"),
    ],
)
def test_wrong_flags_are_refused_before_a_folder_is_made(monkeypatch, capfd, tmp_path, argv, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce", *argv])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
        cli.run(reproduce.main)
    err = capfd.readouterr().err
    assert stop.value.code == 2
    assert words in err
    assert not list(tmp_path.iterdir())
