"""The search as its users run it: shared by processes, killed, continued, and reported."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import numpy as np
import polars as pl
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments import run, tune
from experiments.common import cli, epochs, model_flags
from experiments.tuning import search_spaces, study, trials
from hrnn_jax import errors, metrics, train
from hrnn_jax.config import NETWORKS
from hrnn_jax.metrics import Ranking
from tests.experiments.test_run import assert_refused, read
from tests.helpers import logs

app.define_help_flags()
# In a flag file, as a typed flag that the model does not use is refused.
SMALL = "--min_support=1\n--hidden_units=8\n--model=rnn\n--epochs=2\n--study_dir=study\n"
ONE = "--fix=batch_size,momentum,dropout_session"  # leaves RNN the learning rate to search


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return logs.write(tmp_path_factory.mktemp("logs") / "log.csv")


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """Run a command in this process; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(main, *argv):
        monkeypatch.setattr(sys, "argv", ["command", *argv])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
            cli.run(main)
        out, err = capfd.readouterr()
        return stop.value.code or 0, out, err

    return call


@pytest.fixture(scope="module")
def given(log_file):
    """Flags for a small model on the small log."""
    path = log_file.with_name("small.flags")
    path.write_text(SMALL)
    return ("--dataset=events", f"--events={log_file}", f"--flagfile={path}")


@pytest.fixture
def command(call, given):
    """Run experiments.tune on the small log."""
    return lambda *argv: call(tune.main, *given, *argv)


def trial_table():
    return pl.read_csv("study/trials.csv")


def open_study(folder="study", *, recipe=None, searched=None, sampler="random", startup_trials=5):
    """Open a study as another process would."""
    return study.Study(
        pathlib.Path(folder),
        recipe or {},
        study.Search(
            searched or search_spaces.BY_MODEL["hrnn_init"], sampler, "none", startup_trials
        ),
        best_flags=lambda best: f"--neighbours={best.number}\n",
    )


def script(monkeypatch, values):
    """Let trial n measure values[n][e] after epoch e, without training; None diverges."""

    def epoch(network, state, seeds, epoch, *, title):
        number = int(title.split()[1])
        if values[number][epoch] is None:
            raise errors.DivergedError("the loss of seed 0 is nan")
        measured.append(values[number][epoch])
        return epochs.EpochResult(state, np.zeros(1), events=10, seconds=1.0)

    def init_state(*_):
        return types.SimpleNamespace(params=None)

    init_state.clear_cache = lambda: None
    measured = []
    monkeypatch.setattr(train, "init_state", init_state)
    monkeypatch.setattr(epochs, "train_epoch", epoch)
    monkeypatch.setattr(epochs, "rank", lambda *_, **__: None)
    monkeypatch.setattr(trials, "measure", lambda *_: measured[-1])


