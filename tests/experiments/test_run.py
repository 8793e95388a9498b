"""The command as its users run it: raw log in, run folder out; bad input, one line and exit 2."""

import gc
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import compare, run
from experiments.common import cli
from experiments.common import run_folder as common_run_folder
from experiments.training import run_seeds
from hrnn_jax import errors
from hrnn_jax.config import BASELINES, NETWORKS
from hrnn_jax.estimators import run_files
from hrnn_jax.files import checkpoint
from hrnn_jax.preprocess import prepared
from hrnn_jax.ranking import evaluation, metrics
from hrnn_jax.training import held_out
from tests.helpers import logs, runs

# In a flag file, as not all models use all of them: typed ones would be refused. So few updates
# have one program: with fewer lanes there would be another one to compile, of another width.
SMALL = "--min_support=1\n--hidden_units=8\n--batch_size=30\n--epochs=2\n"
PLACES = (
    *("--places=3", "--neighbours=4", "--loss=full_softmax", "--dropout_session=0.2"),
    *("--seeds=0,1", "--cutoffs=1,5"),
)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return logs.write(tmp_path_factory.mktemp("logs") / "log.csv")


@pytest.fixture
def command(monkeypatch, capfd, tmp_path, log_file):
    """Run experiments.run in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("small.flags").write_text(SMALL)

    def call(*argv, events=log_file):
        given = ["--dataset=events", f"--events={events}", "--flagfile=small.flags"]
        given = given if events else []
        code = runs.call(run.main, *given, *argv)
        return code, *capfd.readouterr()

    return call


def assert_refused(result, *words):
    """One line on stderr, exit code 2, no traceback."""
    code, out, err = result
    assert code == 2, (out, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err, err


def read(folder):
    return json.loads(pathlib.Path(folder, "metrics.json").read_text())


def read_history(folder):
    text = pathlib.Path(folder, "history.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_larger_than_the_users_is_as_large_as_the_users(command):
    """And is said once, not for each seed or epoch."""
    code, out, _ = command("--batch_size=5000", "--seeds=0,1", "--output_dir=large")
    assert code == 0
    assert re.findall("lanes: .*", out) == [
        "lanes: there are no more users for --batch_size=5000",
    ]
    assert "30 lanes: there" in out
    command("--batch_size=30", "--seeds=0,1", "--output_dir=equal")
    for name in ("ranks.parquet", "recommended.parquet"):
        assert pl.read_parquet(f"large/{name}").equals(pl.read_parquet(f"equal/{name}"))


@pytest.mark.parametrize("name", [*NETWORKS, *BASELINES])
def test_a_run_folder_holds_what_it_says(command, name, tmp_path):
    neural = name in NETWORKS
    given = ["--seeds=3,1"] if neural else []
    code, out, _ = command(f"--model={name}", *given, "--cutoffs=1,5", "--output_dir=run")
    assert code == 0
    seeds = [1, 3] if neural else [0]
    found = read("run")
    ranks = pl.read_parquet("run/ranks.parquet")
    assert ranks.columns == ["seed", "user", "session", "position", "history", "item", "rank"]
    assert sorted(ranks["seed"].unique()) == seeds
    assert found["data"] == "real"
    assert sorted(entry["seed"] for entry in found["per_seed"]) == seeds
    for entry in found["per_seed"]:
        mine = ranks.filter(seed=entry["seed"])
        assert entry["cases"] == len(mine) == 30 * 3
        for key, value in metrics.summarise(mine["rank"].to_numpy(), [1, 5]).items():
            assert entry[key] == pytest.approx(value)
    recommended = pl.read_parquet("run/recommended.parquet")
    assert recommended.columns == ["seed", "cutoff", "item", "times"]
    assert (recommended["times"] > 0).all()
    [items] = pathlib.Path("out").rglob("items.parquet")
    support = pl.read_parquet(items)["support"].to_numpy()
    for entry in found["per_seed"]:
        for cutoff in (1, 5):
            mine = recommended.filter(seed=entry["seed"], cutoff=cutoff)
            times = mine["times"].to_numpy()
            assert mine["item"].n_unique() == len(mine) == entry[f"coverage@{cutoff}"] * 20
            assert entry[f"popularity@{cutoff}"] == pytest.approx(
                np.average(support[mine["item"].to_numpy()], weights=times)
            )
            full = cutoff * entry["cases"]
            assert times.sum() == full if neural else times.sum() <= full
    values = [entry["recall@5"] for entry in found["per_seed"]]
    assert found["mean"]["recall@5"] == pytest.approx(np.mean(values))
    if neural:
        assert found["std"]["recall@5"] == pytest.approx(np.std(values, ddof=1))
        history = read_history("run")
        assert {(x["seed"], x["epoch"]) for x in history} == {(s, e) for s in seeds for e in (1, 2)}
        # 30 users train on 5 sessions; RNN Concat also on the 4 steps between them.
        assert {x["events"] for x in history} == {30 * (19 if name == "rnn_concat" else 15)}
        assert found["mean"]["train_events_per_second"] > 0
    assert (ranks["position"] >= 1).all()
    assert (ranks["history"] == 5).all()
    assert f"{found['mean']['recall@5']:.4f}" in out
    assert f"{found['mean']['ndcg@5']:.4f}" in out
    left = {path.name for path in pathlib.Path("run").iterdir()}
    of_networks = {"checkpoint", "history.jsonl", "items.parquet", "data.json"}
    asked_for = {"tensorboard", "neighbours.npz", "mixture", "registered_code.py", "shards"}
    assert left == set(common_run_folder.FILES) - {*common_run_folder.STATES, *asked_for} - (
        set() if neural else of_networks
    )
    assert not list(tmp_path.rglob("*.partial"))


def test_seeds_side_by_side_are_the_seeds_alone(command):
    command("--seeds=0,1", "--output_dir=alone")
    command("--seeds=0,1", "--seeds_at_once=2", "--output_dir=beside")
    alone, beside = (pl.read_parquet(f"{name}/ranks.parquet") for name in ("alone", "beside"))
    same = (alone["rank"] == beside["rank"]).to_numpy().mean()
    assert same > 0.98  # a rounding may swap two near scores
    assert (alone.filter(seed=0)["rank"] != alone.filter(seed=1)["rank"]).any()


def test_resuming_gives_the_uninterrupted_run(command):
    command("--dropout_session=0.2", "--momentum=0.1", "--epochs=4", "--output_dir=whole")
    command("--dropout_session=0.2", "--momentum=0.1", "--epochs=2", "--output_dir=parts")
    code, out, _ = command(
        "--dropout_session=0.2", "--momentum=0.1", "--epochs=4", "--output_dir=parts", "--resume"
    )
    assert code == 0
    assert "epoch 3/4" in out
    assert "epoch 2/4" not in out
    losses = [[entry["loss"] for entry in read_history(name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert pl.read_parquet("whole/ranks.parquet").equals(pl.read_parquet("parts/ranks.parquet"))


def test_an_interrupt_is_heeded_wherever_it_comes():
    """Also where Python lets no exception out, as in the hook that jax puts on garbage collection.

    Bug: leave sys.unraisablehook alone.
    """
    code = """
        import gc
        from experiments.common import cli

        def main():
            def hook(*_):
                raise KeyboardInterrupt
            gc.callbacks.append(hook)
            gc.collect()
            print("went on")

        cli.run(main, hint=": the same command goes on")
    """
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "interrupted: the same command goes on\n"


def test_a_run_that_ended_before_it_trained_leaves_no_folder(command, monkeypatch):
    def interrupted(log):
        raise errors.DivergedError("as good as ctrl-C")

    with monkeypatch.context() as patched:
        patched.setattr(run_seeds, "rank_baseline", interrupted)
        assert command("--model=ppop", "--output_dir=run")[0] == 1
    assert not pathlib.Path("run").exists()
    assert command("--model=ppop", "--output_dir=run")[0] == 0
    assert_refused(command("--model=ppop", "--output_dir=run"), "holds this run already, complete")


@pytest.mark.parametrize("where", ["write_history", "save"])
def test_a_crash_at_the_end_of_an_epoch_leaves_the_history_whole(command, monkeypatch, where):
    """... on whichever side of the checkpoint."""
    module = checkpoint if where == "save" else common_run_folder
    real = getattr(module, where)
    calls = []

    def crash_the_second_time(*args, **named):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("no space left on device")
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, where, crash_the_second_time)
        assert command("--epochs=3", "--output_dir=run")[0] == 2
    assert command("--epochs=3", "--output_dir=run", "--resume")[0] == 0
    assert [entry["epoch"] for entry in read_history("run")] == [1, 2, 3]


def test_a_curve_ends_where_the_run_does(command):
    """Each seed's last entry is its metrics, however seeds train and wherever it is resumed."""
    given = ("--seeds=0,1", "--seeds_at_once=2", "--cutoffs=1,5", "--dropout_session=0.2")
    assert command(*given, "--epochs=3", "--output_dir=plain")[0] == 0
    argv = (*given, "--curve", "--resume", "--output_dir=run")
    assert command(*argv)[0] == 0
    first = read_history("run")
    assert command(*argv, "--epochs=3")[0] == 0
    entries = read_history("run")
    assert [e for e in entries if e["epoch"] < 3] == first
    assert all({"recall@1", "mrr@5"} <= entry.keys() for entry in entries)
    # Looking on changes nothing, and is no part of what the run is.
    assert read("run")["per_seed"][1]["mrr@5"] == read("plain")["per_seed"][1]["mrr@5"]
    recipes = [pathlib.Path(folder, "recipe.json").read_text() for folder in ("run", "plain")]
    assert recipes[0] == recipes[1]
    for own in read("run")["per_seed"]:
        [last] = [e for e in entries if e["seed"] == own["seed"] and e["epoch"] == 3]
        measured = {key: value for key, value in last.items() if "@" in key}
        assert measured.keys() == metrics.summarise(np.ones(1), [1, 5]).keys()
        assert measured == {key: own[key] for key in measured}
    assert "recall@5" not in read_history("plain")[0]


