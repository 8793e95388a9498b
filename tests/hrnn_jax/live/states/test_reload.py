"""A reload swaps weights and states together, while events, lists and deletions go on."""

import contextlib
import dataclasses
import itertools
import shutil
import sqlite3
import threading

import pytest

from hrnn_jax import errors
from hrnn_jax.config import RecommenderConfig
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.states import reload
from hrnn_jax.live.store import sqlite_store, state_store
from tests.helpers import live_users, weights


def network(seed, lineage, n_items=live_users.N_ITEMS, mixture=None, **settings):
    """Return a network with drawn weights; items have the highest numbers, in falling order."""
    config = dataclasses.replace(live_users.config(**settings), n_items=n_items)
    items = [f"i{live_users.N_ITEMS - 1 - n}" for n in range(n_items)]
    about = live_users.about(config, items=items, lineage=(lineage,), mixture=mixture)
    return about, weights.drawn(config, seed=seed)


OURS = network(0, "ours")
NEXT = network(1, "next")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "states.sqlite"


@pytest.fixture(autouse=True)
def load(monkeypatch):
    """Let reloads compute few keys at a time, and load what is set in `load["next"]`."""
    loaded = {"next": NEXT}
    monkeypatch.setattr(reload, "_KEYS", 4)
    monkeypatch.setattr(reload, "_FEW", 1)
    monkeypatch.setattr(reload, "compile_programs", lambda network: [])
    monkeypatch.setattr(reload, "load_unchanged", lambda run, **_: loaded["next"])
    return loaded


def oracle(network, events):
    """Return the lists of a recommender that has always had these weights."""
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.observe_many(events)
        return live_users.all_lists(plain)


def assert_lists(live, network, events):
    live_users.assert_same_lists(live_users.all_lists(live), oracle(network, events))


