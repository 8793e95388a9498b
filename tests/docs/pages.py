"""The pages of the documentation: their commands, their blocks of Python and their links."""

import dataclasses
import pathlib
import re
import shlex
import subprocess

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        ROOT / "README.md",
        ROOT / "BUILD.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
_MARKDOWN = MarkdownIt("commonmark").enable("table")
# How a command begins, in a block of code or between backquotes.
_PYTHON = r"(?:\.venv/bin/)?python3? "
_COMMAND = re.compile(
    rf"{_PYTHON}-m (?P<module>(experiments|docs\.examples)\.\w+)"
    rf"|{_PYTHON}(?P<script>docs/examples/\w+\.py)|hrnn-jax (?P<name>\w+)"
)
_MAKE = re.compile(r"make(?= [a-zA-Z])")
_OTHER = re.compile(rf"curl |(?:\.venv/bin/)?(?:pip|pre-commit) |{_PYTHON}(?=-m)")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a page."""

    text: str  # as the page has it, without its comment
    is_inline: bool  # between backquotes: a part of a sentence, which is parsed but not executed

    @property
    def kind(self) -> str:
        """What runs it: python, of this project; make; or other."""
        if _COMMAND.match(self.text):
            return "python"
        return "make" if _MAKE.match(self.text) else "other"

    def calls(self) -> list[tuple[str, list[str]]]:
        """Return the modules and scripts of this project that it runs, with their arguments."""
        lines = [self.text]
        if self.kind == "make":
            lines = _printed_by_make(self.text)
        found = []
        for line in lines:
            if match := _COMMAND.match(line.lstrip("@")):
                name = match["module"] or match["script"] or f"experiments.{match['name']}"
                found.append((name, shlex.split(line[match.end() :])))
        return found


def _printed_by_make(text: str) -> list[str]:
    """Return the commands that make would run, without those that install."""
    installed = [f"--old-file={name}" for name in _INSTALLED]
    done = subprocess.run(
        ["make", "--dry-run", *installed, *shlex.split(text)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{text}: {done.stderr}"
    return done.stdout.replace("\\\n", " ").splitlines()


_INSTALLED = (".venv/installed", ".venv-gpu/installed")


def read(page: str) -> str:
    """Return a page's text, without the head that mkdocs reads."""
    return re.sub(r"\A---\n.*?\n---\n", "", (ROOT / page).read_text(), flags=re.DOTALL)


def tokens(page: str) -> list[Token]:
    """Return a page's blocks and, of its text, the parts between backquotes and the links."""
    blocks = _MARKDOWN.parse(read(page))
    return [token for block in blocks for token in (block, *(block.children or []))]


def commands(page: str) -> list[Command]:
    """Return a page's commands, in order."""
    found = []
    for token in tokens(page):
        is_shell = token.type == "code_block" or (
            token.type == "fence" and token.info.strip() in ("", "sh", "bash", "console")
        )
        if not is_shell and token.type != "code_inline":
            continue
        for line in re.sub(r"\\\n\s*", "", token.content).splitlines():
            text = re.sub(r"\s+# .*", "", line).strip()
            if any(begin.match(text) for begin in (_COMMAND, _MAKE, _OTHER)):
                found.append(Command(text, is_inline=not is_shell))
    return found


def python_blocks(page: str) -> list[str]:
    """Return a page's blocks of Python, in order."""
    return [
        token.content
        for token in tokens(page)
        if token.type == "fence" and token.info.strip() == "python"
    ]


def links(page: str) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return [
        str(token.attrs["href" if token.type == "link_open" else "src"])
        for token in tokens(page)
        if token.type in ("link_open", "image")
    ]
