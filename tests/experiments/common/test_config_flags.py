"""Flags of settings: what is refused while they are parsed."""

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import run, tune
from experiments.common import cli, data_flags, model_flags
from hrnn_jax.preprocess import datasets


def float_flags():
    """Return the flags of this package that hold a float."""
    assert {data_flags, model_flags}  # they define flags
    return [
        flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        for flag in defined
        if module.startswith("experiments.") and flag.flag_type() == "float"
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_no_float_flag_takes_a_number_that_is_not_finite(text):
    found = float_flags()
    names = {flag.name for flag in found}
    assert {"learning_rate", "simulate_scale", "session_gap_minutes"} <= names
    for flag in found:
        with (
            flagsaver.flagsaver(),
            pytest.raises(flags.IllegalFlagValueError, match="give a finite number"),
        ):
            flag.parse(text)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--learning_rate=nan", "--learning_rate=nan: give a finite number"),
        ("--learning_rate=fast", "--learning_rate=fast: give a number"),
        ("--layers=2.5", "--layers=2.5: give an integer"),
        ("--simulate_scale=0", "--simulate_scale=0: give a number above 0"),
        ("--epochs=-1", "--epochs=-1: give 0 or more"),
        (
            "--hiden_units=8",
            "--hiden_units is no flag of this command: did you mean --hidden_units?",
        ),
        (
            "--dataset=qqq",
            f"--dataset=qqq: value should be one of <{'|'.join(datasets.NAMES)}>; "
            "--plugin=MODULE imports the module that registers a dataset of your own",
        ),
        ("--qqq", "--qqq is no flag of this command: --help lists all"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(capsys, argument, line):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
        cli.parse(["run", argument], whole=True, defaults=list)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("name", ["events", "prepared_dir", "continue_from", "study_dir"])
def test_an_empty_path_is_refused_and_not_replaced_by_the_default(capsys, name):
    """Bug: take it as no path, so that an unset variable of a shell runs on simulated events."""
    assert {run, tune}  # they define flags
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
        cli.parse(["run", f"--{name}="], whole=True, defaults=list)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: --{name}=: give a path, or leave it out\n"
