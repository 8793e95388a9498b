"""Load the files of docs/examples, which are no package."""

import importlib.util
import pathlib

FOLDER = pathlib.Path(__file__).parents[2] / "docs/examples"


def load(name):
    """Return a fresh module of an example's file."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
