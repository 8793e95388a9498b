"""A model that is a network with settings: its flags, and how they go together with others."""

import pathlib
import re

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import run, tune
from experiments.common import cli, model_flags
from experiments.tuning import tune_flags
from hrnn_jax.presets import HRNN_PLUS

assert run.FLAGS is tune.FLAGS  # both commands define their flags


@pytest.fixture(autouse=True)
def _flags(monkeypatch, tmp_path):
    """Give each test the flags at their defaults."""
    monkeypatch.chdir(tmp_path)
    with flagsaver.flagsaver():
        yield


def configs(*argv):
    """Parse a command; returns the configs of its network."""
    cli.parse(["run", *argv], whole=True, defaults=list)
    model_flags.check()
    return model_flags.model_config(n_items=9), model_flags.train_config()


def test_the_flag_file_is_the_model():
    """Bug: another value in one of them."""
    by_file, by_name = configs("--flagfile=hrnn_plus.flags"), configs("--model=hrnn_plus")
    assert by_file == by_name
    assert flags.FLAGS.model == "hrnn_plus"
    path = cli.SHIPPED / "hrnn_plus.flags"
    lines = [line for line in path.read_text().splitlines() if line.startswith("--")]
    assert {cli.split(line)[0] for line in lines} == {*HRNN_PLUS, "model", "epochs"}


@pytest.mark.parametrize("argv", [("--model", "hrnn_plus"), ("-model", "hrnn_plus")])
def test_the_model_is_the_same_with_a_space_before_its_name(argv):
    """Bug: look for `--model=` alone, so that its settings are those of hrnn_init."""
    assert configs(*argv) == configs("--model=hrnn_plus")
    assert configs("--places", "8", *argv)[0].places == 8


def test_its_settings_go_before_those_of_other_flag_files():
    """Bug: expand --model before the flag files."""
    assert configs("--flagfile=journey.flags", "--model=hrnn_plus") == configs(
        "--flagfile=journey.flags", "--flagfile=hrnn_plus.flags"
    )


@pytest.mark.parametrize(
    ("argv", "first"),
    [
        (["--model=hrnn_plus", "--flagfile=video.flags"], "--model=hrnn_plus"),
        (["--model", "sr", "--flagfile", "video.flags"], "--model=sr"),
        (["--flagfile=hrnn_plus.flags", "--flagfile=video.flags"], "--flagfile=hrnn_plus.flags"),
        (["--flagfile=own.flags"], "own.flags: --model=hrnn_plus"),
    ],
)
def test_a_flag_file_with_another_model_behind_a_model_is_refused(argv, first):
    """Bug: let it replace the model's name, and keep the settings of hrnn_plus next to it."""
    pathlib.Path("own.flags").write_text("--model=hrnn_plus\n--flagfile=video.flags\n")
    says = f"{first} stands before --flagfile=video.flags, which sets --model=hrnn_init: put"
    with pytest.raises(ValueError, match=re.escape(says)):
        cli.expand(argv)


def test_a_flag_file_without_a_model_or_with_the_same_may_stand_behind_the_model():
    """Bug: refuse each --flagfile behind --model."""
    own = configs("--model=hrnn_plus", "--flagfile=checkins.flags")
    assert own == configs("--model=hrnn_plus", "--flagfile=hrnn_plus.flags")
    assert own == configs("--model=hrnn_plus")
    configs("--flagfile=video.flags", "--flagfile=rnn_small.flags")
    assert flags.FLAGS.model == "rnn"


def test_a_model_that_a_later_typed_one_replaces_leaves_no_settings():
    """Bug: keep those of hrnn_plus."""
    assert configs("--model=hrnn_plus", "--model=hrnn_init") == configs("--model=hrnn_init")


def test_a_typed_flag_before_a_flag_file_goes_before_the_settings_of_the_model_behind_it():
    """Bug: leave it out of the preset alone, so that the flag file's value holds."""
    argv = ("--learning_rate=0.5", "--flagfile=video.flags", "--model=hrnn_plus")
    assert configs(*argv)[1].learning_rate == 0.5


@pytest.mark.parametrize("typed", ["--places=8", "--neighbours=7"])
@pytest.mark.parametrize("before", [True, False])
def test_typed_flags_go_before_its_settings(typed, before):
    """Bug: leave nothing out in `_preset`."""
    argv = [typed, "--model=hrnn_plus"] if before else ["--model=hrnn_plus", typed]
    name, value = cli.split(typed)
    assert getattr(configs(*argv)[0], name) == int(value)


def test_the_flags_that_a_run_writes_replay_it():
    """They are in the order of their names: `batch_size` stands before `model`."""
    first = configs("--model=hrnn_plus", "--batch_size=7", "--places=8")
    pathlib.Path("flags").write_text(flags.FLAGS.flags_into_string())
    assert configs("--flagfile=flags") == first


def test_a_flag_that_the_network_does_not_use_is_refused():
    with pytest.raises(ValueError, match="--user_input is not used by --model=hrnn_plus"):
        configs("--model=hrnn_plus", "--user_input=gates")


def test_without_places_its_patience_is_left_out():
    """Bug: refuse the patience of the preset, which nobody typed."""
    config, training = configs("--model=hrnn_plus", "--places=0")
    assert (config.places, training.held_out_patience) == (0, 0)


def test_a_typed_patience_without_places_is_refused():
    argv = ("--model=hrnn_plus", "--places=0", "--held_out_patience=3")
    with pytest.raises(ValueError, match=r"--held_out_patience=3 .* drop it, or give --places"):
        configs(*argv)


@pytest.mark.parametrize("typed", ["--patience=3", "--pruner=none"])
def test_tune_refuses_flags_of_training_for_a_method_without_training(typed):
    """Bug: accept them without an effect."""
    argv = ["tune", "--model=item_knn", typed]
    cli.parse(argv, whole=True, defaults=list)
    with pytest.raises(ValueError, match="is not used by --model=item_knn"):
        tune_flags.check()


def test_tune_searches_its_own_space():
    cli.parse(["tune", "--model=hrnn_plus"], whole=True, defaults=list)
    assert {"negative_hours", "dropout_session"} <= tune_flags.check().keys()
