"""Strictness for all tests, and compiled programs shared by them; warnings are errors too
(pyproject.toml).
"""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

import jax
import pytest

from hrnn_jax.training import epoch
from tests.helpers import postgresql

jax.config.update("jax_numpy_rank_promotion", "raise")
HERE = pathlib.Path(__file__).parent
# Where tests are about what is around a network: files, processes, lines, answers. See below.
AROUND = [HERE / room for room in ("docs", "experiments", "hrnn_jax/estimators")]


def pytest_configure(config):
    """Keep compiled programs for this run of the tests, its workers and its subprocesses.

    Many tests compile the same small programs, each in a process or a file of its own.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.database_server = postgresql.prepare()
        config.compiled_programs = tempfile.mkdtemp(prefix="hrnn_jax-tests-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = config.compiled_programs
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pytest_unconfigure(config):
    """Stop the database server, and remove the compiled programs."""
    if folder := getattr(config, "database_server", None):
        postgresql.stop(folder)
    if folder := getattr(config, "compiled_programs", None):
        shutil.rmtree(pathlib.Path(folder), ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before the fixtures of a session
def pytest_runtest_setup(item):
    """Compile without LLVM's optimizations in tests of what is around a network.

    These train networks, and most of their time is compiling, which this halves. The other tests
    check programs as they are shipped.
    """
    quick = any(item.path.is_relative_to(room) for room in AROUND)
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))  # of subprocesses


@pytest.fixture(params=["sqlite", "postgresql"])
def states(request, tmp_path):
    """Where states can be: a file of SQLite, or a database of PostgreSQL."""
    if request.param == "sqlite":
        yield tmp_path / "states.sqlite"
    else:
        with postgresql.database() as url:
            yield url


@pytest.fixture(params=["memory", "postgresql"])
def anywhere(request, monkeypatch):
    """Let recommenders of `live_users` keep states in memory, or each in a database of its own."""
    from tests.helpers import live_users  # most tests need no part of it

    with contextlib.ExitStack() as stack:

        def opened(*arguments, **settings):
            return stack.enter_context(made(*arguments, **settings))

        if request.param == "postgresql":
            made = live_users.Recommender
            monkeypatch.setattr(live_users, "Recommender", opened)
            monkeypatch.setattr(
                live_users, "default_states", lambda: stack.enter_context(postgresql.database())
            )
        yield


@pytest.fixture(autouse=True)
def _hooks(monkeypatch):
    """Take back the hook that a command keeps to the end of its process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Release the programs that the tests of a file compiled.

    Each program takes some maps of memory, of which Linux gives a process 65,530: with those of all
    tests a process runs out of them, and ends by a segmentation fault.
    """
    yield
    jax.clear_caches()
    epoch._program.cache_clear()