def test_a_run_holds_each_table_once(command, monkeypatch):
    """In training with its optimizer's state, in ranking without, and nothing before it resumes."""

    def tables():
        gc.collect()
        alive = [array for array in jax.live_arrays() if array.shape == (20, 3 * 8)]
        return {array.unsafe_buffer_pointer() for array in alive}

    held, others = [], tables()

    def counting(function):
        def counted(*args, **settings):
            held.append((function.__name__, len(tables() - others)))
            return function(*args, **settings)

        return counted

    for module, name in ((checkpoint, "save"), (checkpoint, "restore"), (evaluation, "rank")):
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    command("--seeds=0,1", "--epochs=1", "--output_dir=run")
    assert held == 2 * [("save", 2), ("rank", 1)]
    held.clear()
    command("--seeds=0,1", "--resume", "--output_dir=run")
    assert held == 2 * [("restore", 0), ("save", 2), ("rank", 1)]


def test_a_finished_run_is_reported_not_repeated(command):
    command("--output_dir=run")
    before = pathlib.Path("run/metrics.json").stat().st_mtime_ns
    code, out, _ = command("--output_dir=run", "--resume")
    assert code == 0
    assert "complete" in out
    assert pathlib.Path("run/metrics.json").stat().st_mtime_ns == before
    command("--output_dir=run", "--resume", "--cutoffs=3")
    assert "recall@3" in read("run")["mean"]


