"""Jobs side by side, as real processes: each has an outcome, none outlives its starter."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from absl.testing import flagsaver

from experiments.jobs import pool
from hrnn_jax.files import provenance

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module for the jobs to run; returns a maker of jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def make(name, code):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return pool.Job(name, (name, "--flag=1"), tmp_path / "jobs" / name)

    return make


def run(jobs, side_by_side=2, **settings):
    return list(pool.run(jobs, side_by_side=side_by_side, **settings))


def test_a_job_runs_its_module_with_its_flags(module):
    code = "import sys; print(__name__, sys.argv[1:])"
    started = []
    [outcome] = run([module("a", code)], on_start=started.append)
    assert outcome.error is None
    assert outcome.job.log.read_text() == "__main__ ['--flag=1']\n"
    assert started == [outcome.job]
    with flagsaver.flagsaver(plugin=["my_fork.losses"]):
        [outcome] = run([module("b", code)])
    assert outcome.job.log.read_text() == "__main__ ['--flag=1', '--plugin=my_fork.losses']\n"


def test_a_failed_job_has_its_last_line_as_error_and_stops_no_other(module):
    jobs = [
        module("good", "print('fine')"),
        module("bad", "import sys; print('error: no such log', file=sys.stderr); sys.exit(2)"),
        module("worse", "raise ValueError('unforeseen')"),
        module("last", "print('fine')"),
        module("killed", "import os; os.kill(os.getpid(), 9)"),
    ]
    ended = {outcome.job.name: (outcome.code, outcome.error) for outcome in run(jobs, 1)}
    assert ended == {
        "good": (0, None),
        "bad": (2, "no such log"),
        "worse": (1, "ValueError: unforeseen"),
        "last": (0, None),
        "killed": (-9, "ended without a message (killed?)"),
    }


def test_as_many_jobs_run_side_by_side_as_asked_for(module, tmp_path):
    """The first two wait for each other, so they must run at once; no job ever meets two others."""
    code = """
        import pathlib, sys, time
        name, running = pathlib.Path(__file__).stem, pathlib.Path("running")
        (running / name).touch()
        while name in ("job0", "job1") and not pathlib.Path("met").exists():
            if {"job0", "job1"} <= {path.name for path in running.iterdir()}:
                pathlib.Path("met").touch()
            time.sleep(0.01)
        print(len(list(running.iterdir())))
        (running / name).unlink()
    """
    (tmp_path / "running").mkdir()
    outcomes = run([module(f"job{n}", code) for n in range(4)], 2)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert (tmp_path / "met").exists()
    assert {outcome.job.log.read_text() for outcome in outcomes} <= {"1\n", "2\n"}


def test_each_job_has_its_share_of_the_cores(module, monkeypatch):
    monkeypatch.setattr(provenance, "cores", lambda: 6)
    code = "import os; print(os.environ['NPROC'], os.environ['POLARS_MAX_THREADS'])"
    [outcome] = run([module("a", code)], 2)
    assert outcome.job.log.read_text() == "3 3\n"
    [outcome] = run([module("b", code)], 50)
    assert outcome.job.log.read_text() == "1 1\n"


def test_the_caller_is_called_while_jobs_run_and_when_the_last_has_ended(module):
    """The job ends no earlier than the caller has been called."""
    code = """
        import pathlib, time
        for _ in range(6000):
            if pathlib.Path("called").exists():
                break
            time.sleep(0.01)
        pathlib.Path("ended").touch()
    """
    seen = []

    def meanwhile():
        seen.append(pathlib.Path("ended").exists())
        pathlib.Path("called").touch()

    [outcome] = run([module("a", code)], meanwhile=meanwhile)
    assert outcome.error is None
    assert not seen[0]
    assert seen[-1]


SLEEPER = """
    import os, pathlib, time
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def written(path):
    """Wait for a file; return its text."""
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


OF_PROJECT = """
    import pathlib
    from experiments.jobs import pool
    job = pool.Job("sleeper", ("sleeper",), pathlib.Path("jobs/sleeper"))
    list(pool.run([job], side_by_side=1))
"""
OF_LIBRARY = """
    import sys
    from experiments.jobs import pool
    pool.run_of_library(sys.executable, "sleeper.py")
"""


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (OF_PROJECT, signal.SIGKILL),
        (OF_PROJECT, signal.SIGTERM),
        (OF_LIBRARY, signal.SIGKILL),
        (OF_LIBRARY, signal.SIGTERM),
    ],
)
def test_a_job_ends_when_its_starter_dies(module, tmp_path, code, number):
    module("sleeper", SLEEPER)
    starter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pid = int(written(tmp_path / "pid"))
    assert is_alive(pid)
    starter.send_signal(number)
    starter.wait()
    for _ in range(600):
        if not is_alive(pid):
            break
        time.sleep(0.1)
    assert not is_alive(pid)


def test_leaving_early_ends_running_jobs_and_starts_no_more(module, tmp_path):
    jobs = [module("quick", "print('done')"), module("sleeper", SLEEPER)]
    waiting = module("waiting", "import time; time.sleep(600)")
    outcomes = pool.run([*jobs, waiting, module("last", "")], side_by_side=2)
    assert next(outcomes).job.name == "quick"
    pid = int(written(tmp_path / "pid"))
    outcomes.close()
    assert not is_alive(pid)
    assert not (tmp_path / "jobs" / "last.log").exists()
