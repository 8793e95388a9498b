"""What make installs for which target, and that make clean does not lose runs unasked."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def make(tmp_path):
    """Call make in a folder that has no more than what a fresh clone tells make."""
    for name in ("Makefile", "setup.cfg", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1e9, 1e9))

    def call(*argv):
        return subprocess.run(
            ["make", "--no-print-directory", *argv],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return call


def installs(make, *argv):
    """Return what make would install."""
    lines = make("-n", *argv).stdout.splitlines()
    return [line.rpartition("--editable")[2].strip() for line in lines if "--editable" in line]


def stamp(folder, name, time):
    """Note an installation as done."""
    path = folder / ".venv" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (time, time))


def test_each_target_installs_what_it_lacks_in_any_order(make, tmp_path):
    every = "'.[bench,journey,report,serve,test,tune]'"
    assert installs(make, "run") == installs(make) == installs(make, "install") == ["'.'"]
    assert installs(make, "tune") == ["'.'", "'.[tune]'"]
    assert installs(make, "run", "FLAGFILE=journey.flags") == ["'.'", "'.[journey]'"]
    assert installs(make, "test") == ["'.'", every]
    stamp(tmp_path, "installed", 2e9)
    assert installs(make, "run") == []
    assert installs(make, "test") == [every]
    assert installs(make, "serve") == ["'.[serve]'"]
    stamp(tmp_path, "with-serve", 2e9 + 1)
    assert installs(make, "serve") == []
    os.utime(tmp_path / "setup.cfg", (2e9 + 2, 2e9 + 2))  # edited
    assert installs(make, "run") == ["'.'"]
    assert installs(make, "serve") == ["'.'", "'.[serve]'"]


@pytest.mark.parametrize(
    ("old", "new"), [("comparison", "leaderboard"), ("comparison-table", "leaderboard-page")]
)
def test_earlier_names_of_the_leaderboard_do_the_same(make, tmp_path, old, new):
    """Bug: the seeds of the earlier name are those of make reproduce."""
    stamp(tmp_path, "installed", 2e9)
    given = ("LOGS=journey a=log.csv:video", "ROWS=sr,counts", "FROM=out/results")
    done = make("-n", new, *given)
    assert "-m experiments.comparison" in done.stdout
    assert make("-n", old, *given).stdout == done.stdout
    if new == "leaderboard":
        assert "--n_seeds=5" in done.stdout
        assert '--logs="journey a=log.csv:video"' in done.stdout
        assert '--rows="sr,counts"' in done.stdout
    else:
        assert "--from=out/results" in done.stdout


def test_clean_keeps_runs_until_it_is_told_to_remove_them(make, tmp_path):
    (tmp_path / ".venv").mkdir()
    assert make("clean").returncode == 0
    assert not (tmp_path / ".venv").exists()
    run = tmp_path / "out" / "runs" / "log-1" / "rnn"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text("{}")
    refused = make("clean")
    assert refused.returncode == 2
    assert refused.stderr.startswith("out/ holds 1 runs and studies: make clean FORCE=1 removes")
    assert run.exists()
    assert make("clean", "FORCE=1").returncode == 0
    assert not (tmp_path / "out").exists()


def test_help_prints_every_target_of_a_user(make):
    """Bug: a target that help does not name."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    named = {line.split()[1] for line in make("help").stdout.splitlines()}
    assert named == {*phony.split()} - {"driver"}
