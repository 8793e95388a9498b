"""Write report.md and report.html, the paper's tables and figures from a folder of CSV files.

python -m experiments.report RESULTS_FOLDER [OUT_FOLDER]
python -m experiments.report     # of what make reproduce-table3 has measured here
"""

from __future__ import annotations

import pathlib

from hrnn_jax.errors import InputError

from .common import cli

REPRODUCTION = "out/reproduce"  # where make reproduce-table3 writes


def main(arguments: list[str]) -> None:
    """Write the report of a results folder, into it or into the folder that is named second."""
    if len(arguments) > 2:
        raise InputError("name the results folder, and if elsewhere, where the report goes")
    if not arguments:
        arguments = [f"{REPRODUCTION}/results", REPRODUCTION]
        if not pathlib.Path(arguments[0]).exists():
            raise InputError(
                f"no {arguments[0]}: make reproduce-table3 writes it; or name a results folder"
            )
        print(f"the results in {arguments[0]}")
    with cli.extra("report"):  # here: flags are checked before matplotlib is loaded
        from .paper.report import write
    results_folder, out = pathlib.Path(arguments[0]), pathlib.Path(arguments[-1])
    write(results_folder, out)
    print(f"{out / 'report.md'} and {out / 'report.html'}")


if __name__ == "__main__":
    cli.run(main, folders=True)
