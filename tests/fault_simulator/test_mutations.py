"""The simulator finds faults of former versions again: each is put back, and a seed finds it."""

import math

import pytest

from hrnn_jax import errors
from hrnn_jax.live.states import idle_sessions, rebuilding
from hrnn_jax.live.states.user_states import UserStates
from hrnn_jax.live.store import sqlite_pages, sqlite_store, state_file, state_rows
from hrnn_jax.live.store.next_states import NextStates
from hrnn_jax.live.store.sqlite_store import SqliteStore
from tests.fault_simulator import schedule


def read_any_wal(patch):
    """Let SQLite take the -wal of a removed file, or of the file that a copy replaces."""
    patch.setattr(sqlite_store, "refuse_strays", lambda path: None)


def read_the_wal_of_another_file(patch):
    """Refuse the -wal of a removed file alone."""
    patch.setattr(state_file, "_is_wal_of", lambda wal, file: True)


def refuse_the_first_wal(patch):
    """Take the first -wal of a file, which had no version before, for that of another one."""
    versions_of_wal = sqlite_pages.versions_of_wal
    patch.setattr(sqlite_pages, "versions_of_wal", lambda wal: versions_of_wal(wal) - {0})


def refuse_the_journal_of_a_new_file(patch):
    """Let a kill in making a file keep it from being made."""
    patch.setattr(state_file, "_is_of_new_file", lambda journal: False)


def go_on_in_the_wal_of_a_killed_start(patch):
    """Let the file get a version that the beginning of its -wal does not have."""
    patch.setattr(SqliteStore, "_finish_wal", lambda self: None)


def begin_a_rebuild_without_a_mark(patch):
    """Let a rebuild that is interrupted leave states of two networks."""
    set_about = SqliteStore.set_about

    def unless_unfinished(self, about):
        if about.get("weights") != rebuilding._UNFINISHED:
            set_about(self, about)

    patch.setattr(SqliteStore, "set_about", unless_unfinished)


def fail_for_one_damaged_state(patch):
    """Answer an error to all of a batch, and to who is to be forgotten."""

    def states(self, keys):
        found, damaged = self.store.get(keys)
        if damaged:
            raise errors.StorageError("a state is damaged")
        return found

    patch.setattr(UserStates, "of", states)


def ignore_damaged_states(patch):
    patch.setattr(state_rows, "crc_of", lambda values: 0)
    patch.setattr(state_rows.zlib, "crc32", lambda data: 0)


def ignore_lost_files(patch):
    patch.setattr(state_file.FileWatch, "check", lambda self: None)


def leave_traces_in_the_wal(patch):
    patch.setattr(SqliteStore, "_erase_traces", lambda self: None)


def leave_traces_in_unused_parts_of_pages(patch):
    patch.setattr(sqlite_pages, "clear_unused_parts", lambda file, pages: None)


def keep_the_bytes_of_deleted_rows(patch):
    """Delete as SQLite was built to, which is without zeros in most builds."""
    settings = [one for one in sqlite_store.SETTINGS if not one.startswith("secure_delete")]
    patch.setattr(sqlite_store, "SETTINGS", settings)


def believe_a_clock_that_jumps(patch):
    patch.setattr(idle_sessions, "_JUMP", math.inf)


def commit_without_sync(patch):
    def begin(self, *arguments, **settings):
        prepare(self, *arguments, **settings)
        self._db.execute("PRAGMA synchronous = NORMAL")

    prepare = SqliteStore._prepare
    patch.setattr(SqliteStore, "_prepare", begin)


def count_a_second_delivery(patch):
    patch.setattr(SqliteStore, "delivered", lambda self, event_ids: set())


def serve_states_of_the_former_weights(patch):
    """Let a reload take the next weights, and the states as they are."""

    def take_next(self, about, item_index, start):
        self.set_about(about)

    patch.setattr(NextStates, "take_next", take_next)


def name_the_weights_of_a_reload_later(patch):
    """Swap the states in one transaction, and say of which weights they are in the next one."""
    take_next = NextStates.take_next

    def in_two(self, about, item_index, start):
        take_next(self, {}, item_index, start)
        self.set_about(about)

    patch.setattr(NextStates, "take_next", in_two)


def miss_events_during_a_reload(patch):
    patch.setattr(NextStates, "_touch", lambda self, keys: None)


def forget_in_one_of_both_tables(patch):
    patch.setattr(NextStates, "_delete_second", lambda self, rows: None)


def keep_the_table_of_a_killed_reload(patch):
    patch.setattr(NextStates, "_drop_second_tables", lambda self: None)


# With the first seed that finds each, and some more where a step of the schedule has changed since.
MUTATIONS = {
    read_any_wal: 260,
    read_the_wal_of_another_file: 212,
    refuse_the_first_wal: 14,
    refuse_the_journal_of_a_new_file: 22,
    go_on_in_the_wal_of_a_killed_start: 1446,
    begin_a_rebuild_without_a_mark: 3,
    fail_for_one_damaged_state: 18,
    ignore_damaged_states: 9,
    ignore_lost_files: 1,
    leave_traces_in_the_wal: 4,
    leave_traces_in_unused_parts_of_pages: 20,
    keep_the_bytes_of_deleted_rows: 0,
    believe_a_clock_that_jumps: 109,
    commit_without_sync: 5,
    count_a_second_delivery: 8,
    serve_states_of_the_former_weights: 0,
    name_the_weights_of_a_reload_later: 35,
    miss_events_during_a_reload: 0,
    forget_in_one_of_both_tables: 39,
    keep_the_table_of_a_killed_reload: 10,
}
MORE = 50


def run_seeds(seeds):
    for seed in seeds:
        schedule.run_seed(seed)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_simulator_finds_a_fault_that_is_put_back(mutation, monkeypatch):
    first = MUTATIONS[mutation]
    mutation(monkeypatch)
    with pytest.raises(schedule.RunError, match=r"\nseed \d+: "):
        run_seeds(range(first, first + MORE))