def test_run_with_best_flags_measures_what_the_best_trial_measured(call, command):
    """Run measures, on the validation split, exactly what the trial measured, seeds and all."""
    code, out, err = command(
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


def test_the_value_of_a_trial_is_the_mean_of_its_seeds(command, monkeypatch):
    groups, values = [], iter([0.1, 0.2, 0.6])

    def epoch(network, state, seeds, epoch, **_):
        groups.append(seeds)
        return epochs.EpochResult(state, np.zeros(len(seeds)), events=10, seconds=1.0)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    monkeypatch.setattr(epochs, "rank", lambda *_, **__: None)
    monkeypatch.setattr(trials, "measure", lambda *_: next(values))
    command("--trials=1", "--epochs=1", "--seeds=3,4,5", "--seeds_at_once=2")
    assert groups == [[3, 4], [5]]
    assert trial_table()["value"].to_list() == [pytest.approx(0.3)]


def test_a_finished_study_is_reported_not_repeated_and_can_grow(command):
    argv = ("--model=item_knn", "--trials=2")
    assert command(*argv)[0] == 0
    before = {path: path.read_bytes() for path in pathlib.Path("study").glob("*.*")}
    assert {path.name for path in before} == set(study.FILES) - {"lock", "running"}
    code, out, _ = command(*argv)
    assert code == 0
    assert "2 trials are done" in out
    assert {path: path.read_bytes() for path in before} == before
    command("--model=item_knn", "--trials=3")
    assert trial_table()["number"].to_list() == [0, 1, 2]


def test_best_flags_and_trials_csv_are_written_after_every_trial(command, monkeypatch):
    tables = []

    def count(log, **_):
        if tables:
            assert "--neighbours=" in pathlib.Path("study/best.flags").read_text()
        tables.append(len(trial_table()) if tables else 0)
        # Ever better, from beyond 5.
        return Ranking(np.full(len(log.cases), 9 - len(tables)), np.zeros((1, log.n_items)))

    monkeypatch.setattr(model_flags, "rank_baseline", count)
    command("--model=item_knn", "--trials=4")
    assert tables == [0, 1, 2, 3]
    assert trial_table()["value"].to_list() == [0, 0, 0, 1]  # ranks 8, 7, 6, 5
    best = trial_table().row(3, named=True)
    assert f"--neighbours={best['neighbours']}\n" in pathlib.Path("study/best.flags").read_text()


def test_the_test_sessions_are_never_read(command, monkeypatch):
    """The log has a session on each of days 0 to 5: train on 0 to 3, measure on 4, never see 5."""
    seen = []
    real = model_flags.rank_baseline
    monkeypatch.setattr(
        model_flags, "rank_baseline", lambda log, **how: seen.append(log) or real(log, **how)
    )
    assert command("--model=item_knn", "--trials=1")[0] == 0
    [log] = seen
    [folder] = pathlib.Path("out/prepared").iterdir()
    day = (pl.read_parquet(folder / "events.parquet")["time"].to_numpy() - 1_600_000_000) // 86_400
    assert set(day[log.test]) == {4}
    assert set(day[~log.test]) == {0, 1, 2, 3}
    assert len(log.cases) == 30 * 3


def test_processes_share_a_study(tmp_path):
    folder = tmp_path / "study"
    with open_study(folder) as one, open_study(folder) as other:
        mine, yours = one.begin(3), other.begin(3)
        assert (mine.number, yours.number) == (0, 1)
        assert mine.params != yours.params
        one.end(mine, 0.5, seconds=1.0)
        assert one.begin(3).number == 2
        assert other.counts() == (1, 2, 1.0)
        other.end(yours, 0.7, seconds=3.0)
        assert other.begin(3) is None  # the third is running
        assert other.counts().seconds == 2
        assert other.best().number == 1
    with open_study(folder) as later:
        assert later.begin(3).number == 3  # as the third was left without an end
    states = pl.read_csv(folder / "trials.csv")["state"].to_list()
    assert states == ["complete", "complete", "running"]


def test_the_values_of_a_trial_depend_on_its_number_alone(tmp_path):
    drawn = []
    for name in ("a", "b"):
        with open_study(tmp_path / name) as opened:
            drawn.append([])
            for _ in range(4):
                trial = opened.begin(4)
                drawn[-1].append(trial.params)
                opened.end(trial, 0.0)
    assert drawn[0] == drawn[1]
    assert len({params["learning_rate"] for params in drawn[0]}) == 4


def test_tpe_draws_values_near_those_of_good_trials(tmp_path):
    far = {}
    for sampler in study.SAMPLERS:
        distances = []
        searched = search_spaces.BY_MODEL["item_knn"]
        with open_study(
            tmp_path / sampler, searched=searched, sampler=sampler, startup_trials=8
        ) as opened:
            while trial := opened.begin(30):
                distances.append(abs(math.log(trial.params["neighbours"] / 100)))
                opened.end(trial, -distances[-1])
        far[sampler] = distances
    assert far["tpe"][:8] == far["random"][:8]
    assert np.mean(far["tpe"][8:]) < 0.6 * np.mean(far["random"][8:])


def test_a_study_that_was_cut_off_goes_on_by_the_same_command(command, given):
    """A trial counts while its process lives, whoever asks, and no longer when that is dead."""
    argv = (*given, "--epochs=60", "--trials=2")
    for number, how in enumerate([signal.SIGKILL, signal.SIGINT]):
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.tune", *argv],
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2400):
            if pathlib.Path(f"study/running/{number}").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        recipe = json.loads(pathlib.Path("study/recipe.json").read_text())
        with open_study(recipe=recipe) as other:
            assert other.begin(1) is None
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert err == "interrupted: the same command goes on with the study\n"
        assert out.startswith("RNN on ") or "\nRNN on " in out
        assert "\r" not in out
    code, _, err = command("--epochs=60", "--trials=2")
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["cut off", "cut off", "complete", "complete"]
    assert trial_table()["epochs"].to_list()[2:] == [60, 60]
    assert not list(pathlib.Path("study/running").iterdir())


