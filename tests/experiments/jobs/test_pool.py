"""Jobs side by side, as real processes: none is lost, none outlives who started it."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from experiments.jobs import pool

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


def test_a_job_is_its_command_line(module):
    code = "import sys; print(__name__, sys.argv[1:])"
    [outcome] = run([module("a", code)])
    assert outcome.error is None
    assert pool.log_of(outcome.job).read_text() == "__main__ ['--flag=1']\n"


def test_a_failed_job_tells_why_and_stops_no_other(module):
    jobs = [
        module("good", "print('fine')"),
        module("bad", "import sys; print('error: no such log', file=sys.stderr); sys.exit(2)"),
        module("worse", "raise ValueError('unforeseen')"),
        module("last", "print('fine')"),
        module("killed", "import os; os.kill(os.getpid(), 9)"),
    ]
    errors = {outcome.job.name: outcome.error for outcome in run(jobs, 1)}
    assert errors == {
        "good": None,
        "bad": "no such log",
        "worse": "ValueError: unforeseen",
        "last": None,
        "killed": "ended without a word (killed?)",
    }


def test_as_many_run_as_are_asked(module):
    code = "import time; time.sleep(0.6)"
    jobs = [module(f"job{n}", code) for n in range(4)]
    most = []
    started = time.monotonic()
    run(jobs, 2, on_poll=lambda running: most.append(len(running)))
    assert max(most) == 2
    assert time.monotonic() - started > 1.2


def test_cores_are_shared_out(module, monkeypatch):
    monkeypatch.setattr(pool, "cores", lambda: 6)
    code = "import os; print(os.environ['NPROC'], os.environ['POLARS_MAX_THREADS'])"
    [outcome] = run([module("a", code)], 2)
    assert pool.log_of(outcome.job).read_text() == "3 3\n"
    [outcome] = run([module("b", code)], 50)
    assert pool.log_of(outcome.job).read_text() == "1 1\n"


SLEEPER = """
    import os, pathlib, time
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def written(path):
    for _ in range(300):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_dies_with_who_started_it(module, tmp_path, number):
    module("sleeper", SLEEPER)
    code = """
        import pathlib
        from experiments import workers
        job = workers.Job("sleeper", ("sleeper",), pathlib.Path("jobs/sleeper"))
        list(workers.run([job], side_by_side=1))
    """
    starter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pid = int(written(tmp_path / "pid"))
    assert is_alive(pid)
    starter.send_signal(number)
    starter.wait()
    for _ in range(100):
        if not is_alive(pid):
            break
        time.sleep(0.1)
    assert not is_alive(pid)


def test_leaving_early_ends_the_jobs(module, tmp_path):
    jobs = [module("quick", "print('done')"), module("sleeper", SLEEPER)]
    outcomes = pool.run(jobs, side_by_side=2)
    assert next(outcomes).job.name == "quick"
    pid = int(written(tmp_path / "pid"))
    outcomes.close()
    assert not is_alive(pid)
