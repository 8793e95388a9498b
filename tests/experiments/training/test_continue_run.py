"""A run that goes on from another with a new log: what it keeps, adds, takes over and refuses."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import polars as pl
import pytest
from absl.testing import flagsaver

from experiments import run
from experiments.common import cli, data_flags, run_folder
from experiments.training import continue_run
from hrnn_jax.config import DataConfig, ModelConfig, ReadConfig, TrainConfig
from hrnn_jax.files import checkpoint
from hrnn_jax.files.recipe_formats import RECIPE_FORMAT
from hrnn_jax.preprocess import prepared, read_log
from hrnn_jax.ranking import evaluation
from hrnn_jax.training import train
from tests.experiments.test_run import assert_refused, read, read_history
from tests.helpers import logs, networks, runs

NEW = ("--continue_from=old", "--events=new.csv", "--output_dir=new")
MORE = networks.N_ITEMS + 3
CONFIGS = {
    "adagrad": networks.training_config(momentum=0.2),
    "adam": networks.training_config(optimizer="adam", learning_rate=0.01),
}


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    """Run experiments.run in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        code = runs.call(run.main, *argv, defaults=continue_run.defaults)
        return code, *capfd.readouterr()

    return call


def test_a_saved_model_continues_with_its_log_read_as_before(tmp_path, monkeypatch):
    """Bug: take the columns and the recipe of data.json alone, so that the order is another one."""
    monkeypatch.chdir(tmp_path)
    reading = ReadConfig(descending=True, null_values=("NA", "-"), time_format="%s", any_year=True)
    source = read_log.Source("events", logs.write(tmp_path / "log.csv"), reading=reading)
    folder = prepared.prepare(source, DataConfig(min_support=1), tmp_path / "prepared")
    saved = tmp_path / "saved"
    saved.mkdir()
    run_folder.write_data(saved, folder)
    recipe = {"format": RECIPE_FORMAT, "data": folder.name, "model": {"name": "hrnn_init"}}
    (saved / "recipe.json").write_text(json.dumps(recipe))
    given = [f"--continue_from={saved}", f"--events={source.path}", "--prepared_dir=prepared"]
    with flagsaver.flagsaver():
        cli.parse(["run", *given], whole=True, defaults=continue_run.defaults)
        assert data_flags.prepare().resolve() == folder


@pytest.fixture
def old(command):
    """Train a run on items i0 to i19, and write a log with i5 to i24; returns the command."""
    logs.write(pathlib.Path("old.csv"))
    number = pl.col("item_id").str.slice(1).cast(pl.Int64)
    pl.read_csv("old.csv").with_columns(
        item_id=pl.format("i{}", number + 5), ts=pl.col("ts") + 10**7
    ).write_csv("new.csv")
    code, _, err = command(
        *("--dataset=events", "--events=old.csv", "--min_support=1", "--hidden_units=8"),
        *("--batch_size=30", "--momentum=0.1", "--learning_rate=0.05", "--epochs=2"),
        *("--seeds=0,1", "--seeds_at_once=2", "--output_dir=old"),
    )
    assert code == 0, err
    return command


def read_recipe(folder):
    return json.loads(pathlib.Path(folder, "recipe.json").read_text())


def trained(config, network):
    """Train a state on a small log."""
    state, _, _ = networks.train(network, config, networks.epoch_steps(network.variant))
    return state


@pytest.mark.parametrize("name", CONFIGS)
def test_old_rows_stay_and_new_ones_are_as_drawn(name):
    """Bit for bit, those of the optimizer's tables too; all else is the old state's.

    Bug: take the rows of `new` in front.
    """
    config, network = CONFIGS[name], networks.model_config("hrnn_all")
    before = trained(config, network)
    fresh = train.init_state(0, dataclasses.replace(network, n_items=MORE), config)
    found = train.extend_state(before, fresh)
    assert jax.tree.structure(found) == jax.tree.structure(fresh)
    grew = 0
    for old_leaf, new_leaf, leaf in zip(*map(jax.tree.leaves, (before, fresh, found)), strict=True):
        assert (leaf.shape, leaf.dtype) == (new_leaf.shape, new_leaf.dtype)
        if old_leaf.shape == leaf.shape:
            np.testing.assert_array_equal(leaf, old_leaf)
        else:
            grew += 1
            np.testing.assert_array_equal(leaf[: networks.N_ITEMS], old_leaf)
            np.testing.assert_array_equal(leaf[networks.N_ITEMS :], new_leaf[networks.N_ITEMS :])
    assert grew == 3 * 3  # the tables, and two arrays of the optimizer for each
    assert found.params.items.item_in[networks.N_ITEMS :].all()
    assert not any(leaf.any() for leaf in jax.tree.leaves(fresh.opt_state))


