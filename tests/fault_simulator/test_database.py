"""A few seeds of the simulator with two services on one PostgreSQL database."""

import collections
import contextlib

import pytest

from hrnn_jax.live.store import state_rows
from hrnn_jax.live.store.postgresql import PostgresqlStore
from tests.fault_simulator import schedule
from tests.helpers import postgresql

SEEDS = 10  # in about four seconds


@pytest.fixture(scope="module")
def url():
    with postgresql.database() as made:
        yield made


def run_seed(seed, url):
    postgresql.empty(url)
    return schedule.run_seed(seed, url)


def run_seeds(seeds, url):
    for seed in seeds:
        run_seed(seed, url)


def test_seeds_run_without_a_fault_on_a_database(url):
    counts = collections.Counter()
    for seed in range(SEEDS):
        counts += run_seed(seed, url).all_counts
    for kind in ("kill at before", "kill at after", "lost connection", "unanswered commits",
                 "full", "damage_row", "rebuilt", "forget", "other_weights"):  # fmt: skip
        assert counts[kind], kind


def commit_each_statement(patch):
    patch.setattr(PostgresqlStore, "updating", lambda self, keys=None: contextlib.nullcontext())


def count_a_second_delivery(patch):
    patch.setattr(PostgresqlStore, "delivered", lambda self, event_ids: set())


def ignore_damaged_states(patch):
    patch.setattr(state_rows, "crc_of", lambda values: 0)
    patch.setattr(state_rows.zlib, "crc32", lambda data: 0)


@pytest.mark.parametrize(
    "mutation", [commit_each_statement, count_a_second_delivery, ignore_damaged_states]
)
def test_the_simulator_finds_a_fault_that_is_put_in(mutation, monkeypatch, url):
    mutation(monkeypatch)
    with pytest.raises(schedule.RunError, match=r"\nseed \d+: "):
        run_seeds(range(2 * SEEDS), url)
