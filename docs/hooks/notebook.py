"""A notebook as a part of a page: its text, its code, and the outputs that it was saved with."""

from __future__ import annotations

import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]


def section(path: str) -> str:
    """Return a notebook's cells as Markdown, without the title: the page has one."""
    cells = json.loads((ROOT / path).read_text())["cells"]
    title, _, first = "".join(cells[0]["source"]).partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"{path} does not begin with a title")
    return "\n\n".join([first, *map(_markdown, cells[1:])])


def _markdown(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    printed = ["".join(out.get("text") or out["data"]["text/plain"]) for out in cell["outputs"]]
    outputs = [f'``` {{ .text title="Output" }}\n{text.rstrip()}\n```' for text in printed]
    return "\n\n".join([f"```python\n{source}\n```", *outputs])
