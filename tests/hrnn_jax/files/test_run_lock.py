"""One process at a time writes into a run folder."""

import errno
import fcntl
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from hrnn_jax import errors
from hrnn_jax.files.run_lock import locked

ROOT = pathlib.Path(__file__).parents[3]
HOLD = """
    import pathlib, sys
    from hrnn_jax.files.run_lock import locked
    with locked(pathlib.Path(sys.argv[1]), "folder"):
        print("locked", flush=True)
        sys.stdin.read()
"""


def test_a_second_process_is_told_of_the_first_until_that_is_killed(tmp_path):
    """Bug: take the mere existence of the file for a lock, or do not ask for it at all."""
    folder = tmp_path / "run"
    argv = [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=ROOT, text=True, **pipes) as holder:
        assert holder.stdout.readline() == "locked\n"
        (folder / "recipe.json").write_text("{}")
        with (
            pytest.raises(
                errors.InputError, match=rf"^another process \(pid {holder.pid}\) writes"
            ),
            locked(folder, "folder"),
        ):
            pass
        holder.kill()
        holder.wait()
    with locked(folder, "folder"):  # although the file is still there, with the dead process's id
        assert (folder / "lock").read_text().split()[0] == str(os.getpid())


def test_a_holder_on_another_machine_is_named_with_it(tmp_path):
    with locked(tmp_path, "folder"):
        (tmp_path / "lock").write_text("77 elsewhere\n")
        with (
            pytest.raises(errors.InputError, match=r"\(pid 77 on elsewhere\)"),
            locked(tmp_path, "folder"),
        ):
            pass


def test_a_folder_that_becomes_no_run_keeps_no_lock(tmp_path):
    with pytest.raises(errors.InputError, match="thesis"), locked(tmp_path, "folder"):
        raise errors.InputError("thesis.txt")
    with pytest.raises(errors.InputError), locked(tmp_path / "new", "folder"):
        raise errors.InputError("thesis.txt")
    assert not list(tmp_path.iterdir())


def test_a_drive_without_locks_is_named_and_the_run_goes_on(tmp_path, monkeypatch, capfd):
    def fails(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fails)
    with locked(tmp_path, "folder"):
        (tmp_path / "recipe.json").write_text("{}")
    assert "has no locks" in capfd.readouterr().out
