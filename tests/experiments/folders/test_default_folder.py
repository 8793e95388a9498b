"""Which folder a run has whose command names none."""

import dataclasses
import os
import pathlib
import re
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import run  # noqa: F401  (its flags)
from experiments.common import cli, model_flags
from experiments.folders.default_folder import default_folder, default_study
from experiments.folders.newest import newest_network, newest_run, runs_beside
from experiments.folders.usual import usual_settings
from experiments.jobs.paper_rows import ROWS
from hrnn_jax import errors

PREPARED = pathlib.Path("out/prepared/video-0123456789ab")


def folder(*argv, prepared=PREPARED):
    """Return the default folder of a run's command line."""
    with flagsaver.flagsaver():
        flags.FLAGS(["run", *cli.expand(argv)])
        return default_folder(prepared)


def suffixed(path):
    """Say whether the model's name has a fingerprint behind it."""
    return re.fullmatch(r"\w+-[0-9a-f]{6}", path.name) is not None


@pytest.mark.parametrize("name", model_flags.MODELS)
def test_the_row_of_a_model_has_its_plain_name(name):
    file = {"rnn_concat": "rnn", "hrnn_all": "hrnn_all", "rnn": "rnn"}.get(name, "hrnn_init")
    argv = ("--flagfile=video.flags", f"--flagfile={file}_small.flags", f"--model={name}")
    argv = argv if name != "hrnn_plus" else ("--flagfile=video.flags", f"--model={name}")
    assert folder(*argv) == pathlib.Path("out/runs/video-01234567") / name


@pytest.mark.parametrize("name", model_flags.MODELS)
def test_a_run_in_the_plain_folder_has_the_usual_settings(name):
    """Bug: a default, or a line of the flag file, that is read in another type."""
    flag_files = ROWS[f"{name}_small"].flags if f"{name}_small" in ROWS else ()
    with flagsaver.flagsaver():
        flags.FLAGS(["run", *cli.expand([*flag_files, f"--model={name}"])])
        recipe = model_flags.recipe(n_items=5)
        ranked = dataclasses.asdict(model_flags.evaluation_config())
    found = {**recipe["model"], **recipe.get("training", {}), **ranked}
    usual = usual_settings(name)
    assert {key: found[key] for key in usual} == usual


def test_other_settings_and_other_logs_have_other_folders():
    """Bug: leave the settings, or the log's fingerprint, out of the name."""
    video = ("--flagfile=video.flags",)
    tuned = ("--learning_rate=0.0423", "--batch_size=50")
    found = [
        folder(*video),
        folder(*video, *tuned),
        folder(*video, "--learning_rate=0.042"),
        folder(*video, "--hidden_units=500"),
        folder(*video, "--flagfile=hrnn_plus.flags"),
        folder(*video, "--flagfile=rnn_small.flags"),
        folder(*video, "--flagfile=rnn_large.flags"),
        folder(*video, "--model=item_knn"),
        folder(*video, "--model=item_knn", "--neighbours=20"),
        folder(*video, "--continue_from=old"),
        folder(*video, "--schedule=linear", "--epochs=3"),
        folder(*video, "--schedule=linear", "--epochs=4"),
        folder(*video, prepared=PREPARED.with_name("video-999456789ab0")),
    ]
    assert len({*found}) == len(found)
    plain = ["hrnn_init", "hrnn_plus", "rnn", "item_knn", "hrnn_init"]
    assert [path.name for path in found if not suffixed(path)] == plain


def test_what_does_not_decide_the_weights_does_not_change_the_folder():
    video = ("--flagfile=video.flags", "--hidden_units=20")
    same = ("--seeds=1,2", "--cutoffs=1,5", "--epochs=3", "--curve", "--dropout_session=0.1")
    assert folder(*video, *same) == folder(*video)
    # A flag of another model, of a flag file.
    counting = ("--flagfile=video.flags", "--model=ppop")
    assert folder(*counting, "--hidden_units=7").name == "ppop"


@pytest.mark.parametrize(
    ("events", "name"),
    [
        ("my_log.csv", "my_log-01234567"),
        ("logs/2024.05 all clicks.csv.gz", "2024.05_all_clicks-01234567"),
        ("Журнал.parquet", "Журнал-01234567"),
    ],
)
def test_an_own_log_gives_its_name(events, name):
    given = ("--flagfile=video.flags", f"--events={events}")
    assert folder(*given) == pathlib.Path("out/runs", name, "hrnn_init")


