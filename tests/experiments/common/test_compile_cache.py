"""The cache of compiled programs is used by the next start, whatever state its folder is in."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.common import compile_cache
from tests.helpers import logs

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def start(tmp_path):
    """Start a command as its users do; returns the programs kept, with times."""
    log = logs.write(tmp_path / "log.csv")
    small = ("--model=rnn", "--min_support=1", "--hidden_units=8", "--batch_size=30", "--epochs=1")
    given = ["--dataset=events", f"--events={log}", *small]

    def call(*argv, command="run", **variables):
        kept = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")  # those of all tests
        unset = {k: v for k, v in os.environ.items() if not k.startswith(kept)}
        done = subprocess.run(
            [sys.executable, "-m", f"experiments.{command}", *given, *argv],
            cwd=tmp_path,
            env={**unset, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        found = (tmp_path / "out/compiled").rglob("*-cache")
        return {path: path.stat().st_mtime_ns for path in found}

    return call


def test_the_next_start_loads_what_was_compiled(start):
    # All programs are kept, however fast they compile: what is slow depends on the machine's load.
    every = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    programs = start("--output_dir=first", **every)
    names = " ".join(path.name for path in programs)
    assert "draw_state" in names
    assert "jit_chunk" in names
    # A program compiled again would be among them.
    assert start("--output_dir=second", **every) == programs
    for path in programs:
        path.write_bytes(path.read_bytes()[:100])
    start("--output_dir=damaged", **every)


def test_the_processes_of_a_search_keep_what_they_compile(start):
    programs = start("--trials=2", "--jobs=2", "--fix=batch_size", command="tune")
    assert "jit_chunk" in " ".join(path.name for path in programs)


def test_the_environment_goes_first_even_where_nothing_can_be_written(start, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert start("--output_dir=run", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "file")) == {}


def test_machines_of_other_instructions_do_not_share(monkeypatch):
    here = compile_cache.folder(pathlib.Path("root"))
    assert here.parent == pathlib.Path("root").absolute()
    assert compile_cache.folder(pathlib.Path("root")) == here
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _: "processor: 0\nflags: fpu sse9\n")
    assert compile_cache.folder(pathlib.Path("root")) != here
