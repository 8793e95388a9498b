"""The flags of each command, read from the flags themselves."""

from __future__ import annotations

import functools
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
_LIST = """
import importlib, json, sys
from absl import flags
importlib.import_module("experiments." + sys.argv[1])
print(json.dumps([
    {"name": flag.name, "default": flag.default_as_str, "help": flag.help, "module": module,
     "choices": getattr(flag.parser, "enum_values", None)}
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.startswith("experiments.") or module == sys.argv[0]
    for flag in defined
]))
"""


@functools.cache
def flags_of(command: str) -> list[dict[str, Any]]:
    """Return name, default, help, module and choices of each flag that a command has."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST, command],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def section(command: str) -> str:
    """Return the table of a command's flags."""
    rows = ["| flag | default | |", "|---|---|---|"]
    for flag in flags_of(command):
        default = (flag["default"] or "").strip("'")
        text = re.sub(r"^<[^>]*>: ", "", flag["help"])  # the choices, which follow
        text = text.replace("|", "\\|").replace("<", "&lt;")
        if flag["choices"]:
            text += " One of " + ", ".join(f"`{choice}`" for choice in flag["choices"]) + "."
        shown = f"`{default}`" if default else ""
        rows.append(f"| `--{flag['name']}` | {shown} | {text} |")
    return "\n".join(rows)


def files() -> str:
    """Return every shipped flag file."""
    folder = ROOT / "experiments/flags"
    parts = ["## The files"]
    for path in sorted(folder.glob("*.flags")):
        parts.append(f"### {path.name}\n\n```\n{path.read_text().strip()}\n```")
    return "\n\n".join(parts)
