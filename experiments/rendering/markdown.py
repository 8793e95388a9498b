"""A report: Markdown with tables and figures, written to files with an HTML page if wanted."""

from __future__ import annotations

import abc
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hrnn_jax.files import atomic

from .html import to_html

DASH = "–"  # the text of a cell without a value


@dataclasses.dataclass(frozen=True)
class Cell:
    """A table's cell."""

    text: str = DASH
    mark: str = ""  # directly after the text
    note: str = ""  # after both: a spread, or the paper's value
    bold: bool = False
    italic: bool = False
    underlined: bool = False

    def markdown(self) -> str:
        """Return the cell's Markdown."""
        text = _escape(self.text)
        text = f"<u>{text}</u>" if self.underlined else text
        text = f"*{text}*" if self.italic else text
        text = f"**{text}**" if self.bold else text
        return text + self.mark + (f" {_escape(self.note)}" if self.note else "")


# Cells by head of a group of columns, by head of a column, and by key of a row. Columns without a
# group's head ("") hold words and not numbers.
Groups = Mapping[str, Mapping[str, Mapping[Any, Cell]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exhibit(abc.ABC):
    """What a table and a figure have in common."""

    caption: str
    commands: Sequence[str] = ()  # that reproduce it
    notes: Sequence[str] = ()

    @abc.abstractmethod
    def body(self) -> str:
        """Return the Markdown below the caption."""

    def markdown(self) -> str:
        """Return all its Markdown."""
        commands = [code(self.commands)] if self.commands else []
        notes = ["\n".join(f"- {_escape(note)}" for note in self.notes)] if self.notes else []
        return "\n\n".join([*commands, f"**{_escape(self.caption)}**", self.body(), *notes])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Exhibit):
    """A table."""

    corner: str  # head of the column of row names
    groups: Groups
    sections: Mapping[str, Mapping[Any, str]]  # by title, which may be empty: names of rows by key

    def rows(self) -> Iterator[tuple[str, str, list[Cell]]]:
        """Yield the title of the section, the name and the cells of each row that has a cell."""
        columns = [cells for heads in self.groups.values() for cells in heads.values()]
        for title, names in self.sections.items():
            for row, name in names.items():
                if any(row in cells for cells in columns):
                    yield title, name, [cells.get(row, Cell()) for cells in columns]

    def body(self) -> str:
        """Return the table in Markdown (GitHub's)."""
        heads, rule = [self.corner], ["---"]
        for group, columns in self.groups.items():
            heads += [f"{group}: {name}" if group else name for name in columns]
            rule += ["---:" if group else "---"] * len(columns)
        lines = [[_escape(head) for head in heads], rule]
        last = ""
        for title, name, cells in self.rows():
            if title != last:
                lines.append([f"{_escape(title)}:", *[""] * len(cells)])
                last = title
            lines.append([_escape(name), *(cell.markdown() for cell in cells)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure(Exhibit):
    """A figure."""

    name: str  # of its file, figures/NAME.svg
    svg: str
    alt: str

    @property
    def path(self) -> str:
        """The figure's file, relative to the report."""
        return f"figures/{self.name}.svg"

    def body(self) -> str:
        """Return the figure in Markdown."""
        return f"![{_escape(self.alt)}]({self.path})"


Block = Exhibit | str  # a text is Markdown


def heading(text: str) -> str:
    """Return the heading of a section of the report."""
    return f"## {_escape(text)}"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return _escape(text)


def warning(text: str) -> str:
    """Return a paragraph that stands out."""
    return f"> **{_escape(text)}**"


def bullets(texts: Mapping[str, str]) -> str:
    """Return a list of texts by their subjects, which are printed in bold."""
    return "\n".join(f"- **{_escape(of)}:** {_escape(text)}" for of, text in texts.items())


def code(lines: Iterable[str]) -> str:
    """Return lines of commands."""
    return "\n".join(("```", *lines, "```"))  # indented code would belong to a list above it


def to_markdown(title: str, blocks: Iterable[Block]) -> str:
    """Write a report as Markdown, which refers to the figures as figures/NAME.svg."""
    texts = [block if isinstance(block, str) else block.markdown() for block in blocks]
    return "\n\n".join([f"# {_escape(title)}", *texts]) + "\n"


def write_report(
    path: pathlib.Path, title: str, blocks: Sequence[Block], *, ending: str = "", page: bool = False
) -> None:
    """Write a report.

    Args:
        path: of the Markdown file; the figures go to figures/NAME.svg beside it.
        title: the report's title.
        blocks: its content, in order.
        ending: Markdown that is appended as it is.
        page: also write an HTML page beside it, which has the figures inside.

    Raises:
        InputError: a file cannot be written.
    """
    figures = {block.path: block.svg for block in blocks if isinstance(block, Figure)}
    markdown = to_markdown(title, blocks) + ending
    files = {path.name: markdown, **figures}
    if page:
        files[path.with_suffix(".html").name] = to_html(markdown, figures)
    (path.parent / "figures").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        atomic.write(path.parent / name, text.encode())


def _escape(text: str) -> str:
    """Put a text on one line, its characters not read as Markdown."""
    return re.sub(r"([\\`*_<>|&\[\]])", r"\\\1", " ".join(text.split()))