def test_more_items_change_no_rank_among_the_old_ones():
    """Bug: draw all of item_out anew."""
    config, network = CONFIGS["adagrad"], networks.model_config("hrnn_init")
    before, log = trained(config, network), networks.log()
    larger = dataclasses.replace(network, n_items=MORE)
    after = train.extend_state(before, train.init_state(0, larger, config))
    ranks = evaluation.rank(before.params, log, model_config=network).rank
    again = evaluation.rank(
        after.params,
        dataclasses.replace(log, n_items=MORE),
        model_config=larger,
        candidates=np.arange(networks.N_ITEMS),
    )
    np.testing.assert_array_equal(again.rank, ranks)
    assert len(np.unique(ranks)) > 3


def test_a_continued_run_keeps_items_weights_and_flags(old):
    """... and says whose weights it started from, over two generations."""
    code, out, err = old(*NEW, "--epochs=1")
    assert code == 0, err
    assert "20 items of old, 5 new ones" in out
    raw_ids = prepared.load_items(pathlib.Path("new"))
    assert raw_ids[:20] == prepared.load_items(pathlib.Path("old"))
    assert raw_ids[20:] == ["i20", "i21", "i22", "i23", "i24"]
    recipe, parent = read_recipe("new"), read_recipe("old")
    assert recipe["model"] == parent["model"] | {"n_items": 25}
    assert recipe["training"] == parent["training"]
    # How a call trains several seeds is its own: processes and shards refuse them side by side.
    for name, at_once in (("old", 2), ("new", 1)):
        assert f"--seeds_at_once={at_once}" in pathlib.Path(name, "flags").read_text().split()
    assert read("new")["seeds"] == [0, 1]
    assert [entry["epoch"] for entry in read_history("new")] == [1, 1]  # of its own
    config = TrainConfig(learning_rate=0.05, momentum=0.1, batch_size=30)
    network = ModelConfig(n_items=20, hidden_units=8)
    for seed in (0, 1):
        like = train.init_state(9, network, config)
        state = checkpoint.restore(checkpoint.folder(pathlib.Path("old"), seed), like, epochs=2)
        assert recipe["continued_from"]["weights"][str(seed)] == [
            checkpoint.fingerprint(state.params)
        ]
    again = ("--continue_from=new", "--events=old.csv", "--output_dir=third", "--epochs=0")
    code, out, err = old(*again, "--learning_rate=0.02", "--loss=bpr", "--seeds=1")
    assert code == 0, err
    assert "25 items of new, 0 new ones" in out
    third = read_recipe("third")
    assert third["training"]["learning_rate"] == 0.02
    assert third["training"]["loss"] == "bpr"
    assert third["continued_from"]["run"] == "new"
    line = third["continued_from"]["weights"]["1"]
    assert line[1:] == recipe["continued_from"]["weights"]["1"]
    assert len(set(line)) == 2


def test_going_on_begins_where_the_old_run_ended(old):
    """Without an epoch of its own, a run on the same log ranks as the one it continues does.

    Bug: start from training.init, or from the checkpoint before the newest.
    """
    old(*NEW, "--events=old.csv", "--epochs=0")
    ranks = [pl.read_parquet(f"{name}/ranks.parquet") for name in ("old", "new")]
    assert ranks[0].equals(ranks[1])


