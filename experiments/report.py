"""Write report.md and report.html, the paper's tables and figures from a folder of CSV files.

python -m experiments.report RESULTS_FOLDER [OUT_FOLDER]
"""

from __future__ import annotations

import functools
import pathlib
import sys

from hrnn_jax import atomic, errors

from .paper import results, sections
from .rendering import document

TITLE = "Personalizing session-based recommendations with hierarchical RNNs: the paper and hrnn_jax"


def write(results_folder: pathlib.Path, out: pathlib.Path) -> None:
    """Write report.md, report.html and figures/. Raises InputError where a CSV file is at fault."""
    found = results.read(results_folder)
    blocks = sections.compose(found)
    files = {
        f"figures/{block.name}.svg": block.svg
        for block in blocks
        if isinstance(block, document.Figure)
    }
    files["report.md"] = document.markdown(TITLE, blocks)
    files["report.html"] = document.html(TITLE, blocks)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        encode = functools.partial(pathlib.Path.write_bytes, data=text.encode())
        atomic.write(out / name, encode)


def main(arguments: list[str]) -> None:
    if not 1 <= len(arguments) <= 2:
        raise errors.InputError("name the results folder, and if elsewhere, where the report goes")
    results_folder, out = pathlib.Path(arguments[0]), pathlib.Path(arguments[-1])
    write(results_folder, out)
    print(f"{out / 'report.md'} and {out / 'report.html'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (errors.InputError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
