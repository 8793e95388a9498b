"""Runs commands and Python of the docs, each in a process of its own that starts fast.

The processes are forked from a server that has imported the large libraries, but nothing of this
project: each has its own flags, as a command in a shell.
"""

import contextlib
import dataclasses
import importlib
import io
import json
import multiprocessing
import os
import pathlib
import runpy
import sys
import traceback
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 300  # a limit far above what a command takes
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["jax", "optax", "orbax.checkpoint", "polars", "optuna", "fastapi"])


@dataclasses.dataclass(frozen=True)
class Result:
    """How a process ended."""

    code: int
    output: str  # and errors


def run_command(module: str, argv: list[str], folder: pathlib.Path) -> Result:
    """Run a module or a script in a folder."""
    return _wait(start(command, module, argv, folder=folder), folder)


def parse_commands(module: str, all_argv: list[list[str]], folder: pathlib.Path) -> list[str]:
    """Parse the flags of several calls of a command; return the errors, one line each."""
    result = _wait(start(_parse_commands, module, all_argv, folder=folder), folder)
    assert result.code == 0, result.output
    return json.loads(result.output.splitlines()[-1])


def flag_names(command: str, folder: pathlib.Path) -> set[str]:
    """Return the names of a command's flags."""
    result = _wait(start(_print_flags, command, folder=folder), folder)
    assert result.code == 0, result.output
    return set(json.loads(result.output.splitlines()[-1]))


def run_python(blocks: list[str], folder: pathlib.Path) -> Result:
    """Execute blocks of Python one after the other, with the same names."""
    return _wait(start(_run_python, blocks, folder=folder), folder)


def start(work: Callable[..., None], *arguments: Any, folder: pathlib.Path) -> Any:
    """Start a process in a folder; its output goes to the file output there."""
    process = _SERVER.Process(target=_redirected, args=(work, arguments, folder))
    process.start()
    return process


def _wait(process: Any, folder: pathlib.Path) -> Result:
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError((folder / "output").read_text())
    return Result(process.exitcode, (folder / "output").read_text())


def _redirected(
    work: Callable[..., None], arguments: tuple[Any, ...], folder: pathlib.Path
) -> None:
    os.chdir(folder)
    file = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    try:
        work(*arguments)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 70
    else:
        code = 0
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def command(module: str, argv: list[str]) -> None:
    """Run a module by its full name, or a script; for `start`."""
    sys.argv = [module, *argv]
    if module.endswith(".py"):
        runpy.run_path(str(ROOT / module), run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _parse_commands(module: str, all_argv: list[list[str]]) -> None:
    from absl.testing import flagsaver

    from experiments.common import cli

    parsers: list[Callable[[list[str]], Any]] = []

    def keep_parser(_: Any, **settings: Any) -> None:
        known = {name: settings[name] for name in ("whole", "defaults") if name in settings}
        parsers.append(lambda argv: cli.parse(argv, **{"whole": True, "defaults": list} | known))

    cli.run = keep_parser
    command(module, [])
    [parse] = parsers
    errors = []
    for argv in all_argv:
        said = io.StringIO()
        try:
            with flagsaver.flagsaver(), contextlib.redirect_stderr(said):
                parse([module, *argv])
        except SystemExit:
            errors.append(f"{module} {' '.join(argv)}: {said.getvalue().strip()}")
    print(json.dumps(errors))


def _print_flags(command: str) -> None:
    from absl import flags

    importlib.import_module(f"experiments.{command}")
    print(json.dumps([*flags.FLAGS]))


def _run_python(blocks: list[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "<docs>", "exec"), names)
