"""Let the reference show what stands in comments: the shapes of fields, the defaults of settings.

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
        assert isinstance(attr.filepath, list) is False
        line = attr.lines_collection[attr.filepath][(attr.endlineno or 1) - 1]
        if attr.docstring is None and (comment := re.search(r"\s{2}# (.+)$", line)):
            attr.docstring = griffe.Docstring(comment[1], parent=attr)