def tables(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {name for [name] in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}


def batches(n, seed=7):
    """Return batches of events that follow those of `random_events(0)` and each other."""
    return [
        [
            dataclasses.replace(event, time=event.time + later, event_id=f"{later}.{i}")
            for i, event in enumerate(live_users.random_events(seed + later, users=9, count=12))
        ]
        for later in range(10_000_000, 10_000_000 * (n + 1), 10_000_000)
    ]


@pytest.mark.parametrize(
    "made",
    [
        NEXT,
        network(1, "next", layers=2),
        network(1, "next", variant="rnn", idle_gap=True),
        network(1, "next", variant="hrnn_all", idle_gap=True, n_items=25),
        network(1, "next", n_items=2),  # most users have only events of items unknown to it
    ],
    ids=["same", "layers", "rnn", "fewer_items", "few_items"],
)
def test_lists_after_a_reload_are_those_of_a_recommender_that_always_had_the_weights(
    path, load, made
):
    load["next"] = made
    events, waiting = live_users.random_events(0), batches(5)
    with Recommender(*OURS, path) as live:
        live.observe_many(events)

        def go_on(progress):
            if waiting and progress.step == "computing states":
                sent = waiting.pop(0)
                events.extend(sent)
                assert set(live.observe_many(sent)) == {"observed"}
                assert set(live.observe_many(sent)) == {"duplicate"}
                assert_lists(live, OURS, events)

        live.reload("next", on_progress=go_on)
        assert not waiting
        assert live.trained == made[0]
        assert_lists(live, made, events)
        assert set(live.observe_many(events[-5:])) == {"duplicate"}
        n_before = len(events)
        events += (more := batches(6)[-1])
        outcomes = live.observe_many(more)
        assert_lists(live, made, events)
    assert tables(path) == {"about", "states", "events"}
    with Recommender(*made, path) as again:
        assert_lists(again, made, events)
        load["next"] = OURS  # and back: no event was lost, also of items that were unknown
        again.reload("ours")
        is_stored = [True] * n_before + [outcome == "observed" for outcome in outcomes]
        events = list(itertools.compress(events, is_stored))
        assert_lists(again, OURS, events)


def test_a_user_whose_newest_events_are_more_than_those_kept_starts_from_the_kept_ones(path):
    """Bug: go on from the state computed first, over the events that are no longer stored."""
    config = RecommenderConfig(kept_events=3)
    first, second = (
        live_users.events(1, 2),
        live_users.events(3, 4, 5, 6, time=live_users.NOW + 300),
    )
    with Recommender(*OURS, path, config=config) as live:
        live.observe_many([*first, Event("i1", "v", live_users.NOW)])
        waiting = [second]

        def go_on(progress):
            if progress.done and waiting:  # the next states of all are there
                live.observe_many(waiting.pop())

        live.reload("next", on_progress=go_on)
        assert not waiting
        with Recommender(*NEXT, state_store.IN_MEMORY) as plain:
            plain.observe_many(second[-3:])
            live_users.assert_same_lists([live.recommend("u")], [plain.recommend("u")])


def copies_at_each_step(path, events, folder, monkeypatch):
    """Copy the file and the -wal, as a kill leaves them, after each transaction of a reload.

    Returns a list that gets the path of each copy, and the number of events acknowledged by then.
    """
    copies = []
    transaction = sqlite_store.SqliteStore._transaction

    @contextlib.contextmanager
    def copied(store):
        with transaction(store):
            yield
        copy = folder / f"{len(copies)}.sqlite"
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{copy}{end}")
        copies.append((copy, len(events)))

    monkeypatch.setattr(sqlite_store.SqliteStore, "_transaction", copied)
    return copies


def test_a_kill_at_any_step_leaves_the_states_of_one_run(path, tmp_path, monkeypatch):
    """Bug: swap the tables in one transaction, and the name of the weights in another one."""
    events, sent = live_users.random_events(0), batches(2)
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        copies = copies_at_each_step(path, events, tmp_path, monkeypatch)

        def go_on(progress):
            if progress.done and sent:
                live.observe_many(sent[0])
                events.extend(sent.pop(0))

        live.reload("next", on_progress=go_on)
    monkeypatch.undo()
    assert not sent
    weights_of = []
    for copy, known in copies:
        found = []
        for network in (OURS, NEXT):
            with contextlib.suppress(errors.InputError), Recommender(*network, copy) as again:
                found.append(network[0].lineage[0])
                stored = sum(n for _, n in again.users())
                assert stored >= known
                assert_lists(again, network, events[:stored])
        weights_of.extend(found)
        assert len(found) == 1
        assert tables(copy) == {"about", "states", "events"}
    n_before = weights_of.count("ours")
    assert n_before > 5
    assert weights_of == ["ours"] * n_before + ["next"] * (len(weights_of) - n_before)
    assert weights_of[-1] == "next"


def test_who_is_forgotten_during_a_reload_is_in_no_state(path):
    events = live_users.random_events(0)
    users = iter([f"u{n}" for n in range(9)])
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        forgotten = []

        def forget(progress):
            if user := next(users, None):
                assert live.forget(user=user)
                forgotten.append(user)
                for end in ("", "-wal"):
                    content = path.with_name(path.name + end).read_bytes()
                    assert not any(f">{name}".encode() in content for name in forgotten)

        live.reload("next", on_progress=forget)
        assert len(forgotten) > 4
        events = [event for event in events if event.user not in forgotten]
        assert_lists(live, NEXT, events)
        assert len(live) == len({event.user for event in events})


def test_lists_during_a_reload_are_of_one_run_each(path):
    """Each list equals that of one of both, and the last one that of the next run."""
    events = live_users.random_events(0)
    lists = []
    expected = [oracle(network, events) for network in (OURS, NEXT)]
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        started, ended = threading.Event(), threading.Event()

        def ask():
            while not ended.is_set():
                lists.append(live_users.all_lists(live))
                started.set()

        def send():
            for number, batch in enumerate(batches(1000)):
                if ended.is_set():
                    return
                live.observe_many([dataclasses.replace(e, user=f"w{number % 9}") for e in batch])

        threads = [threading.Thread(target=call) for call in (ask, send)]
        for thread in threads:
            thread.start()
        started.wait()
        live.reload("next")
        last = live_users.all_lists(live)
        ended.set()
        for thread in threads:
            thread.join()
    live_users.assert_same_lists(last, expected[1])
    for made in lists:
        is_next = made[0][0][0] == expected[1][0][0][0]
        live_users.assert_same_lists(made, expected[is_next])


def test_a_reload_that_fails_leaves_the_run_and_its_states(path, tmp_path, load, monkeypatch):
    events = live_users.random_events(0)
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        live.export_states(tmp_path / "export")

        def fail(progress):
            if progress.done:
                raise errors.StorageError("no room")

        with pytest.raises(errors.StorageError, match="no room"):
            live.reload("next", on_progress=fail)
        with pytest.raises(errors.InputError, match="a reload is under way: wait for its end"):
            live.reload("next", on_progress=lambda progress: live.reload("next"))

        def replace(progress):
            if progress.done:
                live.import_states(tmp_path / "export")

        with pytest.raises(errors.InputError, match="were replaced during the reload"):
            live.reload("next", on_progress=replace)
        assert live.trained == OURS[0]
        assert_lists(live, OURS, events)
        live.observe_many(batches(1)[0])
        assert_lists(live, OURS, [*events, *batches(1)[0]])
        live.reload("next")
        assert_lists(live, NEXT, [*events, *batches(1)[0]])
    assert tables(path) == {"about", "states", "events"}


def test_a_run_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.undo()
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{}")
    monkeypatch.setattr(
        reload, "load_run", lambda folder, **_: (folder / "recipe.json").write_text("{ }")
    )
    with pytest.raises(errors.InputError, match="run has changed while it was read"):
        reload.load_unchanged(run)


@pytest.mark.parametrize("ask", ["lists", "history"])
def test_an_answer_whose_states_were_read_before_the_swap_is_of_the_former_run(path, ask):
    """Bug: take the state under the lock, and rank by the weights in use after it."""
    events = live_users.random_events(0)
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        call = {
            "lists": lambda: live_users.all_lists(live),
            "history": lambda: [step.recommended for step in live.history("u0")],
        }[ask]
        before, exclusive, waiting = call(), live._states.exclusive, ["next"]
        live._states.store.cached = lambda keys: {}

        @contextlib.contextmanager
        def followed_by_a_reload():
            with exclusive():
                yield
            if waiting:
                live.reload(waiting.pop())

        live._states.exclusive = followed_by_a_reload
        live_users.assert_same_lists(call(), before)
        assert live.trained == NEXT[0]


def test_a_list_of_a_state_in_memory_is_of_the_weights_that_made_it(path):
    """Bug: take the weights, and then a state that a reload has put into memory meanwhile."""
    events = live_users.random_events(0)
    with Recommender(*OURS, path) as live:
        live.observe_many(events)
        cached, waiting = live._states.store.cached, ["next"]

        def after_a_reload(keys):
            if waiting:
                live.reload(waiting.pop())
                live_users.all_lists(live)
            return cached(keys)

        live._states.store.cached = after_a_reload
        live_users.assert_same_lists(live_users.all_lists(live), oracle(NEXT, events))
