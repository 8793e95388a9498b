"""The search as its users run it: shared by processes, killed, continued, and reported."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver
from optuna.distributions import IntDistribution

from experiments import run
from experiments import tune as command
from experiments.common import cli, model_flags
from experiments.training import epochs
from experiments.tuning import sampling, search_spaces, study, trials, tune_flags
from hrnn_jax.config import NETWORKS
from hrnn_jax.files import registered_code
from hrnn_jax.preprocess import prepared
from hrnn_jax.ranking import metrics
from hrnn_jax.ranking.metrics import Ranking
from tests.experiments.test_run import assert_refused, read
from tests.helpers.studies import ONE, open_study, script, trial_table

ROOT = pathlib.Path(__file__).parents[2]


def test_run_with_best_flags_measures_what_the_best_trial_measured(call, tune):
    """Run measures, on the validation split, exactly what the trial measured, seeds and all."""
    code, out, err = tune(
        *("--trials=2", "--objective=mrr@3", "--seeds=0,1", "--seeds_at_once=2", "--epochs=1")
    )
    assert code == 0, err
    best = trial_table().sort("value", descending=True).row(0, named=True)
    assert trial_table()["value"].n_unique() == 2
    assert f"mrr@3 {best['value']:.4f}" in out
    given = ("--flagfile=study/best.flags", "--cutoffs=3")
    assert call(run.main, *given, "--output_dir=validated", "--split=validation")[0] == 0
    assert read("validated")["mean"]["mrr@3"] == pytest.approx(best["value"], rel=1e-12)
    assert call(run.main, *given, "--output_dir=tested")[0] == 0
    assert read("tested")["split"] == "test"
    recipe = json.loads(pathlib.Path("tested/recipe.json").read_text())
    found = recipe["model"] | recipe["training"]
    for name in search_spaces.BY_MODEL["rnn"]:
        assert found[name] == best[name]
    assert read("tested")["seeds"] == [0, 1]


@pytest.mark.parametrize("given", ["--held_out_patience=0", "--flagfile=earlier.flags"])
def test_best_flags_trains_as_many_epochs_as_the_search_chose(tune, monkeypatch, tmp_path, given):
    """Bug: leave out a 0 that was given, so that hrnn_plus' own patience holds."""
    (tmp_path / "earlier.flags").write_text("--held_out_patience=0\n")
    script(monkeypatch, [[0.5, 0.6, 0.4]])
    monkeypatch.setattr(trials.HeldOut, "mixture", lambda *_: None)
    code, _, err = tune("--model=hrnn_plus", given, "--trials=1", "--epochs=3")
    assert code == 0, err
    found = dict(map(cli.split, cli.expand(["--flagfile=study/best.flags"])))
    assert (found["model"], found["epochs"]) == ("hrnn_plus", "2")
    assert found["held_out_patience"] == "0"


def test_the_value_of_a_trial_is_the_mean_of_its_seeds(tune, monkeypatch):
    groups, values = [], iter([0.1, 0.2, 0.6])

    def epoch(network, state, seeds, epoch, **_):
        groups.append(seeds)
        return epochs.EpochResult(state, np.zeros(len(seeds)), events=10, seconds=1.0)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    monkeypatch.setattr(epochs, "rank", lambda *_, **__: None)
    monkeypatch.setattr(trials, "measure", lambda *_: next(values))
    tune("--trials=1", "--epochs=1", "--seeds=3,4,5", "--seeds_at_once=2")
    assert groups == [[3, 4], [5]]
    assert trial_table()["value"].to_list() == [pytest.approx(0.3)]


def test_a_finished_study_is_reported_not_repeated_and_can_grow(tune):
    argv = ("--model=item_knn", "--trials=2")
    assert tune(*argv)[0] == 0
    before = {path: path.read_bytes() for path in pathlib.Path("study").glob("*.*")}
    assert {path.name for path in before} == set(study.FILES) - {"lock", "running", study.PROCESSES}
    code, out, _ = tune(*argv)
    assert code == 0
    assert "2 trials are done" in out
    assert {path: path.read_bytes() for path in before} == before
    tune("--model=item_knn", "--trials=3")
    assert trial_table()["number"].to_list() == [0, 1, 2]


