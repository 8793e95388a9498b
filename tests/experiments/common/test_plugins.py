"""--plugin: modules of a fork in the commands, and in the processes that they start."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import plugins
from hrnn_jax import errors

ROOT = pathlib.Path(__file__).parents[3]
REGISTERS = """
from hrnn_jax.baselines import by_name
from hrnn_jax.preprocess import datasets

def newest(log):
    return by_name.scorer("ppop", log, None)

by_name.register("newest", newest, title="Newest")
datasets.register("own", lambda: None)
"""
PROBE = """
import json, sys
from experiments import tune
from experiments.common import cli, config_flags, model_flags, plugins
from experiments.tuning import best_flags
cli.parse(["tune", *sys.argv[1:]], whole=True, defaults=list)
FLAGS = tune.FLAGS
config_flags.refuse_unused(FLAGS.model)
print(json.dumps([FLAGS.model, FLAGS.dataset, plugins.given(), cli.flag_file()]))
"""


def test_names_that_a_module_registers_are_values_of_flags_also_from_a_flag_file(tmp_path):
    """Bug: make the flags before the module is imported, or pass it on to no process."""
    (tmp_path / "my_fork").mkdir()
    (tmp_path / "my_fork/models.py").write_text(REGISTERS)
    (tmp_path / "own.flags").write_text("--plugin=my_fork.models\n--model=newest\n")
    argv = ("--flagfile=own.flags", "--dataset=own", "--ties=for")  # one that it uses
    command = [sys.executable, "-c", PROBE, *argv]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model, dataset, given, kept = json.loads(done.stdout)
    assert (model, dataset) == ("newest", "own")
    assert given == ["--plugin=my_fork.models"]
    assert "--plugin=my_fork.models\n" in kept


def test_without_it_nothing_is_passed_on_or_kept():
    with flagsaver.flagsaver(plugin=None):
        assert plugins.given() == []
        assert flags.FLAGS["plugin"].serialize() == ""


@pytest.mark.parametrize("argv", [["--plugin=my_fork.none"], ["--plugin", "my_fork.none"]])
def test_a_module_that_is_missing_is_named_and_one_that_misses_another_is_not(
    argv, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_fork").mkdir()
    with pytest.raises(errors.InputError, match=r"--plugin=my_fork\.none: there is no module"):
        plugins.load(argv)
    (tmp_path / "imports_another.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        plugins.load(["--plugin=imports_another"])
    (tmp_path / "no_python.py").write_text("import json\n\ndef score(:\n")
    with pytest.raises(errors.InputError, match=r"--plugin=no_python: .*no_python\.py, line 3: "):
        plugins.load(["--plugin=no_python"])
    plugins.load([])
    plugins.load(["--plugin"])  # absl says what is missing
