"""Run seeds of the fault simulator.

python -m tests.fault_simulator --seeds=10000
python -m tests.fault_simulator --seed=17
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence

from experiments.common import progress
from tests.fault_simulator import schedule


def main(seeds: Sequence[int], *, with_steps: bool) -> int:
    """Run seeds; print what was run, or the steps of the first seed with a fault.

    Args:
        seeds: to run.
        with_steps: whether to print the steps of runs without a fault too.

    Returns:
        The exit code.
    """
    counts: collections.Counter[str] = collections.Counter()
    with progress.bar("simulating faults", len(seeds), "seeds") as advance:
        for seed in seeds:
            try:
                run = schedule.run_seed(seed)
            except schedule.RunError as error:
                print(f"{error}\nrun it again: make fault-test SEED={seed}", file=sys.stderr)
                return 1
            counts += run.all_counts
            if with_steps:
                print("\n".join(run.steps))
            advance(1)
    print(schedule.summary(len(seeds), counts))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make fault-test", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many to run, from 0")
    parser.add_argument("--seed", type=int, help="one to run, with its steps")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds is 1 or more")
    try:
        is_one = given.seed is not None
        sys.exit(main([given.seed] if is_one else range(given.seeds), with_steps=is_one))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