def test_a_trial_below_the_median_is_pruned_from_the_second_epoch_on(command, monkeypatch):
    script(
        monkeypatch,
        [
            [0.5, 0.5, 0.5, 0.5],
            [0.1, 0.1, 0.9, 0.9],  # below the median at the first check
            [0.1, 0.6, 0.6, 0.6],  # the first epoch is not compared
            [0.7, 0.1, 0.1, 0.1],  # its best epoch is what is compared
            [0.4, 0.4, 0.4, 0.4],
        ],
    )
    argv = ("--trials=5", "--epochs=4", "--startup_trials=1", ONE)
    code, out, err = command(*argv)
    assert code == 0, err
    states = ["complete", "pruned", "complete", "complete", "pruned"]
    assert trial_table()["state"].to_list() == states
    assert trial_table()["epochs"].to_list() == [4, 2, 4, 4, 2]
    assert trial_table()["value"].to_list() == [0.5, 0.1, 0.6, 0.7, 0.4]
    assert trial_table()["best_epoch"].to_list() == [1, 1, 2, 1, 1]
    assert "--epochs=1" in pathlib.Path("study", "best.flags").read_text().splitlines()
    assert "best is trial 3, recall@5 0.7000" in out
    assert "trial 1  pruned, recall@5 0.1000 after epoch 2" in out
    assert "(trial 3)" in pathlib.Path("study/best.flags").read_text().splitlines()[0]


def test_a_trial_ends_after_patience_epochs_without_a_better_one(command, monkeypatch):
    script(monkeypatch, [[0.5, 0.4, 0.6, 0.5, 0.6, 0.7]])
    code, _, err = command("--trials=1", "--epochs=6", "--patience=2", ONE)
    assert code == 0, err
    assert trial_table()["epochs"].to_list() == [5]  # an equal value is no better
    assert trial_table()["best_epoch"].to_list() == [3]


@pytest.mark.parametrize("spared", ["--pruner=none", "--startup_trials=5"])
def test_nothing_is_pruned_without_pruner_or_before_startup_trials(command, monkeypatch, spared):
    script(monkeypatch, [[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]])
    command("--trials=2", "--epochs=3", "--startup_trials=1", ONE, spared)
    assert trial_table()["state"].to_list() == ["complete", "complete"]


def test_a_diverged_trial_counts_and_does_not_end_the_study(command, monkeypatch):
    script(monkeypatch, [[0.2, 0.2], [0.9, None], [None], [0.3, 0.3]])
    code, out, err = command("--trials=4", ONE)
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["complete", "diverged", "diverged", "complete"]
    assert trial_table()["value"].to_list() == [0.2, None, None, 0.3]
    assert "best is trial 3" in out


def test_a_study_whose_trials_all_diverge_says_so(command):
    """The real loss, at a step that no weight survives."""
    code, out, err = command(
        *("--trials=2", "--loss=cross_entropy", "--optimizer=sgd", "--learning_rate=1e30"),
        *("--model=hrnn_init", "--batch_size=10", "--fix=learning_rate,momentum,batch_size"),
        "--epochs=3",
    )
    assert code == 1, out
    assert err.count("\n") == 1
    assert "diverged" in err
    assert trial_table()["state"].to_list() == ["diverged", "diverged"]
    assert not pathlib.Path("study/best.flags").exists()


