"""Every command of README and docs is executed, or parsed where that is not possible."""

import contextlib
import re
import shlex
import shutil
import subprocess
import time

import httpx
import polars as pl
import pytest

from tests.docs import pages, runner
from tests.helpers import runs

ROOT = pages.ROOT
COMMANDS = {page: found for page in pages.PAGES if (found := pages.commands(page))}

# What no test executes: how the command begins, and why. The other commands are executed with a
# small log and a small network. All are parsed, with the flags that the command really has.
NOT_EXECUTED = {
    "make test": "CI runs it",
    "make check": "CI runs it",
    "make docs": "CI builds the site in make check",
    "make clean": "removes what all others need",
    "make check-gpu": "needs a GPU; test_check_gpu tries it on a CPU",
    "make reproduce": "takes hours; test_reproduce makes a small one",
    "make check-table3": "takes hours; test_check has small tables",
    "make leaderboard ": "takes hours; test_comparison makes a small one",
    "make leaderboard": "takes hours; test_comparison makes a small one",
    "make run-distributed": "test_distributed runs two processes with a small log",
    "make benchmark-peers": "installs other libraries, 3 GB",
    ".venv/bin/python -m experiments.benchmark": "takes an hour; test_benchmark measures a little",
    "python -m experiments.benchmark": "takes an hour; test_benchmark measures a little",
    ".venv/bin/python -m experiments.run --flagfile=xing.flags": "reads a log that is not public",
    ".venv/bin/python -m experiments.describe --flagfile=checkins": "reads a public log",
    ".venv/bin/python -m experiments.describe --dataset=": "reads a public log",
    ".venv/bin/python -m experiments.run --dataset=sequences": "reads a public log",
    ".venv/bin/python -m experiments.run --flagfile=journey": "trains on a public log for minutes",
    "make run FLAGFILE=journey": "trains on a public log for minutes",
    **dict.fromkeys(
        (
            ".venv/bin/python -m experiments.run --flagfile=video.flags --events=my_log.csv --lane",
            ".venv/bin/python -m experiments.run --flagfile=video.flags --events=/shared",
        ),
        "needs several devices; test_distributed runs two processes",
    ),
    ".venv/bin/python -m docs.examples.own_loss": "test_own_loss runs it with a small log",
    ".venv/bin/python -m docs.examples.own_data_set": "test_own_data_set runs it",
    ".venv/bin/python -m docs.examples.own_model": "test_own_model runs it with a small log",
    ".venv/bin/python -m experiments.serve --states=postgresql": "test_replicas starts two",
    ".venv/bin/pip": "installs",
    ".venv/bin/python -m pip": "installs",
    "make install": "installs",
    "pip install": "installs",
    "python3 -m venv": "make does it",
}
# Pages whose Python another test executes, with the files that it needs.
PYTHON_ELSEWHERE = {"docs/how-to/public_logs.md": "test_public_logs"}
# The service of the curl commands loads runs that the commands before them have made.
RELOADS = ("--states=reloads.sqlite", "--reload_runs=../out/runs")
# Instead of the recipe's sizes; flags that a model does not use are passed over in a flag file.
SMALL = "--epochs=1\n--hidden_units=8\n--batch_size=30\n"


def reason(command):
    """Return why a command is not executed, or None."""
    return next(
        (why for begin, why in NOT_EXECUTED.items() if command.text.startswith(begin)), None
    )


@pytest.fixture(scope="module")
def calls():
    """All calls of experiments that the pages lead to, by module."""
    found = {}
    for commands in COMMANDS.values():
        for command in commands:
            if "COMMAND" not in command.text and "..." not in command.text:
                for module, argv in command.calls():
                    found.setdefault(module, []).append(argv)
    return found


def test_every_command_has_only_flags_that_it_knows(calls, tmp_path):
    shutil.copytree(ROOT / "experiments/flags", tmp_path, dirs_exist_ok=True)
    for module, all_argv in calls.items():
        for argv in all_argv:
            text = " ".join(argv).replace(
                "--continue_from=RUN_FOLDER", "--flagfile=RUN_FOLDER/flags"
            )
            for path in re.findall(r"--flagfile=(\S+/\S+)", text):
                file = tmp_path / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("--epochs=1\n")
        if not module.endswith(".py"):  # a script without flags
            assert runner.parse_commands(module, all_argv, tmp_path) == []


