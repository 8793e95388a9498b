"""Trials in processes side by side, started by one command: the same study, whatever ends early."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments.tuning import processes
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
    assert f"# python -m experiments.tune {' '.join(given)}\n" in written


def test_no_more_processes_start_than_trials_are_left(tune, monkeypatch):
    started = []
    monkeypatch.setattr(
        processes, "run_all", lambda study, side_by_side: started.append(side_by_side)
    )
    tune("--model=item_knn", "--trials=1", "--jobs=3")
    assert len(trial_table()) == 1  # in this process
    tune("--model=item_knn", "--trials=3", "--jobs=3")
    tune("--model=item_knn", "--trials=9", "--jobs=3")
    assert started == [2, 3]


def holder(path):
    """Return the process that holds the lock on a file."""
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{path.stat().st_ino}"):
            return int(fields[4])
    return None


def test_the_trial_of_a_killed_process_is_drawn_again_by_the_other(tune_argv, tmp_path):
    argv = (*tune_argv, "--epochs=20", "--trials=2", "--jobs=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.tune", *argv],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = [tmp_path / f"study/running/{number}" for number in (0, 1)]
    while not all(path.exists() for path in running):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(holder(running[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "failed: ended without a message (killed?)" in out
    assert trial_table(tmp_path / "study")["state"].to_list() == ["cut off", "complete", "complete"]
    assert len(list((tmp_path / "study/processes").iterdir())) == 1  # the log of the failed one


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
