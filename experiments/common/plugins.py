"""The modules of a fork that --plugin names: they register losses, models and data sets.

They are imported while flags are parsed, as their names are values of flags. The processes that a
command starts get the flag too, and a run's flags file has it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from hrnn_jax import config, errors, presets

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "plugin",
    None,
    "Modules of your own that register losses, models or data sets, imported first: as "
    "my_fork.losses, from the working directory or what is installed.",
)


def load(argv: Sequence[str]) -> None:
    """Import what --plugin names in a command line whose flag files are expanded.

    Raises:
        InputError: There is no such module, its file is no Python, or it registers a name that is
            taken.
    """
    text = ""
    for number, argument in enumerate(argv, start=1):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "plugin":
            text = value if equals else "".join(argv[number : number + 1])  # the last one counts
    names = flags.ListParser().parse(text)
    if not names:
        return
    if os.getcwd() not in sys.path and "" not in sys.path:  # an installed command's has it not
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # what the module itself imports
            raise errors.InputError(
                f"--plugin={name}: there is no module {error.name} in the working directory or "
                "among what is installed: name a file my_fork/losses.py here my_fork.losses"
            ) from error
        except SyntaxError as error:
            where = f"{error.filename}, line {error.lineno}"
            raise errors.InputError(f"--plugin={name}: {where}: {error.msg}") from error
    from hrnn_jax.preprocess import datasets  # here: --help of commands without data is faster

    known = {"loss": config.LOSSES, "model": presets.NAMES, "dataset": datasets.NAMES}
    for name in known.keys() & {*FLAGS}:
        parser: Any = FLAGS[name].parser
        parser.enum_values = [*known[name]]


def given() -> list[str]:
    """Return --plugin as a process that is started needs it; nothing where it is not given."""
    names = FLAGS["plugin"].value
    return [f"--plugin={','.join(names)}"] if names else []