def test_an_unknown_flag_is_found(tmp_path):
    """Bug: a test that accepts every flag."""
    argv = ["--flagfile=video.flags", "--hidden_unit=100"]
    assert len(runner.parse_commands("experiments.run", [["--epochs=1"], argv], tmp_path)) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a small log and a run trained on it."""
    return runs.train(tmp_path_factory.mktemp("trained")).parent


@pytest.fixture
def folder(trained, tmp_path):
    """The working directory of a page: my_log.csv, a run in out/run, the shipped results."""
    shutil.copy(trained / "log.csv", tmp_path / "my_log.csv")
    shutil.copytree(trained / "run", tmp_path / "out/run")
    shutil.copytree(ROOT / "experiments/results", tmp_path / "experiments/results")
    (tmp_path / "small.flags").write_text(SMALL)
    return tmp_path


def prepared(module, argv, folder):
    """Return a call's arguments for a small log and network, and make the files that it reads."""
    studies = [path.parent for path in (folder / "out/tune").rglob("best.flags")]
    places = {
        "RUN_FOLDER": "out/run",
        "STUDY_FOLDER": str(studies[0]) if studies else "",
        "=/shared": "=shared",
    }
    for name, place in places.items():
        argv = [argument.replace(name, place) for argument in argv]
    is_run = module in ("experiments.run", "experiments.tune", "experiments.describe")
    if is_run and not any(a.startswith(("--events=", "--continue_from=")) for a in argv):
        argv.append("--events=simulated.csv")
    for argument in argv:
        if items := re.fullmatch(r"--items=(.+)", argument):
            path = folder / "service" / items[1]
            path.parent.mkdir(exist_ok=True)
            pl.DataFrame({"item_id": ["i1"], "title": ["Tea"]}).write_parquet(path)
        if events := re.fullmatch(r"--events=(.+)", argument):
            (folder / events[1]).parent.mkdir(parents=True, exist_ok=True)
            if events[1].endswith(".parquet"):
                pl.read_csv(folder / "my_log.csv").write_parquet(folder / events[1])
            elif not (folder / events[1]).exists():
                shutil.copy(folder / "my_log.csv", folder / events[1])
    if is_run:
        argv.append("--flagfile=small.flags")
    if module == "experiments.tune":
        argv += ["--trials=2", "--jobs=1"]
    return argv


@contextlib.contextmanager
def service(folder, argv=()):
    """Start experiments.serve on a free port, which it returns, and stop it at the end."""
    at = folder / "service"
    at.mkdir(exist_ok=True)
    (at / "output").write_text("")
    argv = [*argv, f"--run={folder / 'out/run'}", "--port=0"]
    process = runner.start(runner.command, "experiments.serve", argv, folder=at)
    try:
        end = time.monotonic() + runner.SECONDS
        while not (ready := re.search(r"at http://127.0.0.1:(\d+)", (at / "output").read_text())):
            assert process.is_alive(), (at / "output").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        httpx.get(f"http://127.0.0.1:{ready[1]}/health", timeout=runner.SECONDS).raise_for_status()
        yield ready[1]
        process.terminate()
        process.join(runner.SECONDS)
        assert process.exitcode == 0, (at / "output").read_text()
    finally:
        process.kill()


def executed(page):
    """Return the commands of a page's blocks that are to be executed."""
    return [c for c in COMMANDS[page] if not c.is_inline and reason(c) is None]


@pytest.mark.parametrize("page", [page for page in COMMANDS if executed(page)])
def test_the_commands_of_a_page_do_what_they_say(page, folder):
    with contextlib.ExitStack() as stack:
        port = None
        for command in dict.fromkeys(executed(page)):
            if command.text.startswith("curl "):
                port = port or stack.enter_context(service(folder, RELOADS))
                curl(command.text, port)
                continue
            assert command.kind != "other", f"{command.text}: nothing executes it"
            for module, argv in command.calls():
                argv = prepared(module, argv, folder)
                if module == "experiments.serve":
                    with service(folder, [*argv, "--states=own.sqlite"]):  # beside that for curl
                        pass
                    continue
                result = runner.run_command(module, argv, folder)
                assert result.code == 0, f"{command.text}\n{result.output}"


def curl(text, port):
    """Send a page's request to a service."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    argv = shlex.split(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    done = subprocess.run(
        [*argv, "--silent", "--show-error", "--fail-with-body"], text=True, capture_output=True
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.python_blocks(page)])
def test_the_python_of_a_page_runs(page, folder):
    blocks = pages.python_blocks(page)
    if page in PYTHON_ELSEWHERE:
        assert (ROOT / f"tests/docs/{PYTHON_ELSEWHERE[page]}.py").exists()
        for block in blocks:
            compile(block, page, "exec")
        return
    result = runner.run_python(blocks, folder)
    assert result.code == 0, result.output


def test_what_is_not_executed_is_on_some_page():
    """Bug: a reason that outlives its command."""
    texts = [command.text for commands in COMMANDS.values() for command in commands]
    assert [begin for begin in NOT_EXECUTED if not any(t.startswith(begin) for t in texts)] == []
