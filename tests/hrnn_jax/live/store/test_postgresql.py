"""Several processes share states in a database, which can be lost for a while.

Here the processes are threads, each with a recommender and a connection of its own.
"""

import concurrent.futures
import itertools
import logging
import sys
import uuid

import psycopg
import pytest

from hrnn_jax import errors
from hrnn_jax.live.events import Event
from hrnn_jax.live.states import rebuilding, reload
from hrnn_jax.live.store import postgresql
from tests.helpers import live_users, stored_states
from tests.helpers import postgresql as server

OTHER = {"seed": 1, "lineage": ("other",)}


@pytest.fixture
def url():
    with server.database() as made:
        yield made


@pytest.fixture
def gate(url, tmp_path):
    return server.Gate(url, tmp_path)


def together(*functions):
    """Call functions in threads of their own; return what they returned."""
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(60) for future in [pool.submit(one) for one in functions]]


def test_replicas_that_observe_the_same_users_lose_and_reorder_nothing(url):
    """Bug: read a state without a lock; or lock the rows alone, as new users have none."""

    def observe(replica, name):
        for n in range(40):
            users = [f"u{n // 8}", f"u{n // 8 + 1}"]
            replica.observe_many(
                [
                    Event(f"i{(n * 7 + len(user)) % 40}", user, event_id=f"{name}-{n}")
                    for user in (users if name == "a" else users[::-1])  # no deadlock
                ]
            )

    with live_users.recommender(url) as a, live_users.recommender(url) as b:
        together(lambda: observe(a, "a"), lambda: observe(b, "b"))
        lists = live_users.all_lists(a, users=6)
        assert lists == live_users.all_lists(b, users=6)
        rows = {f"u{n}": a._states.store.events(f"uu{n}") for n in range(6)}
    for user, events in rows.items():
        assert [event.place for event in events] == list(range(len(events)))
        for name in "ab":  # each replica's in its order
            own = [int(e.event_id[2:]) for e in events if e.event_id.startswith(name)]
            assert (
                own
                == sorted(own)
                == [n for n in range(40) if n // 8 in (int(user[1:]), int(user[1:]) - 1)]
            )
    with live_users.recommender() as plain:
        for user, events in rows.items():
            plain.observe_many([Event(e.item, user, e.time) for e in events])
        live_users.assert_same_lists(lists, live_users.all_lists(plain, users=6))


def test_one_event_delivered_to_two_replicas_counts_once(url):
    with live_users.recommender(url) as a, live_users.recommender(url) as b:
        for n in range(20):
            event = Event("i1", "u", live_users.NOW + n, event_id=f"{n}")
            outcomes = together(
                lambda event=event: a.observe_many([event])[0],
                lambda event=event: b.observe_many([event])[0],
            )
            assert sorted(outcomes) == ["duplicate", "observed"]
        assert a.users() == [("u", 20)]


def test_a_session_that_another_replica_goes_on_with_is_not_idle(url, monkeypatch):
    """Bug: delete the sessions that were idle when they were looked at."""
    with live_users.recommender(url) as a, live_users.recommender(url) as b:
        a.observe_many([Event("i1", session="s"), Event("i1", session="t")])
        end = float(stored_states.execute(url, "SELECT max(written) AS at FROM states")[0]["at"])
        look = a._states.store.keys_before

        def and_then(*arguments, **settings):
            found = look(*arguments, **settings)
            b.observe(item="i2", session="t")
            return found

        monkeypatch.setattr(a._states.store, "keys_before", and_then)
        keys, _ = a._states.store.keys_before("s", end + 1e-6, after="s", limit=9)
        assert keys == ["ss", "st"]
        assert a._states.store.delete(keys, before=end + 1e-6) == 1
        assert [step.item for step in b.history(session="t")] == ["i1", "i2"]


def test_many_users_of_a_call_take_one_lock_for_all(url, monkeypatch):
    """Bug: one lock for each; the server has room for some thousand."""
    monkeypatch.setattr(postgresql, "_MOST_LOCKS", 3)
    with live_users.recommender(url) as a, live_users.recommender(url) as b:

        def observe(replica, users):
            for n in range(20):
                replica.observe_many([Event(f"i{n}", f"u{user}") for user in range(users)])

        together(lambda: observe(a, 10), lambda: observe(b, 2))
        assert dict(a.users()) == {f"u{n}": 40 if n < 2 else 20 for n in range(10)}


def test_locks_are_taken_in_one_order(url):
    """Bug: in the order of a set, which differs by process: two replicas wait for each other."""

    def lock(replica, keys):
        for _ in range(200):
            with replica._states.store.updating(keys):
                pass

    with live_users.recommender(url) as a, live_users.recommender(url) as b:
        together(lambda: lock(a, ["x", "y"]), lambda: lock(b, ["y", "x"]))


def test_a_lost_database_is_an_error_until_it_is_back(gate):
    with live_users.recommender(gate.url) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected = live_users.all_lists(recommender)
        with gate.closed():
            for call in (
                recommender.check_file,
                lambda: recommender.observe_many(live_users.random_events(1)),
                lambda: recommender.forget(user="u0"),
                lambda: recommender.recommend(user="u0"),
            ):
                with pytest.raises(errors.StorageError, match="cannot be reached") as raised:
                    call()
                assert "\n" not in str(raised.value)
                assert raised.value.public.startswith(
                    "the database of the states cannot be reached"
                )
        recommender.check_file()
        assert live_users.all_lists(recommender) == expected
        assert recommender.observe(user="u0", item="i1") == "observed"


def test_a_restarted_database_costs_no_request(url):
    """Bug: answer the first request after it by an error."""
    with live_users.recommender(url) as recommender:
        for call in (
            lambda: recommender.observe(user="u", item="i1"),
            lambda: recommender.recommend(user="u"),
            lambda: recommender.history(user="u"),
            recommender.check_file,
        ):
            server.drop_connections(url)
            call()


def test_no_state_is_served_or_written_by_weights_that_did_not_make_it(url):
    """Bug: ask for the weights at the start alone."""
    with live_users.recommender(url) as old:
        old.observe_many(live_users.random_events(0))
        old.check_file()
        with live_users.recommender(url, rebuild=True, **OTHER) as new:
            expected = live_users.all_lists(new)
            for call in (
                old.check_file,
                lambda: old.recommend(user="u0"),
                lambda: old.observe(user="u0", item="i1"),
                lambda: old.observe(user="a newcomer", item="i1"),
            ):
                with pytest.raises(errors.StorageError, match="of other weights now"):
                    call()
            assert live_users.all_lists(new) == expected
            assert len(new.users()) == 10


def test_an_interrupted_rebuild_leaves_the_states_as_they_were(url, monkeypatch):
    with live_users.recommender(url) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected = live_users.all_lists(recommender)
    monkeypatch.setattr(rebuilding, "WIDTHS", (4,))  # users of a step
    compute, calls = rebuilding.states_of_events, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(rebuilding, "states_of_events", killed)
    with pytest.raises(KeyboardInterrupt):
        live_users.recommender(url, rebuild=True, **OTHER)
    with live_users.recommender(url) as recommender:
        assert live_users.all_lists(recommender) == expected


def test_a_full_disk_is_an_error_and_changes_nothing(url):
    """The disk is simulated: a trigger raises the server's error of a full one."""
    with live_users.recommender(url) as recommender:
        recommender.observe_many(live_users.random_events(0))
        expected, before = live_users.all_lists(recommender), dict(recommender.counts)
        stored_states.execute(
            url,
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$",
        )
        trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION no_room()"
        stored_states.execute(url, trigger)
        with pytest.raises(errors.StorageError, match=r"cannot be written \(no room\)"):
            recommender.observe_many(live_users.random_events(1))
        assert live_users.all_lists(recommender) == expected
        assert recommender.counts == before
        stored_states.execute(url, "DROP TRIGGER full_disk ON events")
        recommender.observe_many(live_users.random_events(1))


@pytest.mark.parametrize("column", ["carry", "past", "number", "item", "time"])
def test_a_damaged_row_is_computed_again_once(url, column, caplog):
    """Bug: let each replica that reads it write what it has computed, over newer states."""
    values = {"carry": "set_byte(carry, 0, get_byte(carry, 0) # 1)", "past": "carry"}
    with live_users.recommender(url) as a, live_users.recommender(url) as b:
        a.observe_many(live_users.random_events(0))
        expected = live_users.all_lists(a)
        value = values.get(column, "'7'")
        stored_states.execute(url, f"UPDATE states SET {column} = {value} WHERE who = 'uu3'")
        with caplog.at_level(logging.WARNING):
            lists = together(lambda: live_users.all_lists(a), lambda: live_users.all_lists(b))
        for found in lists:
            live_users.assert_same_lists(found, expected)
        assert len(caplog.messages) == 1
        assert "1 damaged state in postgresql://" in caplog.text


def test_other_tables_and_encodings_are_refused(url):
    live_users.recommender(url).close()
    stored_states.execute(url, "UPDATE about SET value = '9' WHERE name = 'format'")
    with pytest.raises(errors.InputError, match="is in format 9, not 3"):
        live_users.recommender(url)
    stored_states.execute(url, "DROP TABLE events")
    with pytest.raises(errors.InputError, match="is in format 9"):
        live_users.recommender(url)
    stored_states.execute(url, "UPDATE about SET value = '3' WHERE name = 'format'")
    with pytest.raises(errors.StorageError, match=r"is damaged \(relation .events. does not exist"):
        live_users.recommender(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://someone:s3cret@127.0.0.1:1/states", "cannot be reached"),
        ("postgresql://someone:s3cret@127.0.0.1:1/states?hots=x", "is no URL of PostgreSQL"),
        # Bug: take these for files, and say that they cannot be opened.
        ("postgresql:/someone:s3cret@127.0.0.1:1/states", "is no URL of PostgreSQL"),
        ("POSTGRESQL://someone:s3cret@127.0.0.1:1/states", "is no URL of PostgreSQL"),
        ("postgresql+psycopg://someone:s3cret@127.0.0.1:1/states", "is no URL of PostgreSQL"),
        (" postgresql://someone:s3cret@127.0.0.1:1/states", "is no URL of PostgreSQL"),
        (
            "postgresql://someone:s3cret@127.0.0.1:1/states?connect_timeout=abc",
            r"cannot be connected to \(.*'abc'\): correct what follows \? in its URL",
        ),
    ],
)
def test_no_message_has_the_password(url, says):
    with pytest.raises((errors.StorageError, errors.InputError), match=says) as raised:
        live_users.recommender(url)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_ids_are_of_any_letters_whatever_encoding_the_url_gives(url):
    with live_users.recommender(f"{url}&client_encoding=LATIN1") as recommender:
        recommender.observe(user="ü✓", item="i1")
        assert recommender.users() == [("ü✓", 1)]


