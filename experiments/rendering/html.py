"""A report's Markdown as one HTML page that needs no other file: no script, nothing fetched."""

from __future__ import annotations

import html
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

STYLE = pathlib.Path(__file__).with_name("page.css")


def to_html(markdown: str, figures: Mapping[str, str]) -> str:
    """Write a report as an HTML page.

    Args:
        markdown: the report, see `to_markdown`. It begins with its title.
        figures: the SVG of each figure by the path that the Markdown gives for it.

    Returns:
        The page, with its style and its figures inside.
    """
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    parser.inline.ruler.before("html_inline", "underline", _underline)
    tokens = parser.parse(markdown)
    _annotate(tokens)
    title, *headings = [token for token in tokens if token.type == "heading_open"]
    return _PAGE.substitute(
        title=html.escape(title.meta["text"]),
        style=STYLE.read_text(encoding="utf-8"),
        contents="".join(
            f'<li><a href="#{heading.attrs["id"]}">{html.escape(heading.meta["text"])}</a></li>'
            for heading in headings
        ),
        body=parser.renderer.render(tokens[3:], parser.options, {"figures": figures}),
    )


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<nav aria-label="Contents"><ul>$contents</ul></nav>
</header>
<main>
$body</main>
</body>
</html>
""")


class _Renderer(RendererHTML):
    """Renders figures as SVG, and tables that scroll on their own."""

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        svg = env["figures"][tokens[idx].attrs["src"]]
        label = html.escape(_text(tokens[idx]))
        return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        caption = tokens[idx].attrs["aria-labelledby"]
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{caption}">\n'
            + self.renderToken(tokens, idx, options, env)
        )

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return self.renderToken(tokens, idx, options, env) + "</div>\n"


def _underline(state: StateInline, silent: bool) -> bool:
    """Read <u> and </u>, a report's only HTML: Markdown has no underline of its own."""
    tag = next((tag for tag in ("<u>", "</u>") if state.src.startswith(tag, state.pos)), "")
    if tag and not silent:
        state.push("html_inline", "", 0).content = tag
    state.pos += len(tag)
    return bool(tag)


def _annotate(tokens: Sequence[Token]) -> None:
    """Add ids to headings, find the tables' captions, and make row names header cells."""
    caption = ""
    for n, token in enumerate(tokens[:-1]):
        inside = tokens[n + 1]
        if token.type == "heading_open":
            token.meta["text"] = _text(inside)
            token.attrs["id"] = re.sub(r"\W+", "-", _text(inside).lower()).strip("-")
        elif token.type == "paragraph_open" and token.level == 0 and _is_bold(inside):
            caption = f"caption-{n}"
            token.attrs |= {"class": "caption", "id": caption}
        elif token.type == "table_open":
            token.attrs["aria-labelledby"] = caption
        elif token.type == "th_open":
            token.attrs["scope"] = "col"
        elif token.type == "tr_open" and inside.type == "td_open":
            inside.tag = tokens[n + 3].tag = "th"
            inside.attrs["scope"] = "row"


def _is_bold(paragraph: Token) -> bool:
    """Say whether a paragraph is a caption: one bold text and nothing else."""
    children = [token.type for token in paragraph.children or () if token.content or token.nesting]
    return children == ["strong_open", "text", "strong_close"]


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or ())