def test_a_run_that_ended_before_there_were_recommendations_is_ranked_again(command):
    command("--output_dir=run")
    path = pathlib.Path("run/recommended.parquet")
    recommended = pl.read_parquet(path)
    path.unlink()
    code, out, _ = command("--output_dir=run", "--resume")
    assert code == 0
    assert "complete" not in out
    assert "epoch" not in out
    assert pl.read_parquet(path).equals(recommended)


def test_a_run_folder_is_used_without_its_log(command):
    """... and one that ended before it kept what its items are gets it.

    Bug: report a finished run before write_data.
    """
    command("--output_dir=run")
    run_folder, [prepared_folder] = pathlib.Path("run"), pathlib.Path("out/prepared").iterdir()
    raw_ids = prepared.load_items(prepared_folder)
    assert prepared.load_items(run_folder) == raw_ids == sorted(f"i{n}" for n in range(20))
    about = json.loads((run_folder / "data.json").read_text())
    assert about == prepared.load_meta(prepared_folder)
    for name in ("items.parquet", "data.json"):
        (run_folder / name).unlink()
    with pytest.raises(errors.InputError, match=r"^run/items.parquet: is missing .*`resume`"):
        prepared.load_items(run_folder)
    code, out, _ = command("--output_dir=run", "--resume")
    assert code == 0
    assert "complete" in out
    assert prepared.load_items(run_folder) == raw_ids
    assert json.loads((run_folder / "data.json").read_text()) == about
    (prepared_folder / "items.parquet").write_text("")  # damage is found before it is copied
    assert_refused(command("--output_dir=new"), f"{prepared_folder}/items.parquet")


def test_a_run_that_stops_as_it_writes_has_not_ended(command, monkeypatch):
    """... though it had, with other cutoffs: the files of the two do not belong together."""

    def stop(*_):
        raise OSError("no space left on device")

    command("--output_dir=run")
    with monkeypatch.context() as patch:
        patch.setattr(run_files, "write_recommended", stop)
        assert_refused(command("--output_dir=run", "--resume", "--cutoffs=3"), "no space")
    code, out, _ = command("--output_dir=run", "--resume")
    assert code == 0
    assert "complete" not in out


