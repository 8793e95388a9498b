"""Training that stops where the loss is above --stop_above_loss."""

import json

import polars as pl
import pytest

from experiments import run
from tests.helpers import logs, runs

SEEDS = "--seeds=0,1"


@pytest.fixture
def train(tmp_path, capfd):
    """Train RNN in tmp_path/run; returns its metrics.json, the losses by seed, and the output."""
    log = logs.write(tmp_path / "log.csv")
    flag_file = tmp_path / "small.flags"
    flag_file.write_text("--min_support=1\n--hidden_units=8\n--batch_size=30\n--model=rnn\n")

    def call(*argv, name="run"):
        folder = tmp_path / name
        given = ["--dataset=events", f"--events={log}", f"--flagfile={flag_file}", "--resume"]
        given += [f"--prepared_dir={tmp_path / 'prepared'}", f"--output_dir={folder}"]
        assert runs.call(run.main, *given, "--compilation_cache=", "--epochs=3", *argv) == 0
        history = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
        losses = {}
        for entry in history:
            losses.setdefault(entry["seed"], []).append(entry["loss"])
        return json.loads((folder / "metrics.json").read_text()), losses, capfd.readouterr().out

    return call


def test_a_loss_above_the_limit_stops_the_run_which_is_ranked_and_finished(train, tmp_path):
    metrics, losses, out = train(SEEDS, "--stop_above_loss=0.5")
    assert {seed: len(of) for seed, of in losses.items()} == {0: 1, 1: 1}
    assert metrics["epochs"] == 1
    assert metrics["stopped"] == [
        {"seed": seed, "epoch": 1, "loss": losses[seed][0]} for seed in (0, 1)
    ]
    assert losses[0][0] > 0.5
    assert "above --stop_above_loss=0.5" in out
    one_epoch, _, _ = train(SEEDS, "--epochs=1", name="short")
    both = [pl.read_parquet(tmp_path / name / "ranks.parquet") for name in ("run", "short")]
    assert both[0].equals(both[1])
    assert one_epoch["stopped"] is None
    again, _, out = train(SEEDS, "--stop_above_loss=0.5")
    assert again == metrics
    assert "is complete" in out


def test_a_stopped_run_goes_on_without_the_limit_to_the_end_of_one_that_never_had_it(train):
    train(SEEDS, "--stop_above_loss=0.5")
    metrics, losses, _ = train(SEEDS)
    straight, expected, _ = train(SEEDS, "--stop_above_loss=9", name="straight")
    assert losses == expected
    assert (
        (metrics["epochs"], metrics["stopped"])
        == (3, None)
        == (
            straight["epochs"],
            straight["stopped"],
        )
    )
    assert metrics["mean"]["mrr@5"] == straight["mean"]["mrr@5"]


def test_seeds_side_by_side_stop_once_all_are_above(train):
    _, losses, _ = train(SEEDS, "--epochs=1")
    low, high = sorted(of[0] for of in losses.values())
    between = f"--stop_above_loss={(low + high) / 2}"
    worse = max(losses, key=losses.__getitem__)
    metrics, losses, _ = train(SEEDS, between, name="apart")
    assert [len(losses[seed]) for seed in (worse, 1 - worse)] == [1, 3]
    assert metrics["epochs"] == 3  # of the other
    assert [of["seed"] for of in metrics["stopped"]] == [worse]
    _, losses, _ = train(SEEDS, between, "--seeds_at_once=2", name="together")
    assert {len(of) for of in losses.values()} == {3}