def test_a_study_has_a_folder_of_its_log_and_its_search():
    """Bug: name it by the data set and the model alone."""
    recipe = {"data": PREPARED.name, "objective": "recall@5", "searched": {"momentum": "0 to 1"}}
    found = []
    with flagsaver.flagsaver(events="my_log.csv"):
        for changed in ({}, {"objective": "mrr@20"}, {"searched": {}}, {"data": "elsewhere"}):
            found.append(default_study(PREPARED, "hrnn_plus", recipe | changed))
    assert found[0].parent == pathlib.Path("out/tune/my_log-01234567")
    assert re.fullmatch("hrnn_plus-[0-9a-f]{6}", found[0].name)
    assert len({*found[:3]}) == 3
    assert found[3] == found[0]  # the log is in the folder above


def test_flag_files_in_the_working_directory_do_not_change_the_plain_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("hrnn_init_small.flags").write_text("--model=hrnn_init\n--hidden_units=7\n")
    assert suffixed(folder("--flagfile=video.flags", "--flagfile=hrnn_init_small.flags"))


def make_run(path, *, data="video-1", age, finished=True):
    """Write what commands look at to find a run that ended `age` seconds ago."""
    path.mkdir(parents=True)
    (path / "recipe.json").write_text(f'{{"data": "{data}"}}')
    if finished:
        (path / "metrics.json").write_text("{}")
        os.utime(path / "metrics.json", (1e9 - age, 1e9 - age))


def test_the_newest_finished_run_is_found_with_those_on_its_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.InputError, match=r"no run in out/runs: give --x.*\.run --flagfile"):
        newest_run("run", "--x")
    here = pathlib.Path("out/runs")
    make_run(here / "video-1" / "rnn", age=30)
    make_run(here / "video-1" / "ppop", age=20)
    make_run(here / "video-1" / "hrnn_init", age=1, finished=False)
    make_run(here / "video-1" / "other", age=15, data="video-2")
    make_run(here / "shop-2" / "rnn", age=40, data="shop-2")
    assert newest_run("run", "--x", lambda path: path.name != "other").name == "ppop"
    assert [path.name for path in runs_beside(here / "video-1/rnn")] == ["ppop", "rnn"]
    os.utime(here / "shop-2/rnn/recipe.json")
    assert newest_run("run", "--x").name == "other"
    os.utime(here / "shop-2/rnn/metrics.json")  # as more epochs do
    assert newest_run("run", "--x") == here / "shop-2/rnn"


def test_the_newest_network_has_weights(tmp_path, monkeypatch):
    """Bug: take a run that only counted."""
    monkeypatch.chdir(tmp_path)
    here = pathlib.Path("out/runs/video-1")
    make_run(here / "ppop", age=1)
    with pytest.raises(errors.InputError, match=r"no finished run of a network .* give --run"):
        newest_network()
    for name, age in (("rnn", 30), ("hrnn_init", 20)):
        make_run(here / name, age=age)
        (here / name / "checkpoint").mkdir()
    assert newest_network() == here / "hrnn_init"


@pytest.mark.parametrize(
    ("package", "python", "typed", "install"),
    [
        (
            "experiments",
            ".venv/bin/python",
            ".venv/bin/python -m experiments.run",
            ".venv/bin/python -m pip install --editable '.[tune]'",
        ),
        (
            "hrnn_jax_experiments",
            "env/bin/python3",
            "env/bin/hrnn-jax run",
            "env/bin/python3 -m pip install 'hrnn_jax[tune]'",
        ),
    ],
)
def test_printed_commands_can_be_pasted(monkeypatch, tmp_path, package, python, typed, install):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / python))
    monkeypatch.setattr(cli, "PACKAGE", package)
    assert cli.command("run") == typed
    assert cli.installs("tune") == install


def test_programs_outside_the_working_directory_are_typed_by_name_or_path(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "PACKAGE", "hrnn_jax_experiments")
    program = tmp_path / "my env" / "hrnn-jax"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    assert cli.command("run") == f"'{program}' run"
    monkeypatch.setenv("PATH", str(program.parent))
    assert cli.command("run") == "hrnn-jax run"
