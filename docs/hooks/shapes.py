"""Let the reference show what stands beside the docstrings: shapes in comments, defaults.

A griffe extension, which mkdocs.yml names.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe


class Shapes(griffe.Extension):
    """Makes a field's comment its docstring, and `setting(default, ...)` its default."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Change a field of a class as it is found."""
        if not isinstance(attr.parent, griffe.Class) or not isinstance(node, ast.AnnAssign):
            return
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            if call.func.id == "setting" and call.args:
                attr.value = ast.unparse(call.args[0])
            elif call.func.id == "field":
                attr.value = None
        line = attr.lines_collection[attr.filepath][(attr.endlineno or 1) - 1]
        if attr.docstring is None and (comment := re.search(r"\s{2}# (.+)$", line)):
            attr.docstring = griffe.Docstring(comment[1], parent=attr)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the defaults to the class's list of attributes, and drop private bases."""
        cls.bases = [base for base in cls.bases if not str(base).startswith("_")]
        if cls.docstring is None:
            return

        def with_default(entry: re.Match[str]) -> str:
            attribute = cls.members.get(entry[1])
            value = attribute.value if isinstance(attribute, griffe.Attribute) else None
            return entry[0] if value is None else f"{entry[0]} Default: `{value}`."

        head, title, listed = cls.docstring.value.partition("Attributes:\n")
        listed = re.sub(r"^    (\w+): .*(?:\n      .*)*", with_default, listed, flags=re.MULTILINE)
        cls.docstring.value = head + title + listed
