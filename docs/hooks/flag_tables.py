"""The flags of each command, read from the flags themselves."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import pathlib
import subprocess
import sys
from typing import Any

from experiments.__main__ import COMMANDS
from experiments.rendering.help_page import TITLES

ROOT = pathlib.Path(__file__).parents[2]
# In a process of its own: commands share names of flags.
_LIST = """
import importlib, json, sys
from absl import flags
from experiments.rendering.help_page import about
command = importlib.import_module("experiments." + sys.argv[1])
print(json.dumps([command.__doc__, [
    {"name": flag.name, "help": flag.help, "type": flag.flag_type(),
     "default": flag.default_as_str, "choices": getattr(flag.parser, "enum_values", None),
     "group": about(flag.name).group, "notes": about(flag.name).notes}
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.startswith("experiments.")
    for flag in defined
]]))
"""


@functools.cache
def _descriptions() -> dict[str, list[Any]]:
    """Return the docstring and the flags of each command."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(_description, COMMANDS), strict=True))


def _description(command: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", _LIST, command], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def commands() -> str:
    """Return a section for each command: what it does, and its flags in groups."""
    parts = []
    for command in COMMANDS:
        docstring, flags = _descriptions()[command]
        parts += [f"## {command}", f"```text\n{docstring.strip()}\n```"]
        for group, title in TITLES.items():
            if rows := [_row(flag) for flag in flags if flag["group"] == group]:
                parts += [f"### {command}: {title.lower()}", "\n".join([*_HEAD, *rows])]
    return "\n\n".join(parts)


_HEAD = ("| flag | default | |", "|---|---|---|")


def _row(flag: dict[str, Any]) -> str:
    default = (flag["default"] or "").strip("'")
    choices = flag["choices"] or []
    text = (flag["help"] or "").removeprefix(f"<{'|'.join(choices)}>: ")  # absl's
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    if choices:
        text += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    if flag["notes"]:
        text += f" *({'; '.join(flag['notes'])})*"
    name = f"--[no]{flag['name']}" if flag["type"] == "bool" else f"--{flag['name']}"
    return f"| `{name}` | {f'`{default}`' if default else ''} | {text} |"


def files() -> str:
    """Return every shipped flag file."""
    folder = ROOT / "experiments/flags"
    parts = ["## The files"]
    for path in sorted(folder.glob("*.flags")):
        parts.append(f"### {path.name}\n\n```\n{path.read_text().strip()}\n```")
    return "\n\n".join(parts)
