"""Check the walls between the rooms: what each part of the project may import.

python -m tests.imports
"""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
TREES = ("hrnn_jax", "experiments")
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
NEVER_IN_THE_LIBRARY = {"absl", "pandas", "matplotlib", "rich", "fastapi", "optuna", "psutil"}
WITH_FRAMES = ("hrnn_jax.preprocess", "hrnn_jax.estimators")  # rooms that may use polars
NEITHER = {
    "hrnn_jax",
    *(
        f"hrnn_jax.{name}"
        for name in ("config", "ids_and_times", "presets", "files.recipe_formats")
    ),
}
# What an extra brings, and the one file that names it.
OF_EXTRAS = {
    "dask": "hrnn_jax.preprocess.user_parts.parallel",
    "distributed": "hrnn_jax.preprocess.user_parts.parallel",
    "faiss": "hrnn_jax.live.item_index",
    "psycopg": "hrnn_jax.live.store.postgresql",
    "tensorboardX": "hrnn_jax.estimators.callbacks.tensorboard",
    "wandb": "hrnn_jax.estimators.callbacks.weights_and_biases",
}
SCRIPTS = (
    "experiments.bench.peers.scripts"  # they run in the virtual environments of other libraries
)
PEERS = {"recbole", "rectools", "torch", "pytorch_lightning", "pandas"}
# What is put on top of a network's scores knows no network; only what learns its weights does.
ON_SCORES = "hrnn_jax.repeat_explore."
LEARN = {"hrnn_jax.repeat_explore.fit", "hrnn_jax.repeat_explore.replayed"}
OF_NETWORKS = {
    *("hrnn_jax.model", "hrnn_jax.network", "hrnn_jax.training.train"),
    *("hrnn_jax.ranking.evaluation", "hrnn_jax.ranking.replay", "hrnn_jax.ranking.topk"),
}
MOST_FILES = 14  # of a room, __init__.py not counted

Imports = dict[str, set[str]]  # module -> full names of the modules that it imports


def module_of(path: pathlib.Path) -> str:
    """Return the module's full name, as in hrnn_jax.live.events."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: pathlib.Path, modules: set[str]) -> set[str]:
    """Return the full names that a file imports anywhere in it; submodules where they are named."""
    here = module_of(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                found.add(name if name in modules else source)
    return found


def project() -> tuple[dict[str, pathlib.Path], Imports]:
    """Return the path and the imports of each module of both trees."""
    paths = {
        module_of(path): path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))
    }
    return paths, {name: imports_of(path, set(paths)) for name, path in paths.items()}


def top(name: str) -> str:
    """Return the top-level package of a name."""
    return name.partition(".")[0]


def wall_faults(imports: Imports) -> Iterator[str]:
    """Yield the imports that go through a wall."""
    commands = {name for name in imports if re.fullmatch(r"experiments\.\w+", name)}
    commands -= {"experiments.__main__"}
    for name, imported in imports.items():
        forbidden = {"tests"}
        if top(name) == "hrnn_jax":
            forbidden |= NEVER_IN_THE_LIBRARY | {"experiments"}
            in_preprocess = name.startswith("hrnn_jax.preprocess")
            if in_preprocess or name in NEITHER:
                forbidden |= JAX
            if name in NEITHER or not name.startswith(WITH_FRAMES):
                forbidden |= {"polars"}
        elif name.startswith(SCRIPTS):
            forbidden |= {"hrnn_jax", "experiments", "absl", "polars"} | JAX
        elif name != "experiments.rendering.plots":
            forbidden |= {"matplotlib"}
        if not name.startswith(SCRIPTS):
            forbidden |= PEERS
        for other in sorted(imported):
            if top(other) in forbidden:
                yield f"{name} imports {other}"
            if OF_EXTRAS.get(top(other), name) != name:
                yield f"{name} imports {other}"
            if name.startswith(ON_SCORES) and name not in LEARN and other in OF_NETWORKS:
                yield f"{name} imports {other}"
            if other in commands and not re.fullmatch(r"experiments\.\w+", name):
                yield f"{name}, a room's file, imports the command {other}"


def absolute_faults(paths: dict[str, pathlib.Path]) -> Iterator[str]:
    """Yield absolute imports inside experiments, which has another name where it is installed."""
    for name, path in paths.items():
        if top(name) == "experiments" and re.search(
            r"^\s*(from|import) experiments\b", path.read_text(), re.MULTILINE
        ):
            yield f"{name} imports experiments by its absolute name: use a relative import"


def circle_faults(imports: Imports) -> Iterator[str]:
    """Yield one line for each import that closes a circle."""
    done: set[str] = set()

    def visit(name: str, route: tuple[str, ...]) -> Iterator[str]:
        if name in route:
            yield f"circle: {' -> '.join([*route[route.index(name) :], name])}"
        elif name not in done:
            for other in sorted(imports[name] & imports.keys() - {name}):
                yield from visit(other, (*route, name))
            done.add(name)

    for name in imports:
        yield from visit(name, ())


def wording_faults(paths: dict[str, pathlib.Path]) -> Iterator[str]:
    """Yield the library's files that name a flag: its callers have arguments."""
    for name, path in paths.items():
        if top(name) != "hrnn_jax" or name == "hrnn_jax.files.provenance":  # its flags are git's
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if flag := re.search(r"(?<![\w-])--[a-z]\w+", line):
                yield f"{name}, line {number} names the flag {flag[0]}: name the argument"


def room_faults(paths: dict[str, pathlib.Path]) -> Iterator[str]:
    """Yield the rooms with too many files, and the modules imported under another name."""
    rooms: dict[pathlib.Path, int] = {}
    for name, path in paths.items():
        if path.name != "__init__.py":
            rooms[path.parent] = rooms.get(path.parent, 0) + 1
        if alias := re.search(r"import \w+ as (\w+_lib)\b", path.read_text()):
            yield f"{name} imports a module as {alias[1]}: import its names"
    for room, count in rooms.items():
        if count > MOST_FILES:
            yield f"{room.relative_to(ROOT)} holds {count} files, more than {MOST_FILES}"


def pattern_faults(paths: dict[str, pathlib.Path]) -> Iterator[str]:
    """Yield the calls of polars that would take a path such as log[1].csv as a pattern."""
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            reads = re.fullmatch(r"pl\.(read|scan)_(parquet|csv|lines)", ast.unparse(node.func))
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if reads and given.get("glob") != "False":
                yield f"{name}, line {node.lineno}: {reads[0]} without glob=False"


def loading_faults() -> Iterator[str]:
    """Yield what an import loads, whatever the files say."""
    paths = (ROOT / "hrnn_jax/preprocess").rglob("*.py")
    modules = [module_of(path) for path in paths if path.name != "__init__.py"]
    for what, unwanted in (
        (", ".join(modules), {"jax", "pandas"}),
        ("hrnn_jax, hrnn_jax.config", {"jax", "polars", "numpy"}),
    ):
        code = f"import sys, {what}; print(*{unwanted!r} & sys.modules.keys())"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        yield from (f"importing {what} loads {name}" for name in done.stdout.split())


def faults() -> list[str]:
    """Return one line for each broken rule."""
    paths, imports = project()
    return [
        *wall_faults(imports),
        *absolute_faults(paths),
        *circle_faults(imports),
        *wording_faults(paths),
        *room_faults(paths),
        *pattern_faults(paths),
        *loading_faults(),
    ]


if __name__ == "__main__":
    broken = faults()
    print("\n".join(broken) or "the import rules hold")
    sys.exit(bool(broken))