RECIPES = {
    "hrnn_init": {
        "model": {
            **{"name": "hrnn_init", "n_items": 20, "variant": "hrnn_init", "hidden_units": 8},
            **{"layers": 1, "user_input": "full", "leak": "equation"},
            **{"feed_last_item": False, "embedding": "none"},
            **{"dropout_user": 0.0, "dropout_session": 0.0, "dropout_init": 0.0},
            **{"dropout_embedding": 0.0, "residual": False, "idle_gap": False, "places": 0},
            **{"neighbours": 100, "recurrent_dropout": True},
        },
        "training": {
            **{"loss": "top1", "optimizer": "adagrad", "learning_rate": 0.1, "momentum": 0.0},
            **{"batch_size": 30, "bptt_steps": 1, "chunk_steps": 256, "mean_over": "batch"},
            **{"activation": None, "regularisation": 0.0, "log_q": False, "negative_hours": 0.0},
            **{"extra_negatives": 0, "negative_alpha": 0.75, "mask_false_negatives": False},
            **{
                "schedule": "constant",
                "schedule_epochs": 0,
                "lane_groups": 1,
                "held_out_patience": 0,
            },
        },
    },
    "item_knn": {"model": {"name": "item_knn", "neighbours": 300}},
    "markov": {"model": {"name": "markov"}},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_that_of_the_runs_there_are(command, name):
    """With a key more or less, or another default, none of them could be resumed."""
    given = ["--epochs=0"] if name in NETWORKS else []
    command(f"--model={name}", *given, "--output_dir=run")
    recipe = json.loads(pathlib.Path("run/recipe.json").read_text())
    assert recipe.pop("data").startswith("events-")
    assert recipe.pop("format") == 4
    assert recipe == RECIPES[name]


def test_a_run_of_other_settings_is_refused(command):
    command(*PLACES, "--mean_over=valid", "--epochs=0", "--output_dir=run")
    recipe = json.loads(pathlib.Path("run/recipe.json").read_text())
    assert (recipe["model"]["places"], recipe["model"]["embedding"]) == (3, "none")
    assert recipe["training"]["mean_over"] == "valid"
    assert_refused(command("--epochs=0", "--output_dir=run", "--resume"), "model.")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--neighbours=3"], ["--neighbours=3", "without --places"]),
        (["--log_q"], ["--log_q", "--loss=cross_entropy"]),
        (
            ["--schedule=linear", "--schedule_epochs=2", "--epochs=3"],
            ["--epochs=3", "--schedule_epochs=2", "a longer schedule"],
        ),
        (["--regularisation=0.5"], ["--regularisation", "--loss=bpr_max"]),
        (["--extra_negatives=9", "--loss=full_softmax"], ["--extra_negatives", "bpr_max"]),
        (["--activation=relu", "--loss=full_softmax"], ["--activation", "--loss=top1"]),
        (["--mask_false_negatives", "--loss=full_softmax"], ["--mask_false_negatives"]),
        (["--dropout_embedding=0.2"], ["--dropout_embedding", "--embedding=separate"]),
        (["--residual"], ["--residual", "--embedding=separate"]),
        (["--batch_size=1"], ["--batch_size=1", "--extra_negatives"]),
        (["--model=item_knn", "--neighbours=0"], ["--neighbours=0", "give 1 or more"]),
        (["--negative_alpha=0.1"], ["--negative_alpha=0.1", "--extra_negatives"]),
        (["--model=rnn", "--dropout_user=0.5"], ["--dropout_user", "--model=rnn", "hrnn_all"]),
        (["--model=vsknn", "--boost=3"], ["--boost", "--model=vsknn", "vsknn_br"]),
        (["--model=ppop", "--loss=bpr_max", "--places=5"], ["is not used by --model=ppop"]),
        (["--model=ppop", "--nolog_q"], ["--log_q is not used by --model=ppop"]),
        (["--model=markov", "--seeds=1,2"], ["--seeds is not used by --model=markov"]),
        (["--model=markov", "--curve"], ["--curve is not used by --model=markov"]),
        (["--model=rnn", "--feed_last_item"], ["--feed_last_item is not used by --model=rnn"]),
        (["--model=rnn_concat", "--feed_last_item"], ["--feed_last_item is not used"]),
        (["--held_out_patience=2"], ["--held_out_patience=2", "drop it, or give --places"]),
    ],
)
def test_a_typed_flag_without_effect_is_refused(command, argv, words):
    assert_refused(command(*argv), *words)


def test_a_flag_of_a_flag_file_without_effect_is_passed_over(command):
    """One flag file may serve several models."""
    lines = ("--dropout_user=0.5", "--boost=3", "--log_q", "--negative_alpha=0.1", "--momentum=0.2")
    pathlib.Path("many.flags").write_text("\n".join(lines))
    for name in ("ppop", "vsknn", "rnn"):
        code, _, err = command("--flagfile=many.flags", f"--model={name}", f"--output_dir={name}")
        assert code == 0, err
    recipe = json.loads(pathlib.Path("rnn/recipe.json").read_text())
    assert (recipe["training"]["momentum"], recipe["model"]["dropout_user"]) == (0.2, 0.0)
    assert (recipe["training"]["log_q"], recipe["training"]["negative_alpha"]) == (False, 0.75)


SAMPLED = (
    *("--loss=cross_entropy", "--extra_negatives=5", "--log_q", "--mask_false_negatives"),
    *("--embedding=tied", "--dropout_embedding=0.1", "--residual", "--places=3", "--neighbours=4"),
    *("--schedule=cosine", "--optimizer=adam"),
    *("--negative_hours=5", "--idle_gap"),
)


def test_all_that_the_paper_has_not_goes_together_and_on(command):
    code, _, err = command(*SAMPLED, "--epochs=2", "--output_dir=whole", "--learning_rate=0.01")
    assert code == 0, err
    whole = read("whole")
    assert np.isfinite([entry["loss"] for entry in read_history("whole")]).all()
    given = (*SAMPLED, "--schedule_epochs=2", "--output_dir=parts", "--learning_rate=0.01")
    command(*given, "--epochs=1")
    command(*given, "--epochs=2", "--resume")
    assert read("parts")["per_seed"][0]["recall@5"] == whole["per_seed"][0]["recall@5"]
    ranks = [pl.read_parquet(f"{folder}/ranks.parquet") for folder in ("parts", "whole")]
    assert ranks[0].equals(ranks[1])


def mixtures_of(folder):
    """Return what the files of a run's mixtures hold, by seed."""
    files = {path.stem: path for path in pathlib.Path(folder, "mixture").iterdir()}
    assert files.keys() == {"seed_0", "seed_1"}
    return {seed: dict(np.load(path)) for seed, path in files.items()}


