"""Check the walls of the house: what each part of the package may import.

python -m tests.imports
"""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "hrnn_jax"
PREPROCESS = PACKAGE / "preprocess"


def imported(path: pathlib.Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def faults() -> list[str]:
    """Say which file breaks which rule."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.is_relative_to(PREPROCESS)
        forbidden = {"absl", "pandas", "experiments", "tests"}
        forbidden |= {"jax", "jaxlib", "flax", "optax", "orbax"} if inside else {"polars"}
        broken = sorted(imported(path) & forbidden)
        found += [f"{path.relative_to(ROOT)} imports {name}" for name in broken]
    # What the files say is not all: what they import must not bring jax or pandas either.
    modules = ", ".join(
        f"hrnn_jax.preprocess.{path.stem}"
        for path in PREPROCESS.glob("*.py")
        if path.stem != "__init__"
    )
    probe = f"import sys, {modules}; print(*{{'jax', 'pandas'}} & sys.modules.keys())"
    brought = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    ).stdout.split()
    return found + [f"hrnn_jax/preprocess brings {name}" for name in brought]


if __name__ == "__main__":
    broken = faults()
    print("\n".join(broken) or "the import rules hold")
    sys.exit(bool(broken))