def test_best_flags_and_trials_csv_are_written_after_every_trial(tune, monkeypatch):
    tables = []

    def count(log, **_):
        if tables:
            assert "--neighbours=" in pathlib.Path("study/best.flags").read_text()
        table = trial_table()
        assert table["state"][-1] == "running"
        tables.append(len(table) - 1)
        # Ever better, from beyond 5.
        return Ranking(np.full(len(log.cases), 9 - len(tables)), np.zeros((1, log.n_items)))

    monkeypatch.setattr(model_flags, "rank_baseline", count)
    tune("--model=item_knn", "--trials=4")
    assert tables == [0, 1, 2, 3]
    assert trial_table()["value"].to_list() == [0, 0, 0, 1]  # ranks 8, 7, 6, 5
    best = trial_table().row(3, named=True)
    assert f"--neighbours={best['neighbours']}\n" in pathlib.Path("study/best.flags").read_text()


def test_trials_csv_is_there_with_its_head_before_the_first_trial(tmp_path):
    with open_study(tmp_path / "study", searched=search_spaces.BY_MODEL["item_knn"]) as opened:
        assert (tmp_path / "study" / "trials.csv").read_text() == (
            "number,state,value,neighbours,epochs,best_epoch,seconds,compile_seconds,"
            "events_per_second\n"
        )
        opened.begin(1)
        assert trial_table(tmp_path / "study")["state"].to_list() == ["running"]


def test_the_test_sessions_are_never_read(tune, monkeypatch):
    """The log has a session on each of days 0 to 5: train on 0 to 3, measure on 4, never see 5."""
    seen = []
    real = model_flags.rank_baseline
    monkeypatch.setattr(
        model_flags, "rank_baseline", lambda log, **how: seen.append(log) or real(log, **how)
    )
    assert tune("--model=item_knn", "--trials=1")[0] == 0
    [log] = seen
    [folder] = pathlib.Path("out/prepared").iterdir()
    day = (pl.read_parquet(folder / "events.parquet")["time"].to_numpy() - 1_600_000_000) // 86_400
    assert set(day[log.test]) == {4}
    assert set(day[~log.test]) == {0, 1, 2, 3}
    assert len(log.cases) == 30 * 3


def test_trials_see_all_events_of_a_share_of_the_users_and_no_others(tune, monkeypatch):
    seen = []
    real = model_flags.rank_baseline
    monkeypatch.setattr(
        model_flags, "rank_baseline", lambda log, **how: seen.append(log) or real(log, **how)
    )
    argv = ("--model=item_knn", "--trials=1", "--user_share=0.25")
    for folder in ("one", "other"):
        code, out, err = tune(*argv, f"--study_dir={folder}")
        assert code == 0, err
        assert f"{8 * 3} validation cases of 0.25 of the users" in out
    whole = prepared.load(next(pathlib.Path("out/prepared").iterdir()))
    drawn = {*seen[0].user.tolist()}
    assert len(drawn) == 8  # of 30
    assert drawn != {*range(8)}
    for log in seen:
        assert log.n_items == whole.n_items
        kept = [user in drawn for user in whole.user.tolist()]
        for name in ("user", "session", "item", "time", "test"):
            assert getattr(log, name).tolist() == getattr(whole, name)[kept].tolist()
    assert json.loads(pathlib.Path("one/recipe.json").read_text())["user_share"] == 0.25
    assert "user_share=" not in pathlib.Path("one/best.flags").read_text().split("\n", 2)[2]


def test_a_network_trains_on_a_share_of_the_users_with_all_items(tune, monkeypatch):
    """Its pairs, counted by hand: 2 users with 4 training sessions of 4 events each."""
    trained = []
    real = epochs.train_epoch
    monkeypatch.setattr(
        epochs, "train_epoch", lambda *args, **how: trained.append(real(*args, **how)) or trained[0]
    )
    code, _, err = tune("--trials=1", "--epochs=1", "--user_share=0.07")
    assert code == 0, err
    [done] = trained
    assert done.events == 2 * 4 * 3
    assert done.state.params.items.item_out.shape[0] == 20


def test_a_study_that_was_cut_off_goes_on_by_the_same_command(tune, tune_argv):
    """A trial counts while its process lives, whoever asks, and no longer when that is dead."""
    argv = (*tune_argv, "--epochs=60", "--trials=2")
    drawn = 0
    for jobs, how in [(1, signal.SIGKILL), (2, signal.SIGINT)]:
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.tune", *argv, f"--jobs={jobs}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = [pathlib.Path(f"study/running/{drawn + n}") for n in range(jobs)]
        drawn += jobs
        for _ in range(6000):
            if all(path.exists() for path in running) or process.poll() is not None:
                break
            time.sleep(0.05)
        recipe = json.loads(pathlib.Path("study/recipe.json").read_text())
        with open_study(recipe=recipe) as other:
            assert other.begin(jobs) is None
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert err == "interrupted: the same command goes on with the study\n"
            assert not pathlib.Path("study/processes").exists()
        assert out.startswith("RNN on ") or "\nRNN on " in out
        assert "\r" not in out
    code, _, err = tune("--epochs=60", "--trials=2")
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["cut off"] * drawn + ["complete", "complete"]
    assert trial_table()["epochs"].to_list()[drawn:] == [60, 60]
    assert not list(pathlib.Path("study/running").iterdir())