def test_held_out_sessions_choose_each_seeds_number_of_epochs(command):
    """Bug: train on after the best epoch, or choose anew, or for all seeds what suits one."""
    given = (*PLACES, "--batch_size=10")  # with more, one epoch is best for both seeds
    chosen = (*given, "--held_out_patience=1", "--output_dir=chosen")
    assert command(*chosen, "--epochs=6", "--curve", "--seeds_at_once=2")[0] == 0
    epochs = {}
    for seed in (0, 1):
        scores = json.loads(pathlib.Path(f"chosen/mixture/seed_{seed}_held_out.json").read_text())[
            "mrr"
        ]
        epochs[seed] = scores.index(max(scores)) + 1
        assert len(scores) == min(6, epochs[seed] + 1)
        assert [e["epoch"] for e in read_history("chosen") if e["seed"] == seed] == list(
            range(1, epochs[seed] + 1)
        )
        alone = f"alone{seed}"
        command(
            *given,
            f"--seeds={seed}",
            f"--output_dir={alone}",
            f"--epochs={epochs[seed]}",
        )
        assert read(alone)["per_seed"][0]["mrr@5"] == read("chosen")["per_seed"][seed]["mrr@5"]
    assert epochs[0] != epochs[1]
    _, out, _ = command(*chosen, "--epochs=6", "--curve", "--seeds_at_once=2", "--resume")
    assert "is complete" in out
    pathlib.Path("chosen/metrics.json").unlink()
    _, out, _ = command(*chosen, "--epochs=6", "--curve", "--seeds_at_once=2", "--resume")
    assert "is trained for" not in out
    assert not re.search(r"epoch \d+/", out)


def test_the_numbers_of_epochs_that_were_chosen_are_kept_through_an_interruption(
    command, monkeypatch
):
    """Bug: remove a folder in which no epoch is trained, and with it hours of the second network.

    The same command then needs --resume, as after the first epoch.
    """
    given = (*PLACES, "--held_out_patience=1", "--epochs=2", "--output_dir=run")
    choose, calls = held_out.HeldOut.choose_epochs, []

    def interrupted(self, *of_call):
        calls.append(self)
        if len(calls) == 2:
            raise errors.DivergedError("as good as ctrl-C")
        return choose(self, *of_call)

    with monkeypatch.context() as patch:
        patch.setattr(held_out.HeldOut, "choose_epochs", interrupted)
        assert command(*given)[0] == 1
    code, _, err = command(*given)
    assert code == 2
    assert "holds an unfinished run of these settings: --resume goes on" in err
    _, out, _ = command(*given, "--resume")
    assert re.findall(r"seed (\d) is trained for", out) == ["1"]


def test_a_mixture_is_the_same_however_it_came_about(command):
    """By a run, one that goes on with a curve, and one whose files were lost or damaged.

    Bug: report a finished run without a mixture as complete, or begin its held-out network anew.
    """
    assert command(*PLACES, "--output_dir=whole")[0] == 0
    whole = mixtures_of("whole")
    assert whole["seed_0"]["epochs"] == 2
    assert not np.array_equal(whole["seed_0"]["explore"], whole["seed_1"]["explore"])
    parts = (*PLACES, "--resume", "--output_dir=parts")
    command(*parts, "--epochs=1")
    assert mixtures_of("parts")["seed_1"]["epochs"] == 1
    command(*parts, "--curve")
    jax.tree.map(np.testing.assert_array_equal, mixtures_of("parts"), whole)
    ranks = pl.read_parquet("whole/ranks.parquet")
    assert ranks.equals(pl.read_parquet("parts/ranks.parquet"))
    for own in read("parts")["per_seed"]:
        [last] = [e for e in read_history("parts") if (e["seed"], e["epoch"]) == (own["seed"], 2)]
        assert last["mrr@5"] == own["mrr@5"]
    again = (*PLACES, "--resume", "--output_dir=whole")
    pathlib.Path("whole/mixture/seed_1.npz").unlink()
    pathlib.Path("whole/neighbours.npz").write_bytes(b"damaged")
    with pytest.raises(errors.InputError, match="`resume`"):
        checkpoint.load_run(pathlib.Path("whole"), seed=1)
    code, out, _ = command(*again)
    assert (code, "is complete" in out, "seed 1 learnt repeat and" in out) == (0, False, True)
    assert "seed 0 learnt" not in out  # what is there is not learnt again
    jax.tree.map(np.testing.assert_array_equal, mixtures_of("whole"), whole)
    assert pl.read_parquet("whole/ranks.parquet").equals(ranks)
    assert checkpoint.load_run(pathlib.Path("whole"), seed=1)[0].mixture is not None
    assert "is complete" in command(*again)[1]


def test_the_flags_file_replays_the_run(command):
    command("--output_dir=run", "--learning_rate=0.07", "--seeds=5")
    code, _, err = command("--flagfile=run/flags", "--output_dir=again", events=None)
    assert code == 0, err
    again, first = read("again"), read("run")
    assert again["mean"]["mrr@5"] == first["mean"]["mrr@5"]
    assert again["seeds"] == [5]


