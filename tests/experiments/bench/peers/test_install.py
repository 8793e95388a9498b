"""A library's virtual environment: whole or not at all."""

import dataclasses
import pathlib
import subprocess

import pytest

from experiments.bench.peers.contenders import Library
from experiments.bench.peers.install import install
from hrnn_jax import errors


@dataclasses.dataclass(frozen=True)
class Made(Library):
    """A library with requirements of the test's own."""

    folder: pathlib.Path

    @property
    def requirements(self):
        return self.folder / "requirements.txt"


@pytest.fixture
def made(tmp_path):
    return Made("made", "Made", tmp_path)


def test_what_cannot_be_installed_leaves_nothing_and_one_line(tmp_path, made):
    """Bug: remove the marker only, so that pip adds to what is half there."""
    made.requirements.write_text("--no-index\nno-such-package==1\n")
    with pytest.raises(errors.InputError, match=r"Made .* no-such-package==1 ") as raised:
        install(made, tmp_path / "peers")
    assert "\n" not in str(raised.value)
    assert [path.name for path in (tmp_path / "peers").iterdir()] == ["made.log"]
    assert "no-such-package" in (tmp_path / "peers" / "made.log").read_text()


def test_a_library_is_installed_once_and_anew_after_a_change(tmp_path, made, monkeypatch):
    """Bug: forget to compare the requirements."""
    made.requirements.write_text("# nothing\n")
    commands = []

    def run(command, **how):
        commands.append(command)
        python = tmp_path / "peers" / "made" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    python = install(made, tmp_path / "peers")
    assert python == tmp_path / "peers" / "made" / "venv" / "bin" / "python"
    assert len(commands) == 2
    assert install(made, tmp_path / "peers") == python
    assert len(commands) == 2
    made.requirements.write_text("# another\n")
    install(made, tmp_path / "peers")
    assert len(commands) == 4


def test_an_interrupted_installation_leaves_nothing(tmp_path, made, monkeypatch):
    """Bug: remove the folder after errors alone."""
    made.requirements.write_text("# nothing\n")

    def run(command, **how):
        (tmp_path / "peers" / "made" / "venv").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(KeyboardInterrupt):
        install(made, tmp_path / "peers")
    assert not (tmp_path / "peers" / "made").exists()