@pytest.fixture
def roles(url):
    names = [f"role_{uuid.uuid4().hex}" for _ in range(2)]
    for name in names:
        stored_states.execute(url, f"CREATE ROLE {name} LOGIN")
    yield names
    stored_states.execute(url, "DROP SCHEMA IF EXISTS hrnn_jax CASCADE")
    for name in names:
        stored_states.execute(url, f"DROP ROLE {name}")


def test_a_schema_that_was_made_for_a_role_gets_its_tables_and_is_closed_to_others(url, roles):
    """Bugs: look for the schema alone, or among those alone that the role has rights on."""
    owner, other = (url.replace("//postgres@", f"//{name}@") for name in roles)
    stored_states.execute(url, f"CREATE SCHEMA hrnn_jax AUTHORIZATION {roles[0]}")
    with live_users.recommender(owner) as recommender:
        recommender.observe(user="u", item="i1")
    says = r"refuses its user \(no right to use the schema hrnn_jax\): grant that"
    with pytest.raises(errors.InputError, match=says):
        live_users.recommender(other)


def test_a_database_that_is_read_only_says_so(url):
    """Bug: ask for room on its disk."""
    name = url.partition("?")[0].rpartition("/")[2]
    stored_states.execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(errors.StorageError) as raised:
        live_users.recommender(url)
    writable = f"{url}&options=-cdefault_transaction_read_only%3Doff"
    stored_states.execute(writable, f"ALTER DATABASE {name} RESET ALL")
    assert "in a read-only transaction): allow that, or give its primary" in str(raised.value)


