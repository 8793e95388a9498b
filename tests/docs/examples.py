"""Load and run the files of docs/examples."""

import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docs/examples"


def load(name):
    """Return a fresh module of an example's file."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *argv, folder):
    """Run an example as a script in a folder; return its output."""
    command = [sys.executable, "-m", f"docs.examples.{name}", *argv]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
