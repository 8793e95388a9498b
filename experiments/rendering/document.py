"""A report as blocks, written as Markdown and as one HTML page that needs nothing beside it."""

from __future__ import annotations

import dataclasses
import html as escaping
import itertools
import pathlib
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence

STYLE = pathlib.Path(__file__).with_name("report.css")
DASH = "–"  # where there is nothing to show


@dataclasses.dataclass(frozen=True)
class Cell:
    text: str = DASH
    mark: str = ""  # raised, directly after the text
    note: str = ""  # small, after both: a spread, or the paper's value
    bold: bool = False
    italic: bool = False
    underlined: bool = False


@dataclasses.dataclass(frozen=True)
class Group:
    """Neighbouring columns of one data set, under a head of their own ("" for none)."""

    head: str
    columns: Sequence[str]
    words: bool = False  # words, which read from the left and may wrap, in place of numbers


@dataclasses.dataclass(frozen=True)
class Section:
    """Rows between two rules, each its name and its cells. title: "" for none."""

    title: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclasses.dataclass(frozen=True)
class Table:
    caption: str
    corner: str  # head of the rows' names
    groups: Sequence[Group]
    sections: Sequence[Section]
    commands: Sequence[str] = ()  # above it
    notes: Sequence[str] = ()  # below it
    folded: bool = False  # in HTML, shown on demand


@dataclasses.dataclass(frozen=True)
class Figure:
    caption: str
    name: str  # of its file, figures/NAME.svg
    svg: str
    alt: str
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    text: str
    warning: bool = False


@dataclasses.dataclass(frozen=True)
class Bullets:
    texts: Mapping[str, str]  # by what each is about


@dataclasses.dataclass(frozen=True)
class Code:
    lines: Sequence[str]


Block = Table | Figure | Heading | Text | Bullets | Code


def markdown(title: str, blocks: Iterable[Block]) -> str:
    """Write the report as Markdown; the figures are files beside it."""
    parts = [f"# {_plain(title)}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {_plain(text)}")
            case Text(text, warning):
                parts.append(f"> **{_plain(text)}**" if warning else _plain(text))
            case Bullets(texts):
                items = [f"- **{_plain(of)}:** {_plain(text)}" for of, text in texts.items()]
                parts.append("\n".join(items))
            case Code(lines):
                parts.append(_fenced(lines))
            case Table() | Figure():
                parts += [_fenced(block.commands)] if block.commands else []
                parts.append(f"**{_plain(block.caption)}**")
                if isinstance(block, Table):
                    parts.append(_markdown_table(block))
                else:
                    parts.append(f"![{_plain(block.alt)}](figures/{block.name}.svg)")
                if block.notes:
                    parts.append("\n".join(f"- {_plain(note)}" for note in block.notes))
    return "\n\n".join(parts) + "\n"


