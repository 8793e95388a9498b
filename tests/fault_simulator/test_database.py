"""A few seeds of the simulator with two services on one PostgreSQL database."""

import collections

from tests.fault_simulator import schedule
from tests.helpers import postgresql

SEEDS = 14  # in about six seconds


def run_seed(seed):
    with postgresql.database() as url:
        return schedule.run_seed(seed, url)


def test_seeds_run_without_a_fault_on_a_database():
    counts = collections.Counter()
    for seed in range(SEEDS):
        counts += run_seed(seed).all_counts
    for kind in ("kill at before", "kill at after", "lost connection", "unanswered commits",
                 "full", "damage_row", "rebuilt", "forget", "other_weights"):  # fmt: skip
        assert counts[kind], kind