def test_a_killed_one_resumes_to_the_same_bits(old):
    """... killed while it writes its second checkpoint.

    Bug: start a resumed run from its parent.
    """
    code = """
        import os, signal, sys
        from experiments import run
        from experiments.common import cli
        from experiments.training import continue_run
        from hrnn_jax.files import checkpoint
        save = checkpoint.save

        def killed(folder, state, *, epochs):
            if epochs == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            save(folder, state, epochs=epochs)

        checkpoint.save = killed
        cli.run(run.main, defaults=continue_run.defaults)
    """
    given = (*NEW, "--seeds=1", "--epochs=3", "--dropout_session=0.2")
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[3])}
    argv = [sys.executable, "-c", textwrap.dedent(code), *given]
    ended = subprocess.run(argv, env=environment, capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    code, out, err = old(*given, "--resume")
    assert code == 0, err
    assert "epoch 1/3" not in out
    old(*given, "--output_dir=whole")
    losses = [[entry["loss"] for entry in read_history(name)] for name in ("new", "whole")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    ranks = [pl.read_parquet(f"{name}/ranks.parquet") for name in ("new", "whole")]
    assert ranks[0].equals(ranks[1])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--hidden_units=9"], ["--hidden_units=9", "old has 8", "--continue_from"]),
        (["--layers=2"], ["--layers=2", "has 1"]),
        (["--model=rnn"], ["--model=rnn", "has hrnn_init"]),
        (["--model=ppop"], ["--model=ppop", "has hrnn_init"]),
        (["--optimizer=sgd"], ["--optimizer=sgd", "has adagrad"]),
        (["--momentum=0"], ["--momentum=0.0", "has 0.1"]),
        (["--idle_gap"], ["--idle_gap=True", "has False"]),
        (["--places=3"], ["--places=3", "has 0"]),
        (["--seeds=1,2"], ["--seeds", "seed 2", "only 0, 1"]),
        (["--output_dir=old"], ["--output_dir=old", "another folder"]),
        (["--output_dir=./new/../old"], ["is continued"]),
        (["--continue_from=gone"], ["--continue_from=gone", "gone/flags"]),
        (["--continue_from=."], ["is no run folder", "flags"]),
        (["--epochs=1", "--no_such_flag=1"], ["no_such_flag"]),
    ],
)
def test_what_does_not_go_on_is_refused(argv, words, old):
    assert_refused(old(*NEW, *argv), *words)
    assert not pathlib.Path("new").exists()


def test_a_changed_momentum_goes_on(old):
    """Bug: compare its value instead of whether there is one."""
    assert old(*NEW, "--momentum=0.3", "--epochs=0")[0] == 0


def test_a_log_is_not_gone_on_with_unasked(old):
    """... for the default, a simulated one, has items of other meaning under the same names."""
    assert_refused(
        old("--continue_from=old", "--output_dir=new"), "--continue_from=old", "--events"
    )


def test_a_user_input_is_refused_where_typed_and_passed_over_in_a_flag_file(old):
    assert_refused(old(*NEW, "--user_input=gates", "--epochs=0"), "--user_input", "hrnn_all")
    pathlib.Path("all.flags").write_text("--user_input=gates\n")
    assert old(*NEW, "--flagfile=all.flags", "--epochs=0")[0] == 0


def test_what_counts_has_no_weights_to_go_on_from(old):
    code, _, err = old(
        *("--dataset=events", "--events=old.csv", "--min_support=1"),
        *("--model=item_knn", "--output_dir=counted"),
    )
    assert code == 0, err
    assert_refused(old(*NEW, "--continue_from=counted"), "counted", "Item-KNN")


@pytest.mark.parametrize("name", ["recipe.json", "items.parquet", "flags"])
@pytest.mark.parametrize("how", ["missing", "half", "garbled"])
def test_damage_to_the_continued_run_is_named(name, how, old):
    path = pathlib.Path("old", name)
    content = path.read_bytes()
    path.unlink()
    if how == "half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "garbled":
        path.write_bytes(bytes(255 - byte for byte in content))
    result = old(*NEW)
    if name == "flags" and how == "half":  # text like any other: what is left of it holds
        return
    if name == "flags" and how == "missing":  # as the library saves a model: its recipe holds
        assert result[0] == 0, result
        return
    assert_refused(result, f"old/{name}")


def test_a_simulated_run_goes_on_without_events(command):
    """Its log needs no path: another seed of it is a new log."""
    given = ("--dataset=simulated", "--simulate_scale=0.005", "--model=rnn", "--hidden_units=8")
    code, _, err = command(*given, "--epochs=1", "--output_dir=old")
    assert code == 0, err
    newer = ("--simulate_seed=1", "--epochs=0", "--output_dir=new")
    code, out, err = command("--continue_from=old", *newer)
    assert code == 0, err
    assert "items of old" in out
    assert read("new")["data"] == "simulated"