def html(title: str, blocks: Sequence[Block]) -> str:
    """Write the report as one page: style and figures inside, nothing fetched, no script."""
    number = itertools.count(1)
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    body = "\n".join(_html_block(block, lambda: f"exhibit-{next(number)}") for block in blocks)
    return _PAGE.substitute(
        title=_escape(title),
        style=STYLE.read_text(encoding="utf-8"),
        contents="".join(f'<li><a href="#{_slug(h)}">{_escape(h)}</a></li>' for h in headings),
        body=body,
    )


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<nav aria-label="Contents"><ol>$contents</ol></nav>
</header>
<main>
$body
</main>
</body>
</html>
""")


def _markdown_table(table: Table) -> str:
    head, rule = [table.corner], ["---"]
    for group in table.groups:
        head += [f"{group.head}: {name}" if group.head else name for name in group.columns]
        rule += ["---" if group.words else "---:"] * len(group.columns)
    lines = [[_plain(text) for text in head], rule]
    for section in table.sections:
        if section.title:
            lines.append([f"{_plain(section.title)}:", *[""] * (len(head) - 1)])
        lines += [[_plain(name), *map(_markdown_cell, cells)] for name, cells in section.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = _plain(cell.text)
    text = f"<u>{text}</u>" if cell.underlined else text
    text = f"*{text}*" if cell.italic else text
    text = f"**{text}**" if cell.bold else text
    return text + cell.mark + (f" {_plain(cell.note)}" if cell.note else "")


def _html_block(block: Block, new_id: Callable[[], str]) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{_slug(text)}">{_escape(text)}</h2>'
        case Text(text, warning):
            kind = ' class="warning"' if warning else ""
            return f"<p{kind}>{_escape(text)}</p>"
        case Bullets(texts):
            items = (
                f"<li><strong>{_escape(of)}:</strong> {_escape(text)}</li>"
                for of, text in texts.items()
            )
            return f"<ul>{''.join(items)}</ul>"
        case Code(lines):
            return _html_code(lines)
        case Figure():
            shown = block.svg.replace(
                "<svg ", f'<svg role="img" aria-label="{_escape(block.alt)}" ', 1
            )
            return _html_exhibit(block, new_id(), shown)
        case Table():
            name = new_id()
            scrolling = (
                f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
                f"{_html_table(block, name)}</div>"
            )
            return _html_exhibit(block, name, scrolling)


def _html_exhibit(block: Table | Figure, name: str, shown: str) -> str:
    caption = f'<figcaption id="{name}">{_escape(block.caption)}</figcaption>'
    commands = _html_code(block.commands) if block.commands else ""
    items = "".join(f"<li>{_escape(note)}</li>" for note in block.notes)
    notes = f'<ul class="notes">{items}</ul>\n' if items else ""
    exhibit = f"<figure>\n{commands}{caption}\n{shown}\n{notes}</figure>"
    if isinstance(block, Table) and block.folded:
        return f"<details><summary>{_escape(block.caption)}</summary>\n{exhibit}\n</details>"
    return exhibit


def _html_table(table: Table, name: str) -> str:
    named = any(group.head for group in table.groups)
    rowspan = ' rowspan="2"' if named else ""
    corner = f'<th scope="col"{rowspan}>{_escape(table.corner)}</th>'
    tops = "".join(
        f'<th scope="colgroup" colspan="{len(group.columns)}" class="first">'
        f"<span>{_escape(group.head)}</span></th>"
        for group in table.groups
    )
    heads = "".join(
        f'<th scope="col"{kind}>{_escape(text)}</th>'
        for group in table.groups
        for text, kind in zip(group.columns, _classes(group), strict=True)
    )
    rows = f"<tr>{corner}{tops}</tr>\n<tr>{heads}</tr>" if named else f"<tr>{corner}{heads}</tr>"
    bodies = []
    classes = [kind for group in table.groups for kind in _classes(group)]
    for section in table.sections:
        lines = []
        if section.title:
            rest = f'<td colspan="{len(classes)}"></td>'
            lines.append(
                f'<tr class="title"><th scope="rowgroup">{_escape(section.title)}</th>{rest}</tr>'
            )
        for label, cells in section.rows:
            tds = "".join(
                f"<td{kind}>{_html_cell(cell)}</td>"
                for cell, kind in zip(cells, classes, strict=True)
            )
            lines.append(f'<tr><th scope="row">{_escape(label)}</th>{tds}</tr>')
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    return (
        f'<table aria-labelledby="{name}">\n<thead>\n{rows}\n</thead>\n'
        + "\n".join(bodies)
        + "\n</table>"
    )


def _classes(group: Group) -> list[str]:
    if group.words:
        return [' class="words"'] * len(group.columns)
    return [' class="first"', *[""] * (len(group.columns) - 1)]


def _html_cell(cell: Cell) -> str:
    text = _escape(cell.text)
    for tag, given in (("u", cell.underlined), ("em", cell.italic), ("strong", cell.bold)):
        text = f"<{tag}>{text}</{tag}>" if given else text
    text += f"<sup>{cell.mark}</sup>" if cell.mark else ""
    return text + (f" <small>{_escape(cell.note)}</small>" if cell.note else "")


def _html_code(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return f"<pre><code>{_escape(text)}</code></pre>\n"


def _fenced(lines: Sequence[str]) -> str:
    return "\n".join(("```", *lines, "```"))  # indented, it would belong to a list before it


def _plain(text: str) -> str:
    """Keep Markdown from reading marks into a text, and a text from ending its line."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def _escape(text: str) -> str:
    return escaping.escape(text)


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")
