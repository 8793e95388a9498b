"""The page of --help: a command's own flags by group, each with its default and its meaning."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from absl import flags

from hrnn_jax.config import NETWORKS, Setting
from hrnn_jax.presets import PRESETS

TITLES = {  # in the order of the page
    "command": "This command",
    "data": "Data",
    "model": "Model",
    "training": "Training",
    "evaluation": "Evaluation",
    "runs": "Runs",
    "output": "Output",
}
HELP = (
    ("-h, --help", "Prints this page."),
    ("--helpfull", "Prints it with the flags of absl, which parses them."),
)
FLAG_FILE = (
    "Takes flags from a file, one a line: a path, or one of the shipped files: {}. It may stand "
    "among other flags, and several times; of a flag that is given twice the last one counts."
)
_WIDEST = 100
_VALUES = {  # by absl's names of types
    "int": "N",
    "float": "X",
    "comma separated list of strings": "A,B",
    "space separated list of strings": '"A B"',
}


@dataclasses.dataclass(frozen=True)
class About:
    """What the page says of a flag next to what absl knows."""

    group: str = "command"  # one of TITLES
    notes: tuple[str, ...] = ()  # bounds, models


_about: dict[str, About] = {}  # by flag; those that are missing are of their command alone


def about(name: str) -> About:
    """Return what the page says of a flag next to what absl knows."""
    return _about.get(name, About())


def describe(name: str, group: str, setting: Setting, models: Iterable[str]) -> None:
    """Note what the page says of a flag.

    Args:
        name: of the flag.
        group: One of TITLES.
        setting: Its bounds.
        models: Those that use it.
    """
    _about[name] = About(group, tuple(filter(None, (setting.bounds, _models_text({*models})))))


def page(
    text: str, own: Sequence[flags.Flag], others: Sequence[flags.Flag], shipped: Sequence[str]
) -> str:
    """Return the page.

    Args:
        text: What the command does, and how it is called.
        own: Its flags.
        others: Flags that are listed last.
        shipped: The names of the shipped flag files.
    """
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    parts = [_filled(text, width)]
    by_group: dict[str, list[flags.Flag]] = {title: [] for title in TITLES}
    for flag in own:
        by_group[about(flag.name).group].append(flag)
    for group, of_group in by_group.items():
        if of_group:
            parts.append("\n".join([TITLES[group], *(_entry(flag, width) for flag in of_group)]))
    if any("networks" in " ".join(about(flag.name).notes) for flag in own):
        parts.append(_filled(f"Networks: the models {', '.join((*NETWORKS, *PRESETS))}.", width))
    if own:
        meaning = FLAG_FILE.format(", ".join(shipped))
        parts.append("\n".join(["Flag files", *_lines("--flagfile=FILE", [], meaning, width)]))
    of_help = [line for given, meaning in HELP for line in _lines(given, [], meaning, width)]
    parts.append("\n".join(["Help", *of_help]))
    if others:
        parts.append("\n".join(["Flags of absl", *(_entry(flag, width) for flag in others)]))
    return "\n\n".join(parts) + "\n"


def _entry(flag: flags.Flag, width: int) -> str:
    """Return a flag's lines: how it is given, its default and bounds, then its meaning."""
    choices: Sequence[str] = getattr(flag.parser, "enum_values", None) or ()
    meaning = " ".join((flag.help or "").split())
    meaning = meaning.removeprefix(f"<{'|'.join(choices)}>: ")  # absl's
    given = f"--{flag.name}={'|'.join(choices) or _VALUES.get(flag.flag_type(), 'TEXT')}"
    if flag.flag_type() == "bool":
        given = f"--[no]{flag.name}"
    if len(given) + 2 > width:
        given = f"--{flag.name}=NAME"
        meaning += f" One of {', '.join(choices)}."
    notes = [f"default {_default_text(flag)}"] if flag.default not in (None, "", []) else []
    notes += about(flag.name).notes
    return "\n".join(_lines(given, notes, meaning, width))


def _lines(given: str, notes: Sequence[str], meaning: str, width: int) -> list[str]:
    text = f"({'; '.join(notes)})" if notes else ""
    head = f"  {given}  {text}".rstrip()
    wrap = textwrap.TextWrapper(width, break_on_hyphens=False, break_long_words=False)
    wrap.initial_indent = wrap.subsequent_indent = " " * 6
    whole = len(head) <= width
    below = [wrap.fill(part) for part in ("" if whole else text, meaning) if part]
    return [head if whole else f"  {given}", *below]


def _default_text(flag: flags.Flag) -> str:
    if flag.flag_type() == "bool":
        return "yes" if flag.default else "no"
    if isinstance(flag.default, list):
        return ",".join(flag.default)
    return f"{flag.default:g}" if isinstance(flag.default, float) else str(flag.default)


def _models_text(models: set[str]) -> str:
    """Name the models that use a flag, "" for all."""
    if models >= {*Setting().models}:
        return ""
    together = {*NETWORKS} <= models
    names = ["networks", *sorted(models - {*NETWORKS})] if together else sorted(models)
    return ", ".join(names)


def _filled(text: str, width: int) -> str:
    """Wrap the paragraphs of a text; lines of commands and tables stay as they are."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        is_prose = not any(re.match(r"\s|python |make |hrnn-jax |\.", line) for line in lines)
        if is_prose:
            block = textwrap.fill(" ".join(lines), width, break_on_hyphens=False)
        blocks.append(block)
    return "\n\n".join(blocks)
