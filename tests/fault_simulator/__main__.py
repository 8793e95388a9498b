"""Run seeds of the fault simulator, with states in a file and then in a database.

python -m tests.fault_simulator --seeds=10000
python -m tests.fault_simulator --seed=17 --states=database
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import sys
from collections.abc import Sequence

from experiments.common import progress
from tests.fault_simulator import schedule
from tests.helpers import postgresql

PLACES = ("file", "database")


def main(seeds: Sequence[int], *, places: Sequence[str], with_steps: bool) -> int:
    """Run seeds; print what was run, or the steps of the first seed with a fault.

    Args:
        seeds: to run.
        places: where the states are, of `PLACES`; each seed is run with each of them.
        with_steps: whether to print the steps of runs without a fault too.

    Returns:
        The exit code.
    """
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it warns of lost connections
    for place in places:
        counts: collections.Counter[str] = collections.Counter()
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(postgresql.served()) if place == "database" else None
            bar = progress.bar(f"simulating faults with a {place}", len(seeds), "seeds")
            advance = stack.enter_context(bar)
            for seed in seeds:
                try:
                    run = schedule.run_seed(seed, url)
                except schedule.RunError as error:
                    again = f"make fault-test SEED={seed} STATES={place}"
                    print(f"{error}\nrun it again: {again}", file=sys.stderr)
                    return 1
                counts += run.all_counts
                if with_steps:
                    print("\n".join(run.steps))
                if url is not None:
                    postgresql.empty(url)
                advance(1)
        print(f"states in a {place}: {schedule.summary(len(seeds), counts)}", flush=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make fault-test", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many to run, from 0")
    parser.add_argument("--seed", type=int, help="one to run, with its steps")
    parser.add_argument("--states", choices=PLACES, help="where they are; by default both")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds is 1 or more")
    try:
        is_one = given.seed is not None
        sys.exit(
            main(
                [given.seed] if is_one else range(given.seeds),
                places=[given.states] if given.states else PLACES,
                with_steps=is_one,
            )
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
