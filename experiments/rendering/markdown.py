"""A report as blocks (headings, texts, tables, figures), and these blocks as Markdown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


@dataclasses.dataclass(frozen=True)
class Group:
    """Neighbouring columns of numbers with a common head; those without one hold words."""

    head: str
    columns: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Section:
    """Rows of a table below a title, which may be empty: each row's name and cells."""

    title: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with its caption, the commands that reproduce it, and notes below it."""

    caption: str
    corner: str  # head of the column of row names
    groups: Sequence[Group]
    sections: Sequence[Section]
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure with its caption, the commands that reproduce it, and notes below it."""

    caption: str
    name: str  # of its file, figures/NAME.svg
    svg: str
    alt: str
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def path(self) -> str:
        """The figure's file, relative to the report."""
        return f"figures/{self.name}.svg"


@dataclasses.dataclass(frozen=True)
class Heading:
    """The heading of a section of the report."""

    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out."""

    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list of texts by their subjects, which are printed in bold."""

    texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines of commands."""

    lines: Sequence[str]


Block = Table | Figure | Heading | Text | Bullets | Code


def lay_out(
    caption: str,
    corner: str,
    groups: Mapping[str, Mapping[str, Mapping[Any, Cell]]],
    sections: Mapping[str, Mapping[Any, str]],
    notes: Sequence[str] = (),
) -> Table:
    """Make a table of cells by column and row.

    Args:
        caption: of the table.
        corner: the head of the column of row names.
        groups: by head of a group, then by head of a column, then by key of a row: the cell.
        sections: by title, the names of the rows by key, in order. A row for which no column has
            a cell is left out.
        notes: below the table.
    """
    columns = [cells for heads in groups.values() for cells in heads.values()]
    lines = {
        title: [
            (name, [cells.get(row, Cell()) for cells in columns])
            for row, name in names.items()
            if any(row in cells for cells in columns)
        ]
        for title, names in sections.items()
    }
    return Table(
        caption=caption,
        corner=corner,
        groups=[Group(head, [*columns]) for head, columns in groups.items()],
        sections=[Section(title, rows) for title, rows in lines.items() if rows],
        notes=notes,
    )


def to_markdown(title: str, blocks: Iterable[Block]) -> str:
    """Write a report as Markdown (GitHub's, for its tables).

    Args:
        title: the report's title.
        blocks: its content, in order.

    Returns:
        The text. It refers to the figures as figures/NAME.svg.
    """
    parts = [f"# {_escape(title)}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {_escape(text)}")
            case Text(text, warning):
                parts.append(f"> **{_escape(text)}**" if warning else _escape(text))
            case Bullets(texts):
                items = [f"- **{_escape(of)}:** {_escape(text)}" for of, text in texts.items()]
                parts.append("\n".join(items))
            case Code(lines):
                parts.append(_fenced(lines))
            case Table() | Figure():
                parts += [_fenced(block.commands)] if block.commands else []
                parts.append(f"**{_escape(block.caption)}**")
                if isinstance(block, Table):
                    parts.append(_table(block))
                else:
                    parts.append(f"![{_escape(block.alt)}]({block.path})")
                if block.notes:
                    parts.append("\n".join(f"- {_escape(note)}" for note in block.notes))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    heads, rule = [table.corner], ["---"]
    for group in table.groups:
        heads += [f"{group.head}: {name}" if group.head else name for name in group.columns]
        rule += ["---:" if group.head else "---"] * len(group.columns)
    lines = [[_escape(text) for text in heads], rule]
    for section in table.sections:
        if section.title:
            lines.append([f"{_escape(section.title)}:", *[""] * (len(heads) - 1)])
        lines += [[_escape(name), *map(_cell, cells)] for name, cells in section.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    text = f"<u>{text}</u>" if cell.underlined else text
    text = f"*{text}*" if cell.italic else text
    text = f"**{text}**" if cell.bold else text
    return text + cell.mark + (f" {_escape(cell.note)}" if cell.note else "")


def _fenced(lines: Sequence[str]) -> str:
    return "\n".join(("```", *lines, "```"))  # indented code would belong to a list above it


def _escape(text: str) -> str:
    """Put a text on one line, its characters not read as Markdown."""
    return re.sub(r"([\\`*_<>|&\[\]])", r"\\\1", " ".join(text.split()))
