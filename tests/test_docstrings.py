"""A name of another module that a docstring or comment has between backquotes is defined there."""

import ast
import collections
import importlib
import importlib.util
import re

from tests.imports import ROOT, TREES, module_of

SOURCES = [path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))]
SUFFIXES = {"csv", "flags", "json", "log", "parquet", "py", "sqlite"}  # of files, not names


def bound_names(path):
    """Return the names that a file's code defines, and those of its arguments and imports."""
    defined, arguments, imported = set(), set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.arg):
            arguments.add(node.arg)
        elif isinstance(node, ast.alias):
            imported.add((node.asname or node.name).split(".")[0])
    return defined, arguments, imported


def test_names_of_other_modules_in_docstrings_exist():
    """Bug: `run_folder.write_ranks` after the function had moved to run_files."""
    of_module = collections.defaultdict(set)
    for path in SOURCES:
        defined, _, imported = bound_names(path)
        of_module[path.stem] |= defined | imported
        if path.stem == "__init__":
            package = importlib.import_module(module_of(path))
            files = {other.stem for other in path.parent.iterdir()}
            of_module[path.parent.name] |= files.union(dir(package))
    wrong = []
    for path in SOURCES:
        defined, arguments, imported = bound_names(path)
        for first, name in re.findall(r"(?<!`)`([a-z_]\w*)\.(\w+)", path.read_text()):
            if first in defined | arguments or name in SUFFIXES:
                continue
            if first in of_module:
                is_there = name in of_module[first]
            else:
                is_there = first in imported or importlib.util.find_spec(first) is not None
            if not is_there:
                wrong.append(f"{path.relative_to(ROOT)}: {first}.{name}")
    assert wrong == []