def test_a_study_whose_trials_all_diverge_says_so(tune, monkeypatch):
    """The real loss, at a step that no weight survives."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code, out, err = tune(
        *(
            "--trials=2",
            "--jobs=2",
            "--loss=cross_entropy",
            "--optimizer=sgd",
            "--learning_rate=1e30",
        ),
        *("--model=hrnn_init", "--batch_size=30", "--fix=learning_rate,momentum,batch_size"),
        "--epochs=3",
    )
    assert code == 1, out
    assert err.count("\n") == 1
    assert "diverged" in err
    assert trial_table()["state"].to_list() == ["diverged", "diverged"]
    assert not pathlib.Path("study/best.flags").exists()


def test_a_fixed_flag_keeps_its_value(tune, monkeypatch):
    rates = []
    script(monkeypatch, [[0.5, 0.5]] * 3)
    real = epochs.train_epoch

    def epoch(network, *args, **rest):
        config = network.setup.config
        rates.append((config.momentum, config.batch_size))
        return real(network, *args, **rest)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    tune("--trials=3", "--fix=momentum", "--momentum=0.25", "--batch_size=7")
    assert {momentum for momentum, _ in rates} == {0.25}
    assert 7 not in {batch for _, batch in rates}  # given, but searched
    assert "momentum" not in trial_table().columns
    assert "--momentum=0.25\n" in pathlib.Path("study/best.flags").read_text()


def test_a_study_of_another_recipe_is_refused(tune):
    argv = ("--model=item_knn", "--trials=1")
    tune(*argv)
    before = trial_table()
    for other, word in {
        "--min_support=2": "data",
        "--objective=mrr@5": "objective: recall@5 there, mrr@5 here",
        "--ties=for": "ties",
        "--user_share=0.5": "user_share",
        "--model=rnn": "model: item_knn there, rnn here",
    }.items():
        assert_refused(tune(*argv, other), "--study_dir=study", "another recipe", word)
    assert trial_table().equals(before)
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/thesis.txt").write_text("x")
    assert_refused(tune(*argv, "--study_dir=mine"), "thesis.txt")
    assert [path.name for path in pathlib.Path("mine").iterdir()] == ["thesis.txt"]
    assert_refused(tune(*argv, "--study_dir=mine/thesis.txt/study"), "--study_dir=mine/thesis")


def test_a_study_of_an_edited_own_model_is_another(tune, call, tune_argv, monkeypatch):
    """Bug: go on with the trials of the code of before."""
    argv = ("--model=item_knn", "--trials=1")
    data, names = tune_argv[:2], []
    for code, refused in ((b"one", False), (b"edited", True)):
        monkeypatch.setitem(registered_code.SOURCES, ("model", "item_knn"), code)
        _, _, err = tune(*argv)
        assert ("--study_dir=study holds a study of other code" in err) == refused
        call(command.main, *data, *argv, "--min_support=1", "--jobs=1")
        names.append([path.name for path in pathlib.Path("out/tune").glob("*/*")])
    assert [*map(len, names)] == [1, 2]


def test_a_journal_cut_short_is_mended_and_a_damaged_one_refused(tune):
    argv = ("--model=item_knn", "--trials=1")
    tune(*argv)
    journal = pathlib.Path("study/journal.log")
    whole = journal.read_text()
    journal.write_text(whole + '{"op_code":4,"wor')
    code, _, err = tune("--model=item_knn", "--trials=2")
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["complete", "complete"]
    # Optuna passes over the last line, and fails on it when it reads on.
    for damaged in (
        "not json\n" + whole,
        "not json\n",
        whole + "\n",
        whole + "5\n",
        whole + "[]\n",
    ):
        journal.write_text(damaged)
        assert_refused(tune(*argv), "journal.log", "damaged")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--split=test"], ["--split=test", "validation"]),
        (["--model=ppop"], ["ppop", "nothing to tune", "item_knn", "hrnn_plus"]),
        (["--space=hrnn_plus"], ["--space=hrnn_plus", "--model=hrnn_init", "rnn"]),
        (["--space=other"], ["--space", "hrnn_plus"]),
        (
            ["--model=hrnn_init", "--space=hrnn_plus", "--fix=momentum"],
            ["momentum", "--space=hrnn_plus", "learning_rate"],
        ),
        (["--fix=dropout_user"], ["dropout_user", "--model=rnn", "learning_rate"]),
        ([f"{ONE},learning_rate"], ["leaves nothing to tune"]),
        (["--objective=recall"], ["--objective=recall", "recall@5"]),
        (["--objective=hits@5"], ["hits@5", "mrr@5"]),
        (["--objective=recall@0"], ["recall@0"]),
        (["--optimizer=adam"], ["--momentum=0.1", "--fix=momentum"]),
        (["--epochs=0"], ["--epochs=0"]),
        (["--seeds=1,1"], ["--seeds=1,1"]),
        (["--trials=0"], ["trials"]),
        (["--user_share=0"], ["--user_share=0", "above 0, at most 1"]),
        (["--user_share=1.5"], ["user_share", "1.5"]),
        (["--user_share=nan"], ["--user_share=nan", "finite"]),
        (["--sampler=grid"], ["sampler", "tpe"]),
    ],
)
def test_wrong_flags_are_refused_before_a_folder_is_made(tune, argv, words, tmp_path):
    assert_refused(tune(*argv), *words)
    assert not list(tmp_path.iterdir())


def test_a_flag_file_is_searched_in_its_own_space(tune):
    """Its own space is drawn from, and its other flags reach the best flag file."""
    given = ("--flagfile=hrnn_plus.flags", "--hidden_units=8", "--epochs=1", "--trials=1")
    code, _, err = tune(*given, "--space=hrnn_plus", "--study_dir=study")
    assert code == 0, err
    [found] = trial_table().rows(named=True)
    for name in search_spaces.BY_NAME["hrnn_plus"]:
        assert found[name] is not None
    assert 0.0005 <= found["learning_rate"] <= 0.005
    assert {"--places=256", "--model=hrnn_plus"} <= set(
        pathlib.Path("study/best.flags").read_text().split()
    )


def test_every_network_can_be_tuned():
    assert set(NETWORKS) <= search_spaces.BY_MODEL.keys() <= set(model_flags.MODELS)


@pytest.mark.parametrize("name", search_spaces.BY_NAME)
def test_every_bound_of_a_space_is_accepted_by_its_flag(name):
    """The flag reads every bound back exactly, and the configs take it."""
    variant, searched = search_spaces.BY_FLAG_FILE.get(name, (name, search_spaces.BY_NAME[name]))
    recipe = cli.expand((f"--flagfile={name}.flags",)) if name in search_spaces.BY_FLAG_FILE else ()
    for flag, values in searched.items():
        for value in search_spaces.bounds(values):
            with flagsaver.flagsaver():
                flags.FLAGS(["tune", f"--model={variant}", *recipe, f"--{flag}={value}"])
                assert flags.FLAGS[flag].value == value
                if variant in NETWORKS:
                    model_flags.train_config()
                    found = model_flags.model_config(9)
                    assert getattr(found, flag, value) == value


def test_the_help_describes_every_space():
    text = command.__doc__ or ""
    for name, values in search_spaces.BY_NAME.items():
        assert name in text
        for flag, distribution in values.items():
            assert f"{flag:<17} {search_spaces.describe(distribution)}" in text
    assert "learning_rate     0.01 to 0.3, log-uniform" in text


def test_the_objective_is_any_metric_at_any_cutoff():
    for name in metrics.summarise(np.ones(1), [7]):
        assert tune_flags.objective_cutoff(name) == 7


def test_help_and_wrong_flags_are_answered_without_optuna():
    """In a plain install only a study needs it, and says so."""
    probe = """if True:
        import sys
        from experiments.common import cli
        sys.modules["optuna"] = None
        from experiments import run, tune
        cli.run(tune.main)
        """
    says = {"--help": "", "--trails=1": "did you mean --trials?", "--model=ppop": "nothing to tune"}
    for flag, said in says.items():
        done = subprocess.run([sys.executable, "-c", probe, flag], capture_output=True, text=True)
        assert done.returncode == (2 if said else 0), done.stderr
        assert said in done.stderr
        assert ("What is searched" in done.stdout) == (not said)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: the package optuna is missing: {cli.installs('tune')}\n"


def test_a_study_draws_each_value_from_its_space():
    """The distributions hold the very numbers that the help shows."""
    for space in search_spaces.BY_NAME.values():
        distributions: dict[str, Any] = {**sampling.distributions(space)}
        for name, drawn in distributions.items():
            values = space[name]
            if isinstance(values, search_spaces.Choice):
                assert drawn.choices == values.values
            else:
                assert (drawn.low, drawn.high, drawn.log) == (values.low, values.high, values.log)
                assert isinstance(drawn, IntDistribution) == isinstance(values.low, int)
