"""Print finished runs side by side.

python -m experiments.compare out/runs/video/*
"""

from __future__ import annotations

import pathlib
import sys

from experiments import results
from hrnn_jax import errors


def main(folders: list[str]) -> None:
    runs = []
    for folder in folders:
        metrics = results.read_metrics(pathlib.Path(folder))
        if metrics is None:
            raise errors.InputError(f"{folder} holds no metrics.json: no run has ended there")
        runs.append(metrics)
    if not runs:
        raise errors.InputError("name the run folders to compare, as in out/runs/video/*")
    print(results.table(runs))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except errors.InputError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)