def test_without_psycopg_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "hrnn_jax.live.store.postgresql")
    with pytest.raises(errors.InputError, match=r"pip install 'hrnn_jax\[postgresql\]'"):
        live_users.recommender("postgresql://u@127.0.0.1/states")


def test_a_commit_waits_for_the_disk_whatever_the_server_s_default(url):
    """Bug: acknowledge events that a power failure of the server takes back."""
    name = url.partition("?")[0].rpartition("/")[2]
    stored_states.execute(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with live_users.recommender(url) as recommender:
        assert recommender._states.store._rows("SHOW synchronous_commit") == [("on",)]


def test_names_of_all_scripts_sort_as_in_a_file(url, tmp_path):
    """Bug: sort by the rules of a language, so that a prefix's end comes before some names."""
    names = ["Z", "a", "ä", "z", "Ω", "é", "e\u0301", "名前", "😀", "\U0010ffff", "_", "%", " x"]
    found = []
    for states in (url, tmp_path / "states.sqlite"):
        with live_users.recommender(states) as recommender:
            recommender.observe_many([Event("i1", name) for name in names])
            found.append(recommender.users())
            assert sorted(itertools.chain.from_iterable(recommender.stored_events())) == sorted(
                (name, 0, "i1") for name in names
            )
    assert found[0] == found[1]
    with psycopg.connect(url) as db:
        [[collation]] = db.execute(
            "SELECT collation_name FROM information_schema.columns "
            "WHERE table_name = 'states' AND column_name = 'who'"
        ).fetchall()
    assert collation == "C"


def test_a_reload_is_refused_before_the_run_is_loaded(url, monkeypatch):
    """Bug: load and compile the next network first."""
    monkeypatch.setattr(reload, "load_unchanged", lambda *_, **__: pytest.fail("it was loaded"))
    with live_users.recommender(url) as live:
        with pytest.raises(errors.InputError, match="for a state file alone"):
            live.reload("next")
        assert live.observe(user="u", item="i1") == "observed"


def test_an_import_that_is_interrupted_has_written_nothing(url):
    """Bug: commit part of a history, which the next start takes for all of it."""
    with live_users.recommender(url) as live, live_users.recommender(url) as other:

        def interrupted():
            with live.alone():
                live.observe_many(live_users.random_events(0))
                assert (len(live), len(other)) == (10, 0)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert len(live) == len(other) == 0
        with live.alone():
            live.observe_many(live_users.random_events(0))
        assert len(other) == 10
