"""Install another library into a virtual environment of its own, whole or not at all."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time

from hrnn_jax import errors
from hrnn_jax.files import atomic

from ...common.text import duration
from ...jobs import pool
from .contenders import Library

INSTALLED = "installed"  # the file that says what is installed; written last


def install(library: Library, folder: pathlib.Path) -> pathlib.Path:
    """Install a library's requirements, unless they are installed already.

    Args:
        library: What to install.
        folder: The folder of all libraries; the environment is NAME/venv in it, and what pip
            printed is NAME.log.

    Returns:
        The Python of the environment.

    Raises:
        InputError: It cannot be installed. Nothing but the log is left.
    """
    place = folder / library.key
    python = pathlib.Path(
        sysconfig.get_path("scripts", "venv", {"base": str((place / "venv").absolute())}), "python"
    )
    requirements = library.requirements.read_text()
    marker = place / INSTALLED
    if marker.exists() and marker.read_text() == requirements and python.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    print(f"    installing {library.name} in {place}, which takes minutes", flush=True)
    started = time.perf_counter()
    try:
        place.mkdir(parents=True)
        pip = ("pip", "--disable-pip-version-check", "--no-input", "install")
        with folder.joinpath(f"{library.key}.log").open("w+") as log:
            for command in (
                (sys.executable, "venv", str(place / "venv")),
                (str(python), *pip, "-r", str(library.requirements)),
            ):
                done = pool.run_of_library(*command, stdout=log, stderr=subprocess.STDOUT)
                if done.returncode:
                    log.seek(0)
                    raise errors.InputError(
                        f"{library.name} cannot be installed: {_reason(log.read())} (all of it is "
                        f"in {log.name}); it needs a package index, and a Python that it supports"
                    )
        atomic.write(marker, requirements)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    print(f"    installed in {duration(time.perf_counter() - started)}", flush=True)
    return python


def _reason(printed: str) -> str:
    """Return the last error in what pip or venv printed, or else the last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    found = [line for line in lines if line.startswith("ERROR: ")] or lines or ["no message"]
    return found[-1].removeprefix("ERROR: ")