def test_a_fixed_flag_keeps_its_value(command, monkeypatch):
    rates = []
    script(monkeypatch, [[0.5, 0.5]] * 3)
    real = epochs.train_epoch

    def epoch(network, *args, **rest):
        config = network.setup.config
        rates.append((config.momentum, config.batch_size))
        return real(network, *args, **rest)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    command("--trials=3", "--fix=momentum", "--momentum=0.25", "--batch_size=7")
    assert {momentum for momentum, _ in rates} == {0.25}
    assert 7 not in {batch for _, batch in rates}  # given, but searched
    assert "momentum" not in trial_table().columns
    assert "--momentum=0.25\n" in pathlib.Path("study/best.flags").read_text()


def test_a_study_of_another_recipe_is_refused(command):
    argv = ("--model=item_knn", "--trials=1")
    command(*argv)
    before = trial_table()
    for other, word in {
        "--min_support=2": "data",
        "--objective=mrr@5": "objective: recall@5 there, mrr@5 here",
        "--ties=for": "ties",
        "--model=rnn": "model: item_knn there, rnn here",
    }.items():
        assert_refused(command(*argv, other), "--study_dir=study", "another recipe", word)
    assert trial_table().equals(before)
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/thesis.txt").write_text("x")
    assert_refused(command(*argv, "--study_dir=mine"), "thesis.txt")
    assert [path.name for path in pathlib.Path("mine").iterdir()] == ["thesis.txt"]
    assert_refused(command(*argv, "--study_dir=mine/thesis.txt/study"), "--study_dir=mine/thesis")


def test_a_journal_cut_short_is_mended_and_a_damaged_one_refused(command):
    argv = ("--model=item_knn", "--trials=1")
    command(*argv)
    journal = pathlib.Path("study/journal.log")
    whole = journal.read_text()
    journal.write_text(whole + '{"op_code":4,"wor')
    code, _, err = command("--model=item_knn", "--trials=2")
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["complete", "complete"]
    journal.write_text("not json\n" + whole)
    assert_refused(command(*argv), "journal.log", "damaged")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--split=test"], ["--split=test", "validation"]),
        (["--model=ppop"], ["ppop", "nothing to tune", "item_knn"]),
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
        (["--sampler=grid"], ["sampler", "tpe"]),
    ],
)
def test_wrong_flags_are_refused_before_a_folder_is_made(command, argv, words, tmp_path):
    assert_refused(command(*argv), *words)
    assert not list(tmp_path.iterdir())


def test_a_flag_file_is_searched_in_its_own_space(command):
    """Its own space is drawn from, and its other flags reach the best flag file."""
    given = ("--flagfile=hrnn_plus.flags", "--hidden_units=8", "--epochs=1", "--trials=1")
    code, _, err = command(*given, "--space=hrnn_plus", "--study_dir=study")
    assert code == 0, err
    [found] = trial_table().rows(named=True)
    for name in search_spaces.BY_NAME["hrnn_plus"]:
        assert found[name] is not None
    assert 0.0005 <= found["learning_rate"] <= 0.005
    assert {"--past=64", "--model=hrnn_init"} <= set(
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
    text = tune.__doc__ or ""
    for name, values in search_spaces.BY_NAME.items():
        assert name in text
        for flag, distribution in values.items():
            assert f"{flag:<16} {search_spaces.describe(distribution)}" in text
    assert "learning_rate    0.01 to 0.3, log-uniform" in text


def test_the_objective_is_any_metric_at_any_cutoff():
    for name in metrics.summarise(np.ones(1), [7]):
        assert trials.objective_cutoff(name) == 7


def test_only_tune_needs_optuna():
    probe = (
        "import sys, experiments.run; assert 'optuna' not in sys.modules; "
        "sys.modules['optuna'] = None; import experiments.tune"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ("error: experiments.tune needs Optuna: pip install 'hrnn_jax[tune]'\n")
