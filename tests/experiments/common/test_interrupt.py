"""Ctrl-C while a command starts. A fake module sends the signal when it is imported."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.helpers import logs

ROOT = pathlib.Path(__file__).parents[3]
SIGNALS_ITSELF = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('imported whole')\n"


def start(tmp_path: pathlib.Path, fake: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Start Python with a fake module before all others."""
    (tmp_path / "fakes").mkdir()
    (tmp_path / "fakes" / f"{fake}.py").write_text(SIGNALS_ITSELF)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'fakes'}:{ROOT}"}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("argv", [["-m", "experiments.run"], ["-m", "experiments", "tune"]])
def test_ctrl_c_among_a_commands_first_imports_ends_it_in_one_line(argv, tmp_path):
    """Bug: `experiments` installs no handler."""
    ended = start(tmp_path, "absl", *argv)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("run", ": the same command with --resume goes on"),
        ("tune", ": the same command goes on with the study"),
    ],
)
def test_ctrl_c_while_jax_is_imported_ends_the_command_after_the_import(command, hint, tmp_path):
    """Bug: `importing` leaves the handler alone."""
    log = logs.write(tmp_path / "log.csv")
    argv = ("-m", f"experiments.{command}", "--flagfile=video.flags", f"--events={log}")
    ended = start(tmp_path, "jax", *argv)
    assert (ended.returncode, ended.stderr) == (130, f"interrupted{hint}\n")
    assert ended.stdout.endswith("\nimported whole\n")


def test_no_later_collection_goes_over_what_was_imported():
    """Bug: a full collection of jax's objects in the middle of a run, or none ever again."""
    code = (
        "import gc\n"
        "from experiments.common import interrupt\n"
        "with interrupt.importing():\n"
        "    import email.mime.text as module\n"
        "ours = object.__new__(type('Ours', (), {}))\n"
        "known = {id(each) for each in gc.get_objects()}\n"
        "print(id(module.__dict__) in known, id(ours) in known, gc.isenabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True True\n"


WAITS = """
import ctypes, os, signal, threading
from experiments.common import interrupt

def wait_in_c():
    c, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)  # zeros: an open mutex
    threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
    for _ in range(2):  # the second time for ever, whatever signal comes
        c.pthread_mutex_lock(mutex)

try:
    with interrupt.answered_at_once(": go on"):
        {first}
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("raised after the block")
"""


def test_ctrl_c_ends_a_process_whose_main_thread_waits_for_another(tmp_path):
    """Bug: Python's handler alone, which runs once the main thread is back."""
    ended = start(tmp_path, "none", "-c", WAITS.format(first="wait_in_c()"))
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted: go on\n", "")
    (tmp_path / "fakes").rename(tmp_path / "earlier")
    ended = start(tmp_path, "none", "-c", WAITS.format(first="pass"))
    assert (ended.returncode, ended.stdout) == (0, "raised after the block\n")


def test_another_programs_ctrl_c_raises_as_ever(tmp_path):
    """Bug: `experiments` installs its handler wherever it is imported."""
    ended = start(tmp_path, "absl", "-c", "import experiments.run")
    assert "KeyboardInterrupt" in ended.stderr
    assert not ended.stderr.startswith("interrupted")
