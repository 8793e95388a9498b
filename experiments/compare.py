"""Print finished runs side by side.

python -m experiments.compare out/runs/video/*
"""

from __future__ import annotations

import pathlib
import sys

from hrnn_jax.errors import InputError

from .common import run_folder


def main(folders: list[str]) -> None:
    """Print the metrics of the runs in some folders."""
    runs = []
    for folder in folders:
        metrics = run_folder.read_metrics(pathlib.Path(folder))
        if metrics is None:
            raise InputError(f"{folder} holds no metrics.json: no run has ended there")
        runs.append(metrics)
    if not runs:
        raise InputError("name the run folders to compare, as in out/runs/video/*")
    tested = {(run["title"], int(run["mean"]["cases"]), run["split"]) for run in runs}
    if len(tested) > 1:
        raise InputError(f"these runs are not of the same test cases: {sorted(tested)}")
    [(title, cases, _)] = tested
    print(f"\n{title}: {cases:,} test cases, the next item in each user's last session\n")
    run_folder.print_metrics(runs)
    print(
        "\nRecall@N: the share of test cases whose item is among the N recommended.\n"
        "MRR@N: the mean of 1 / rank, 0 for ranks beyond N.\n"
        "Precision@N: Recall@N / N, as one item is right."
    )
    if runs[0]["data"] == "simulated":
        print(
            "These events are simulated. For real data: make run FLAGFILE=journey.flags, or with\n"
            "your own log: python -m experiments.run --flagfile=video.flags --events=my_log.csv"
        )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)
