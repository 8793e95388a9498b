"""Write report.md and report.html, the paper's tables and figures from a folder of CSV files.

python -m experiments.report RESULTS_FOLDER [OUT_FOLDER]
"""

from __future__ import annotations

import pathlib
import sys

from hrnn_jax.errors import InputError

from .paper.report import write


def main(arguments: list[str]) -> None:
    """Write the report of the folders that are named."""
    if not 1 <= len(arguments) <= 2:
        raise InputError("name the results folder, and if elsewhere, where the report goes")
    results_folder, out = pathlib.Path(arguments[0]), pathlib.Path(arguments[-1])
    write(results_folder, out)
    print(f"{out / 'report.md'} and {out / 'report.html'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (InputError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
