"""Trials in processes side by side, started by one command: the same study, whatever ends early."""

import os
import pathlib
import sys
import textwrap
import types

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.tuning import processes, study, tune_flags
from hrnn_jax.files import provenance
from tests.experiments.test_run import assert_refused
from tests.helpers.studies import trial_table

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), "."]))


def test_two_processes_run_the_same_trials_as_one(tune):
    tables = {}
    for jobs in (1, 2):
        argv = ("--model=item_knn", "--trials=5", f"--jobs={jobs}", f"--study_dir=jobs_{jobs}")
        code, out, err = tune(*argv)
        assert (code, err) == (0, "")
        lines = [line for line in out.splitlines() if line.startswith("trial ")]
        assert sorted(line.split()[1] for line in lines) == [*"01234"]
        assert "5 trials are done" in out
        tables[jobs] = trial_table(f"jobs_{jobs}").drop("seconds")
        assert not pathlib.Path(f"jobs_{jobs}", "processes").exists()
    assert tables[2].equals(tables[1])
    given, written = sys.argv[1:], pathlib.Path("jobs_2/best.flags").read_text()
    assert f" -m experiments.tune {' '.join(given)}\n" in written


def test_one_process_per_core_starts_but_no_more_than_trials_are_left(monkeypatch):
    def started(*argv):
        with flagsaver.flagsaver():
            flags.FLAGS(["tune", *argv])
            counts = study.Counts(done=2, running=0, seconds=1.0)
            return tune_flags.processes(types.SimpleNamespace(counts=lambda: counts))

    monkeypatch.setattr(provenance, "cores", lambda: 4)
    assert started("--trials=9") == 4
    assert started("--trials=5") == 3
    assert started("--trials=9", "--jobs=6") == 6
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert started("--trials=9") == 1
    assert started("--trials=9", "--jobs=6") == 6
    assert started("--trials=9", "--model=item_knn") == 4


# Trial 0 kills its process, and trial 1 ends after that.
KILLED = """
    import json, os, pathlib
    from hrnn_jax.files.file_lock import FileLock
    from tests.helpers.studies import open_study

    with open_study(recipe=json.loads(pathlib.Path("study/recipe.json").read_text())) as study:
        while trial := study.begin(2):
            if trial.number == 0:
                os.kill(os.getpid(), 9)
            if trial.number == 1:
                first = FileLock(pathlib.Path("study/running/0"))
                first.acquire()
                first.close()
            study.end(trial, 0.5, seconds=1.0)
"""


def test_the_trial_of_a_killed_process_is_drawn_again_by_the_other(tune, monkeypatch):
    pathlib.Path("killed.py").write_text(textwrap.dedent(KILLED))
    monkeypatch.setattr(processes, "module", lambda name: "killed")
    code, out, err = tune("--model=hrnn_init", "--trials=2", "--jobs=2")
    assert (code, err) == (0, "")
    assert "failed: ended without a message (killed?)" in out
    assert "2 trials are done" in out
    assert trial_table()["state"].to_list() == ["cut off", "complete", "complete"]
    assert len(list(pathlib.Path("study/processes").iterdir())) == 1  # the log of the failed one


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 1), ("sys.exit(1)", 1)]
)
def test_trials_that_are_missing_when_all_processes_have_failed_are_an_error(
    tune, monkeypatch, ending, code
):
    pathlib.Path("broken.py").write_text(f"import os, sys\nprint('no space left')\n{ending}\n")
    monkeypatch.setattr(processes, "module", lambda name: "broken")
    result = tune("--model=item_knn", "--trials=3", "--jobs=2")
    assert_refused((2, *result[1:]), "0 of 3 trials are done: no space left")
    assert result[0] == code
