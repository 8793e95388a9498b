"""The files of a report: its Markdown, its figures and, where wanted, an HTML page."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from hrnn_jax import atomic

from .html import to_html
from .markdown import Block, Figure, to_markdown


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