def test_the_flags_file_replays_the_run_in_another_process(tmp_path, log_file):
    """Each run has a process of its own: this one knows other commands' and packages' flags."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}

    def call(*argv):
        command = (sys.executable, "-m", "experiments.run", *argv)
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)

    call("--model=ppop", f"--events={log_file}", "--min_support=1", "--output_dir=run", "--resume")
    call("--flagfile=run/flags", "--output_dir=again")
    run, again = tmp_path / "run", tmp_path / "again"
    assert read(again)["mean"]["mrr@5"] == read(run)["mean"]["mrr@5"]
    flags_of = [(folder / "flags").read_text() for folder in (run, again)]
    assert flags_of[0].replace("--output_dir=run", "--output_dir=again") == flags_of[1]
    assert "resume" not in flags_of[0]


def test_a_run_of_another_recipe_is_refused(command):
    command("--output_dir=run")
    assert_refused(command("--output_dir=run"), "--resume", "run")
    assert_refused(command("--output_dir=run", "--resume", "--hidden_units=9"), "hidden_units: 8")
    assert_refused(command("--output_dir=run", "--resume", "--min_support=2"), "data")
    assert_refused(command("--output_dir=run", "--resume", "--epochs=1"), "2 epochs", "--epochs=1")
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/thesis.txt").write_text("x")
    assert_refused(command("--output_dir=mine"), "thesis.txt")


def test_another_run_of_a_default_folder_says_what_differs_and_what_to_do(command):
    """Bug: repeat a finished run, or name a flag that was not typed."""
    command("--model=rnn")
    [path] = pathlib.Path("out/runs").rglob("metrics.json")
    before = path.read_bytes()
    code, out, _ = command("--model=rnn")
    assert code == 0
    assert f"{path.parent} is complete" in out
    anew = "another --output_dir begins anew"
    words = {
        ("--epochs=3",): f"was made with --epochs=2: --resume continues to 3, {anew}",
        ("--epochs=1",): f"was made with --epochs=2: {anew}",
        ("--seeds=7",): "was made with --seeds=0: --seeds=0,7 --resume trains those that are mis",
        ("--seeds=0,7",): f"was made with --seeds=0: --resume adds --seeds=7, {anew}",
        ("--cutoffs=3", "--candidates=9"): "--cutoffs=5, without --candidates: --resume ranks",
        ("--exclude_session_items",): "without --exclude_session_items: --resume ranks it",
        ("--seeds=7", "--resume"): "would have --seeds=7 alone: give --seeds=0,7, or another --out",
    }
    for argv, text in words.items():
        assert_refused(command("--model=rnn", *argv), f"error: {path.parent} was made", text)
    assert path.read_bytes() == before
    assert command("--model=rnn", "--seeds=7,0", "--resume")[0] == 0
    assert sorted(read(path.parent)["seeds"]) == [0, 7]
    assert command("--model=rnn", "--seeds=7,0", "--resume", "--exclude_session_items")[0] == 0
    assert read(path.parent)["exclude_session_items"]


def test_an_unfinished_run_goes_on_when_it_is_asked_to(command):
    command("--model=rnn", "--output_dir=run")
    pathlib.Path("run/metrics.json").unlink()
    result = command("--model=rnn", "--output_dir=run")
    assert_refused(result, "run holds an unfinished run of these settings: --resume goes on, ano")


def test_a_run_says_what_its_filters_left_and_nothing_where_they_took_nothing(command):
    assert "\nkept" not in command("--model=ppop", "--output_dir=all")[1]
    lines = (
        "user_id,item_id,ts\n"
        + "".join(
            f"{user},{item},{1_400_000_000 + 90_000 * day + 60 * n}\n"
            for user in range(3)
            for day in range(3 if user else 1)  # user 0 has too few sessions
            for n, item in enumerate(["a", "b", "c", f"only_{user}"][: 3 + (day == 0)])
        )
    )
    pathlib.Path("short.csv").write_text(lines)
    given = ("--model=ppop", "--min_support=2", "--min_user_sessions=2", "--output_dir=some")
    code, out, _ = command(*given, events="short.csv")
    assert code == 0
    assert (
        "kept 2 of 3 users, 18 of 24 events and 3 of 6 items "
        "(--min_support=2, --min_user_sessions=2)\n"
    ) in out
    result = command("--model=ppop", "--min_support=9", "--output_dir=none", events="short.csv")
    assert_refused(result, "leaves no user, lower --min_support: log: 3 users")


def test_an_unwritable_output_folder_is_refused(command):
    pathlib.Path("file").write_text("x")
    assert_refused(command("--output_dir=file/run"), "--output_dir=file/run")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds=0,x"], ["--seeds=0,x", "whole numbers"]),
        (["--seeds=1,1"], ["--seeds=1,1", "distinct"]),
        (["--cutoffs=0"], ["--cutoffs=0"]),
        (["--learning_rate=-1"], ["learning_rate"]),
        (["--dropout_init=1"], ["dropout_init"]),
        (["--model=gru4rec"], ["model", "hrnn_init"]),
        (["--optimizer=adam", "--momentum=0.1"], ["--momentum=0.1", "adagrad"]),
        (["--batch_size=1"], ["--batch_size=1", "negatives"]),
        (["--no_such_flag=1"], ["no_such_flag"]),
        (["stray"], ["stray"]),
        (["--flagfile=nowhere.flags"], ["nowhere.flags", "video.flags"]),
        (["--item_column=movie"], ["movie", "item_id"]),
        (["--min_user_sessions=7"], ["7"]),
    ],
)
def test_wrong_flags_are_refused(command, argv, words, tmp_path):
    assert_refused(command(*argv, "--output_dir=run"), *words)
    assert not (tmp_path / "run").exists()


def test_a_missing_log_is_refused(command):
    assert_refused(command("--dataset=events", "--events=gone.csv", events=None), "gone.csv")
    assert_refused(command("--flagfile=xing.flags", events=None), "xing_simulated.flags")


def test_more_lanes_than_users_and_one_user_work(command, tmp_path):
    assert command("--batch_size=100", "--output_dir=many")[0] == 0
    begin = 1_400_000_000
    rows = [("u", f"i{n % 3}", begin + 86_400 * s + n) for s in range(5) for n in range(3)]
    one = tmp_path / "one.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "ts"], orient="row").write_csv(one)
    code, _, err = command("--output_dir=one", "--loss=full_softmax", events=one)
    assert code == 0, err
    assert read("one")["mean"]["cases"] == 2
    refused = command("--output_dir=alone", events=one)
    assert_refused(refused, "the only user", "--loss=top1", "--extra_negatives")
    assert not (tmp_path / "alone").exists()


def test_a_diverged_run_stops_and_keeps_the_last_checkpoint(command):
    command("--epochs=1", "--loss=cross_entropy", "--optimizer=sgd", "--learning_rate=1e30")
    code, _, err = command(
        "--epochs=3",
        "--loss=cross_entropy",
        "--optimizer=sgd",
        "--learning_rate=1e30",
        "--output_dir=run",
    )
    assert code == 1
    assert err.count("\n") == 1
    assert re.search(r"seed 0 .*epoch \d+ at step \d+", err)
    assert not pathlib.Path("run/metrics.json").exists()


def test_the_recipe_holds_what_a_session_knn_looks_at(command):
    given = ("--sample_size=50", "--boost=2", "--remind_weight=3")
    ranks = {}
    for name in ("vsknn", "vsknn_br"):
        own = given if name == "vsknn_br" else given[:1]
        command(f"--model={name}", *own, "--output_dir=run/" + name)
        ranks[name] = pl.read_parquet(f"run/{name}/ranks.parquet")["rank"]
        found = json.loads(pathlib.Path("run", name, "recipe.json").read_text())["model"]
        own = {"boost": 2, "remind_weight": 3} if name == "vsknn_br" else {}
        plain = {"neighbours": 100, "boost": 0, "remind_weight": 0, "remind_sessions": 6}
        assert found == {"name": name, "sample_size": 50, **plain, **own}
    assert (ranks["vsknn"] != ranks["vsknn_br"]).any()
    command("--model=vsknn_br", *given, "--neighbours=2", "--output_dir=few")
    assert (pl.read_parquet("few/ranks.parquet")["rank"] != ranks["vsknn_br"]).any()


def test_compare_prints_runs_side_by_side_and_refuses_other_data(command, capfd):
    command("--model=ppop", "--output_dir=ppop")
    command("--model=item_knn", "--output_dir=item_knn")
    command("--model=ppop", "--split=validation", "--output_dir=other")
    compare.main(["ppop", "item_knn"])
    out = capfd.readouterr().out
    assert f"{read('ppop')['mean']['mrr@5']:.4f}" in out
    assert "Item-KNN" in out
    both = r"cases: \d+ of the test split of .*; \d+ of the validation split of "
    with pytest.raises(ValueError, match=both):
        compare.main(["ppop", "other"])
    with pytest.raises(ValueError, match=both):
        compare.main(["."])  # a folder of run folders
    with pytest.raises(ValueError, match="nothing"):
        compare.main(["nothing"])


def test_without_folders_each_run_has_its_own_and_compare_takes_the_newest_log(command, capfd):
    """The same flags on another log, and other settings on the same log, go elsewhere."""
    assert_refused(run_compare(capfd), "no finished run in out/runs", "video.flags")
    other = logs.write(pathlib.Path("other.csv"))
    assert command("--model=ppop", events=other)[0] == 0
    assert command("--model=item_knn")[0] == 0
    assert command("--model=item_knn", "--neighbours=7")[0] == 0
    assert "is complete" in command("--model=item_knn")[1]  # reported, as it has the same folder
    found = sorted(path.parent for path in pathlib.Path("out/runs").rglob("metrics.json"))
    assert [path.name.partition("-")[0] for path in found] == ["item_knn", "item_knn", "ppop"]
    assert [path.parent.name.partition("-")[0] for path in found] == ["log", "log", "other"]
    code, out, _ = run_compare(capfd)
    assert code == 0
    assert f"the runs in {found[0].parent}, newest first" in out
    newest = {"1 Item-KNN --neighbours=7", "2 Item-KNN  "}
    assert newest <= {line[: len(name)] for line in out.splitlines() for name in newest}
    for folder in found[:2]:
        number = 2 if folder.name == "item_knn" else 1
        assert f"\n{number}: {folder}\n" in out
    assert "PPOP" not in out
    assert command("--model=ppop", "--resume", events=other)[0] == 0
    assert f"the runs in {found[0].parent}" in run_compare(capfd)[1]  # it was only reported
    assert command("--model=ppop", "--resume", "--cutoffs=3", events=other)[0] == 0
    assert f"the runs in {found[2].parent}" in run_compare(capfd)[1]


def test_a_run_that_is_refused_before_its_first_epoch_leaves_no_folder(command, monkeypatch):
    """Bug: leave a recipe behind, which refuses the mended code."""

    def refuse(*_):
        raise errors.InputError("the loss has another shape")

    given = ("--model=rnn", "--epochs=1", "--output_dir=mine")
    with monkeypatch.context() as patched:
        patched.setattr(run_seeds, "train_and_rank", refuse)
        assert_refused(command(*given), "another shape")
    assert not pathlib.Path("mine").exists()
    pathlib.Path("mine").mkdir()  # as a run leaves it that was killed before its first epoch
    recipe = {"format": 3, "model": {"name": "rnn"}, "source": "other", "data": "log-1"}
    pathlib.Path("mine/recipe.json").write_text(json.dumps(recipe))
    pathlib.Path("mine/registered_code.py").write_text("old")
    assert command(*given)[0] == 0
    assert "source" not in json.loads(pathlib.Path("mine/recipe.json").read_text())
    assert not pathlib.Path("mine/registered_code.py").exists()
    before = sorted(pathlib.Path("mine").rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(run_seeds, "train_and_rank", refuse)
        assert_refused(command(*given[:1], "--epochs=2", "--resume", given[2]), "another shape")
    assert sorted(pathlib.Path("mine").rglob("*")) == before


def test_a_study_is_not_taken_for_a_run_in_which_nothing_is_trained(command):
    pathlib.Path("study").mkdir()
    text = json.dumps({"model": "ppop", "data": "log-1"})
    pathlib.Path("study/recipe.json").write_text(text)
    assert_refused(command("--model=ppop", "--output_dir=study"), "study")
    assert pathlib.Path("study/recipe.json").read_text() == text


def run_compare(capfd, *argv) -> tuple[int, str, str]:
    """Run experiments.compare in this process; returns (exit code, output, errors)."""
    try:
        compare.main([*argv])
    except errors.InputError as error:
        return 2, capfd.readouterr().out, f"error: {error}\n"
    return 0, *capfd.readouterr()


def test_flag_files_are_found_by_bare_name_and_nest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flat = cli.expand(["--flagfile=video.flags", "--epochs=3"])
    assert flat[0] == "--dataset=video"
    assert "--hidden_units=100" in flat
    assert flat[-1] == "--epochs=3"
    (tmp_path / "mine.flags").write_text("# mine\n--flagfile=video.flags\n\n--epochs=2\n")
    assert cli.expand(["--flagfile", "mine.flags"]) == [*flat[:-1], "--epochs=2"]
    (tmp_path / "loop.flags").write_text("--flagfile=loop.flags\n")
    with pytest.raises(ValueError, match="includes itself"):
        cli.expand(["--flagfile=loop.flags"])


def test_other_commands_take_from_a_flag_file_what_they_know(tmp_path, monkeypatch):
    (tmp_path / "a.flags").write_text("--model=rnn\n--not_a_flag=1\n--nodrop_repeats\n--nonsense\n")
    monkeypatch.chdir(tmp_path)
    given = ["--flagfile=a.flags", "--typed=1"]
    assert cli.expand(given, whole=False) == ["--model=rnn", "--nodrop_repeats", "--typed=1"]
    assert len(cli.expand(given)) == 5  # and absl refuses the unknown
    assert "--model=hrnn_init" in cli.expand(["--flagfile=video.flags"], whole=False)  # nested


@pytest.mark.parametrize("path", sorted(cli.SHIPPED.glob("*.flags")), ids=lambda path: path.name)
def test_shipped_flag_files_parse_and_state_the_paper(path):
    with flagsaver.flagsaver():
        flags.FLAGS(["run", *cli.expand([f"--flagfile={path.name}"])])
        assert flags.FLAGS.epochs == 10
    header = path.read_text()
    assert header.startswith("# ")
    assert "python -m experiments.run --flagfile=" in header


TABLE_2 = {  # batch size, dropout (user, session, init), learning rate, momentum
    "rnn_small": (100, (0, 0.2, 0), 0.1, 0.1),
    "rnn_large": (100, (0, 0.2, 0), 0.1, 0.0),
    "hrnn_all_small": (100, (0.1, 0.1, 0.2), 0.1, 0.2),
    "hrnn_all_large": (50, (0.0, 0.2, 0.2), 0.05, 0.3),
    "hrnn_init_small": (50, (0.0, 0.1, 0.0), 0.1, 0.0),
    "hrnn_init_large": (100, (0.1, 0.2, 0.2), 0.1, 0.1),
}


@pytest.mark.parametrize("name", TABLE_2)
def test_flag_files_are_table_2(name):
    with flagsaver.flagsaver():
        flags.FLAGS(["run", *cli.expand([f"--flagfile={name}.flags"])])
        f = flags.FLAGS
        dropout = (f.dropout_user, f.dropout_session, f.dropout_init)
        assert (f.batch_size, dropout, f.learning_rate, f.momentum) == TABLE_2[name]
        assert f.model == name.rsplit("_", 1)[0]
        assert f.hidden_units == (100 if name.endswith("small") else 500)


def test_interrupted_from_elsewhere_it_stops_in_one_line_and_resumes(log_file, tmp_path):
    """The real process, in another folder, its output a pipe: short, and ctrl-C is clean."""
    argv = [
        *(sys.executable, "-m", "experiments.run", "--flagfile=video.flags"),
        *(f"--events={log_file}", *SMALL.split(), "--epochs=100000", "--output_dir=run"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    process = subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    history = tmp_path / "run" / "history.jsonl"
    for _ in range(3000):  # far longer than an epoch takes on a busy machine
        if history.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err == "interrupted: the same command with --resume goes on\n"
    assert out.startswith("HRNN Init on ")
    assert "\r" not in out
    epochs = len(history.read_text().splitlines())
    argv = [*argv, "--resume", f"--epochs={epochs + 1}"]
    subprocess.run(argv, cwd=tmp_path, env=environment, check=True, capture_output=True)
    trained = [entry["epoch"] for entry in read_history(tmp_path / "run")]
    assert trained == list(range(1, epochs + 2))
