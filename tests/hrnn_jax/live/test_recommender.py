"""Live recommendations equal evaluation's ranks, for any users, in any order and number."""

import collections
import dataclasses
import itertools
import os
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.live import batched_model
from hrnn_jax.live.events import Event, Request
from hrnn_jax.ranking import evaluation
from tests.helpers import frames, live_users, logs, mixtures, weights

pytestmark = pytest.mark.usefixtures("anywhere")
FORMS = [
    ("rnn", {}, False),
    ("rnn_concat", {}, False),
    ("hrnn_init", {}, False),
    ("hrnn_init", {}, True),
    ("hrnn_init", {"layers": 2}, False),
    ("hrnn_init", {"layers": 2, "leak": "carried"}, True),
    ("hrnn_all", {}, False),
    ("hrnn_all", {"user_input": "gates"}, False),
    ("hrnn_all", {"leak": "carried"}, False),
]
EXTENSIONS = [
    ("rnn", {"places": 2, "neighbours": 4, "embedding": "tied"}, False),
    ("hrnn_init", {"places": 3, "neighbours": 5}, True),
    ("hrnn_all", {"embedding": "separate"}, False),
    ("rnn_concat", {"places": 4}, False),
    ("hrnn_init", {"places": 5, "idle_gap": True}, False),
    ("hrnn_all", {"places": 30}, True),
    ("hrnn_all", {"idle_gap": True, "embedding": "tied"}, False),
    ("hrnn_init", {"places": 5, "embedding": "tied", "residual": True}, True),
    ("hrnn_all", {"layers": 2, "embedding": "separate", "residual": True}, False),
    ("rnn", {"idle_gap": True}, False),
    ("rnn_concat", {"idle_gap": True}, False),
]


def by_place(log):
    """Return lists of events: the first of each user, the second of each user, ..."""
    place = collections.Counter()
    waves = collections.defaultdict(list)
    for event, user in enumerate(log.user.tolist()):
        waves[place[user]].append(event)
        place[user] += 1
    return waves.values()


WITHOUT_SESSION_ITEMS = [FORMS[0], FORMS[2], EXTENSIONS[1]]


@pytest.mark.parametrize(
    ("variant", "network", "feed_last_item", "excludes"),
    [
        *((*form, False) for form in FORMS + EXTENSIONS),
        *((*form, True) for form in WITHOUT_SESSION_ITEMS),
    ],
)
def test_live_lists_equal_those_of_evaluation(
    variant, network, feed_last_item, excludes, monkeypatch
):
    # One width for all batches: fewer programs to compile. Other tests cover the widths.
    monkeypatch.setattr(batched_model, "WIDTHS", (20,))
    monkeypatch.setattr(batched_model, "SCORED_WIDTHS", (20,))
    log = logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS)
    idle = np.random.default_rng(3).lognormal(6, 4, len(log)).astype(np.int64)
    log = dataclasses.replace(log, time=live_users.NOW + np.cumsum(np.minimum(idle, 10**6)))
    config = live_users.config(variant, feed_last_item=feed_last_item, **network)
    mixture = mixtures.fitted(log, config)
    expected = evaluation.rank(
        weights.drawn(config),
        log,
        model_config=config,
        mixture=mixture,
        config=EvaluationConfig(exclude_session_items=excludes),
    )
    recommender = live_users.recommender(
        variant=variant,
        network={**network, "feed_last_item": feed_last_item},
        mixture=mixture,
        keep={"exclude_session_items": excludes},
    )
    is_case = np.zeros(len(log), bool)
    is_case[log.cases] = True
    result, shown = {}, np.zeros((1, live_users.N_ITEMS), int)
    for wave in by_place(log):
        cases = [event for event in wave if is_case[event]]
        requests = [Request(user=int(log.user[e]), k=live_users.N_ITEMS) for e in cases]
        for event, ranked in zip(cases, recommender.recommend_many(requests), strict=True):
            listed = [item for item, _ in ranked]
            target = f"i{log.item[event]}"
            result[event] = 1 + (listed.index(target) if target in listed else log.n_items - 1)
            shown[0, [int(str(item)[1:]) for item in listed[:5]]] += 1
        recommender.observe_many(
            [
                Event(
                    f"i{log.item[e]}",
                    int(log.user[e]),
                    float(log.time[e]),
                    session=int(log.session[e]),
                )
                for e in wave
            ]
        )
    assert [result[case] for case in log.cases.tolist()] == expected.rank.tolist()
    np.testing.assert_array_equal(shown, expected.shown)


@pytest.mark.parametrize(
    ("drops", "given", "expected"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_items_of_the_open_session_are_left_out_as_the_recipe_and_the_setting_say(
    drops, given, expected
):
    keep, n = {"exclude_session_items": given}, live_users.N_ITEMS
    live = live_users.recommender(drop_repeats=drops, keep=keep)
    every = {f"i{item}" for item in range(n)}
    for items, hours in (((5, 6), 0), ((1, 2, 3), 5)):
        live.observe_many(live_users.events(*items, time=live_users.NOW + 3600 * hours))
        own = {f"i{item}" for item in items} if expected else set()
        found = live.recommend(user="u", k=n)
        assert {item for item, _ in found} == every - own
        assert len(live.recommend(user="u", k=4)) == 4
        assert {i for i, _ in live.recommend(user="u", k=n, candidates=every)} == every - own
        last = live.history(user="u", k=n)[-1]
        live_users.assert_same_lists([last.recommended], [found])
    before = live.history(user="u", k=n)[0]  # its session had this item alone so far
    assert {item for item, _ in before.recommended} == every - ({"i5"} if expected else set())


@pytest.fixture(scope="module")
def mixed():
    """Return how to make recommenders of a network with a mixture, with drawn weights of it."""
    network = {"places": 4, "neighbours": 6}
    log = logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS)
    config = live_users.config(**network)
    fitted = {drops: mixtures.fitted(log, config, drops_repeats=drops) for drops in (False, True)}

    def make(path=None, *, drops_repeats=False, **settings):
        settings |= {"mixture": fitted[drops_repeats], "drop_repeats": drops_repeats}
        return live_users.recommender(path, network=network, **settings)

    return make


def test_candidates_and_excluded_items_leave_the_probabilities_as_they_are(mixed):
    """Bug: probabilities among the candidates alone."""
    recommender = mixed()
    recommender.observe_many(live_users.events(1, 2, 3, 1, 4, 5, 6))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    np.testing.assert_allclose(np.exp([score for _, score in ranked]).sum(), 1, rtol=1e-5)
    chosen = {f"i{n}" for n in (1, 4, 6, 9, 20, 33)}
    found = recommender.recommend(user="u", k=9, candidates=chosen)
    live_users.assert_same_lists([found], [[row for row in ranked if row[0] in chosen]])
    found = recommender.recommend(user="u", k=9, exclude=chosen)
    live_users.assert_same_lists([found], [[row for row in ranked if row[0] not in chosen][:9]])


def test_an_item_that_cannot_be_next_is_in_no_list(mixed):
    """Those of the open session, where repeats are dropped; in the next one they can be."""
    recommender, n = mixed(drops_repeats=True), live_users.N_ITEMS
    recommender.observe_many(live_users.events(1, 2, 3))
    own = {"i1", "i2", "i3"}
    [step] = recommender.history(user="u", k=n, sessions=1)[-1:]
    for found in (
        recommender.recommend(user="u", k=n),
        recommender.recommend(user="u", k=n, candidates=[f"i{item}" for item in range(n)]),
        step.recommended,
    ):
        assert {item for item, _ in found} == {f"i{item}" for item in range(n)} - own
        assert np.isfinite([score for _, score in found]).all()
    assert recommender.recommend(user="u", k=3, candidates=own) == []
    recommender.observe_many(live_users.events(7, time=live_users.NOW + 10 * live_users.GAP))
    assert own < {item for item, _ in recommender.recommend(user="u", k=n)}


def test_states_with_places_are_kept_in_a_file_and_computed_again(mixed, tmp_path):
    path, events = tmp_path / "states.sqlite", live_users.random_events(2, users=4, count=60)
    with mixed(path) as first:
        for event in events:
            first.observe(item=event.item, user=event.user, time=event.time)
        expected = live_users.all_lists(first, users=5)
    with mixed(path) as again:
        live_users.assert_same_lists(live_users.all_lists(again, users=5), expected)
        again.export_states(tmp_path / "exported")
    together = mixed()
    together.observe_many(events)
    live_users.assert_same_lists(live_users.all_lists(together, users=5), expected)
    with mixed(path, lineage=("others",), rebuild=True) as rebuilt:
        live_users.assert_same_lists(live_users.all_lists(rebuilt, users=5), expected)
    imported = mixed()
    imported.import_states(tmp_path / "exported")
    live_users.assert_same_lists(live_users.all_lists(imported, users=5), expected)


def test_sessions_cut_by_the_gap_equal_sessions_with_ids():
    log = logs.random(4, n_items=live_users.N_ITEMS)
    cut, given = live_users.recommender(), live_users.recommender()
    for user, item, time, session in zip(
        log.user.tolist(), log.item.tolist(), log.time.tolist(), log.session.tolist(), strict=True
    ):
        cut.observe(user=f"u{user}", item=f"i{item}", time=time)
        given.observe(user=f"u{user}", item=f"i{item}", time=time, session=session)
    live_users.assert_same_lists(live_users.all_lists(cut), live_users.all_lists(given))


def test_a_session_gap_is_compared_to_the_microsecond():
    """These times are 8.7 s apart in decimals, and 8.7000000477 in floats. Bug: compare floats."""
    with live_users.recommender(gap_seconds=8.7) as live:
        for n, seconds in enumerate([0.1, 8.8, 17.500001]):
            live.observe(user="u", item=f"i{n}", time=live_users.NOW + seconds)
        assert [step.session for step in live.history("u")] == [0, 0, 1]


def test_idle_time_counts_from_the_last_event_of_a_known_item():
    def after(*events):
        recommender = live_users.recommender(network={"idle_gap": True})
        for item, minute in events:
            recommender.observe(user="u", item=item, time=live_users.NOW + 60 * minute)
        result = recommender.recommend("u", k=live_users.N_ITEMS)
        step = recommender.history("u", k=live_users.N_ITEMS)[-1]  # replays the stored events
        live_users.assert_same_lists([step.recommended], [result])
        return result

    known = [("i1", 0), ("i2", 20), ("i3", 21), ("i4", 81)]
    unknown = [("i1", 0), ("none", 10), ("i2", 20), ("i3", 21), ("none", 50), ("i4", 81)]
    assert after(*unknown[:3]) == after(*known[:2])
    assert after(*known[:2]) != after(("i1", 0), ("i2", 5))
    assert after(*known) != after(*known[:3], ("i4", 200))


def test_events_give_the_same_states_one_by_one_together_and_by_bootstrap():
    events = live_users.random_events(0)
    single, together, loaded = (
        live_users.recommender(),
        live_users.recommender(),
        live_users.recommender(),
    )
    for event in events:
        single.observe(item=event.item, user=event.user, time=event.time)
    together.observe_many(events)
    rows = [(event.user, event.item, event.time) for event in reversed(events)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "ts"], orient="row")
    assert loaded.bootstrap(frame) == {"observed": len(events)}
    expected = live_users.all_lists(single)
    live_users.assert_same_lists(live_users.all_lists(together), expected)
    live_users.assert_same_lists(live_users.all_lists(loaded), expected)


def test_a_history_that_is_imported_again_changes_nothing():
    """As after an interrupted import. Bug: double the events of those who were imported."""
    rows = [(f"u{n}", "i1", live_users.NOW) for n in range(3)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "ts"], orient="row")
    with live_users.recommender() as live:
        assert live.bootstrap(frame[:2]) == {"observed": 2}
        assert live.bootstrap(frame) == {"observed": 1, "known_user": 2}
        assert live.users() == [("u0", 1), ("u1", 1), ("u2", 1)]
        sessions = past(("i1", live_users.NOW, 0, None, live_users.NOW))
        assert live.take_sessions(sessions) == {"observed": 1}
        assert live.take_sessions(sessions) == {"known_user": 1}


def test_a_recommender_is_refused_after_a_fork(monkeypatch):
    """Bug: let two processes write one file, or wait for a lock that nobody will release."""
    live = live_users.recommender()
    live.observe_many(live_users.events(1))
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        for call in (
            lambda: live.observe_many(live_users.events(1)),
            lambda: live.recommend("u"),
            lambda: live.forget("u"),
            lambda: len(live),
        ):
            with pytest.raises(errors.InputError, match="before the fork: load one in this"):
                call()
        live.close()  # leaves the file to the process that opened it
    assert len(live) == 1


def past(*rows):
    """Return the past sessions of one user, from rows of item, time, number, id and end."""
    columns = ["item_id", "ts", "session", "session_id", "end"]
    frame = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    return frame.with_columns(user_id=pl.lit("u"))


@pytest.mark.parametrize("session_id", [None, 1005])
def test_a_live_event_goes_on_with_the_last_past_session_as_the_log_would(session_id):
    """Bug: take the session's number for its id, or its last kept event for its end."""
    now, gap = live_users.NOW, live_users.GAP
    rows = [("i1", now - 9 * gap, 8, 5, now - 9 * gap), ("i2", now, 9, session_id, now + 0.9 * gap)]
    with live_users.recommender() as live:
        assert live.take_sessions(past(*rows, ("none", now, 9, session_id, now))) == {
            "observed": 2,
            "unknown_item": 1,
        }
        live.observe(user="u", item="i3", time=now + 1.8 * gap, session=session_id)
        live.observe(user="u", item="i4", time=now + 3.9 * gap, session=9)
        live.observe(user="u", item="i5", time=now + 3.9 * gap, session=5)
        assert [step.session for step in live.history("u")] == [0, 1, 1, 2, 3]


def test_sessions_of_a_user_at_once_are_replayed_one_after_the_other():
    """As in training, by their first events. Bug: sort the events by time alone."""
    rows = [(f"i{n}", 60 * n, "a" if n % 2 else "b") for n in range(6)]
    frame = pl.DataFrame(rows, schema=["item_id", "ts", "session_id"], orient="row")
    frame = frame.with_columns(user_id=pl.lit("u"), ts=pl.col("ts") + live_users.NOW)
    with live_users.recommender() as live:
        live.bootstrap(frame.sample(fraction=1, shuffle=True, seed=1))
        steps = live.history("u")
    assert [step.item for step in steps] == ["i0", "i2", "i4", "i1", "i3", "i5"]
    assert [step.session for step in steps] == [0, 0, 0, 1, 1, 1]


def test_a_batch_of_users_gets_the_lists_of_each_user_alone():
    recommender = live_users.recommender()
    recommender.observe_many(live_users.random_events(1, users=90, count=400))
    requests = [Request(user=f"u{n}", k=7) for n in range(90)]
    alone = [recommender.recommend(user=request.user, k=7) for request in requests]
    live_users.assert_same_lists(recommender.recommend_many(requests), alone)


def test_warm_up_compiles_what_most_requests_use_and_the_rare_programs_are_all_others(monkeypatch):
    for name, sizes in {
        "WIDTHS": (1, 8),
        "SCORED_WIDTHS": (2, 8),
        "LIST_LENGTHS": (4, 8, 16),
        "CANDIDATE_COUNTS": (2, 16, 64),
    }.items():
        monkeypatch.setattr(batched_model, name, sizes)
    recommender = live_users.recommender()
    names = ("_advance", "_best", "_score", "_anatomy")
    programs: list[Any] = [getattr(batched_model, name) for name in names]
    for program in programs:
        program.clear_cache()  # of other tests

    def compiled():
        return [program._cache_size() for program in programs]

    recommender.warm_up(k=3)
    before = compiled()
    assert before == [2, 4, 0, 0]
    for n, k in [(1, 1), (3, 5), (9, 8), (70, 3)]:
        recommender.observe_many(live_users.random_events(n, users=n, count=4 * n))
        recommender.recommend_many([Request(user=f"u{i}", k=k) for i in range(n)])
    assert compiled() == before
    rare = recommender.rare_programs(k=3)
    for program in rare:
        program()
    after = compiled()
    assert sum(after) == sum(before) + len(rare)  # none twice
    for n, k in [(1, 9), (3, 17), (70, live_users.N_ITEMS)]:
        recommender.recommend_many([Request(user=f"u{i}", k=k) for i in range(n)])
    for n in (1, 2, 3, 17, live_users.N_ITEMS):
        recommender.recommend("u1", candidates=[f"i{item}" for item in range(n)])
    recommender.history("u1", k=30)
    assert compiled() == after


def test_a_user_without_events_gets_the_items_of_the_highest_biases():
    recommender = live_users.recommender()
    bias = np.asarray(weights.drawn(live_users.config()).items.item_bias)
    result = recommender.recommend(user="new", k=live_users.N_ITEMS)
    assert [item for item, _ in result] == [f"i{item}" for item in np.argsort(-bias)]
    np.testing.assert_allclose([score for _, score in result], np.sort(bias)[::-1], rtol=1e-6)


def test_an_anonymous_session_equals_the_first_session_of_a_new_user():
    recommender = live_users.recommender()
    events = live_users.events(1, 2, 3)
    recommender.observe_many([*events, *(event_of_session(e, "s") for e in events)])
    assert recommender.recommend(session="s") == recommender.recommend(user="u")
    assert recommender.users() == [("u", 3)]
    # No gap ends it, and a user of the same id is not changed.
    late = live_users.events(4, user="u", time=live_users.NOW + 10 * live_users.GAP)
    before = recommender.recommend(user="s")
    recommender.observe_many([event_of_session(late[0], "s")])
    assert [step.session for step in recommender.history(session="s")] == [0] * 4
    assert recommender.recommend(user="s") == before


def event_of_session(event, session):
    return Event(event.item, time=event.time, session=session)


def test_a_session_of_one_event_does_not_change_later_recommendations():
    with_one, without = live_users.recommender(), live_users.recommender()
    first, second = (
        live_users.events(1, 2, 3),
        live_users.events(7, 8, time=live_users.NOW + 9 * live_users.GAP),
    )
    with_one.observe_many(
        [*first, *live_users.events(5, time=live_users.NOW + 4 * live_users.GAP), *second]
    )
    without.observe_many([*first, *second])
    live_users.assert_same_lists([with_one.recommend(user="u")], [without.recommend(user="u")])


@pytest.mark.parametrize("n_excluded", [1, 12, 30, live_users.N_ITEMS])
def test_excluded_items_are_replaced_by_the_next_best(n_excluded):
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    out = [item for item, _ in ranked[:n_excluded]]
    result = recommender.recommend(user="u", k=10, exclude=[*out, "i999"])
    live_users.assert_same_lists([result], [ranked[n_excluded:][:10]])


def test_exclude_seen_leaves_out_the_items_of_stored_events():
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    expected = [row for row in ranked if row[0] not in ("i1", "i2", "i3")]
    result = recommender.recommend(user="u", k=live_users.N_ITEMS, exclude_seen=True)
    live_users.assert_same_lists([result], [expected])


@pytest.mark.parametrize("n_candidates", [0, 1, 5, live_users.N_ITEMS])
def test_candidates_are_ranked_among_themselves(n_candidates):
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    chosen = {f"i{3 * n % live_users.N_ITEMS}" for n in range(n_candidates)}
    expected = [row for row in ranked if row[0] in chosen - {"i3"}][:4]
    result = recommender.recommend(user="u", k=4, candidates=[*chosen, "i999"], exclude=["i3"])
    live_users.assert_same_lists([result], [expected])


def test_history_repeats_the_recommendations_of_the_time():
    recommender = live_users.recommender()
    expected = []
    for event in live_users.random_events(5, users=1, count=60):
        recommender.observe(item=event.item, user=event.user, time=event.time)
        expected.append((event, recommender.recommend(user="u0", k=5)))
    steps = recommender.history(user="u0", sessions=10**6, k=5)
    assert [(s.item, s.time) for s in steps] == [(e.item, e.time) for e, _ in expected]
    live_users.assert_same_lists([s.recommended for s in steps], [result for _, result in expected])
    sessions = [s.session for s in steps]
    last = sessions[-1]
    assert last > 1
    assert [s.session for s in recommender.history(user="u0", sessions=2)] == [
        s for s in sessions if s > last - 2
    ]
    assert recommender.history(user="new") == []


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request(user="u", k=0), "k=0"),
        (Request(user="u", k=True), "k=True"),
        (Request(), "no user"),
        (Request(user="u", session="s"), "both"),
        (Request(user="u", exclude="i1"), "list"),
        (Request(user=1.5), "integers or strings"),
    ],
)
def test_an_invalid_request_is_an_error(request_, word):
    with pytest.raises(errors.InputError, match=word):
        live_users.recommender().recommend_many([request_])


def test_ids_are_those_of_the_log_and_equal_if_their_texts_are():
    recommender = live_users.recommender(items=range(live_users.N_ITEMS))
    recommender.observe(user=7, item="3", time=live_users.NOW)
    recommender.observe(user="7", item=4, time=live_users.NOW + 1)
    assert recommender.users() == [("7", 2)]
    result = recommender.recommend(user=7, k=live_users.N_ITEMS)
    assert sorted(item for item, _ in result) == list(range(live_users.N_ITEMS))
    assert recommender.recommend(user="7", exclude=["5", 6], k=live_users.N_ITEMS) == [
        row for row in result if row[0] not in (5, 6)
    ]


def test_counts_hold_the_number_of_events_by_outcome():
    recommender = live_users.recommender()
    events = live_users.events(1, 2, 999)
    outcomes = list(itertools.chain.from_iterable(recommender.observe_many([e]) for e in events))
    assert outcomes == ["observed", "observed", "unknown_item"]
    recommender.observe(user="u", item="i4", time=live_users.NOW)
    assert recommender.counts == {"observed": 3, "unknown_item": 1, "late": 1}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda live: live.history("u", sessions=0), "sessions=0: give a whole number of 1"),
        (lambda live: live.history("u", sessions=2.0), "sessions=2.0"),
        (lambda live: live.history("u", k=2.0), "k=2.0: give a whole number"),
        (lambda live: live.history("u", session="s"), "not both"),
        (lambda live: live.forget("u", session="s"), "not both"),
        (lambda live: live.users(limit=-1), "limit=-1"),
        (lambda live: live.users("\0"), "prefix '\\x00': ids must not contain control characters"),
        (lambda live: live.users("\ud800"), "prefix '\\ud800': ids must not contain"),
        (lambda live: live.recommend("u", k=2.0), "k=2.0: give a whole number of 1 or more"),
        (lambda live: live.recommend("u", exclude=5), "exclude=5: give a list of ids"),
        (
            lambda live: live.recommend("u", candidates=b"12"),
            "candidates=b'12': give a list of ids",
        ),
        (lambda live: live.observe_many([5]), "5: give an `Event`"),
        (lambda live: live.recommend_many([5]), "5: give a `Request`"),
        (lambda live: live.bootstrap("log.csv"), "str: give a frame"),
        *(
            (
                lambda live, time=time: live.observe(user="u", item="i1", time=time),
                "give Unix seconds",
            )
            for time in (np.timedelta64(5, "s"), np.complex64(5), 5j, np.bool_(True), "5")
        ),
    ],
)
def test_an_invalid_argument_of_a_call_is_named_in_one_line(call, says):
    """Bug: a traceback, or a number taken out of bytes or of a complex time."""
    with live_users.recommender() as live:
        live.observe_many(live_users.events(1))
        with pytest.raises(errors.InputError) as raised:
            call(live)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
        assert live.users() == [("u", 1)]


def test_numbers_of_numpy_and_none_are_arguments_like_others():
    with live_users.recommender() as live:
        live.observe(user="u", item="i1", time=np.float64(live_users.NOW))
        expected = live.recommend("u", k=3)
        assert live.recommend("u", k=np.int64(3), exclude=None) == expected
        [step] = live.history("u", sessions=np.int32(1), k=np.int64(3))
        live_users.assert_same_lists([step.recommended], [expected])


@pytest.mark.parametrize("library", frames.LIBRARIES)
def test_a_history_may_be_a_frame_of_any_library(library):
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["i1"], "ts": [live_users.NOW]})
    with live_users.recommender() as live:
        assert live.bootstrap(frames.of_library(frame, library)) == {"observed": 1}


@pytest.mark.parametrize(
    ("column", "bad", "says"),
    [
        ("user_id", "", "row 3: user '': ids have 1 to 256 bytes"),
        ("item_id", "a\nb", "row 3: item 'a\\nb': ids must not contain control"),
        ("session_id", "x" * 257, "row 3: session 'xxx"),
        ("ts", -1.0, "row 3: time -1.0: give Unix seconds"),
        ("ts", float("nan"), "row 3: time nan: give Unix seconds"),
        ("ts", None, "row 3 of the events has no ts"),
        ("ts", 1000.0, "row 3: time 1000.0: is before 1990"),
        ("item_id", "new", "row 3: item 'new' is none of the 40 of the catalogue"),
    ],
)
def test_a_history_with_a_bad_row_changes_nothing_and_names_it(column, bad, says, monkeypatch):
    """Bug: check the events of some hundred users at a time, after others were stored."""
    monkeypatch.setattr("hrnn_jax.live.states.past_events.WIDTHS", (1,))  # users of a transaction
    values = {"user_id": ["a", "b", "c"], "item_id": ["i1"] * 3, "session_id": ["s"] * 3}
    values["ts"] = [float(live_users.NOW)] * 3
    values[column][2] = bad
    with live_users.recommender(any_year=False, keep={"unknown_items": "error"}) as live:
        with pytest.raises(errors.InputError) as raised:
            live.bootstrap(pl.DataFrame(values))
        assert says in str(raised.value)
        assert len(live) == 0


def test_a_missing_id_in_a_column_of_floats_is_named_with_its_row():
    """Bug: look the number up that does not equal itself."""
    frame = pl.DataFrame(
        {"user_id": [1.0, float("nan")], "item_id": ["i1"] * 2, "ts": [live_users.NOW] * 2}
    )
    with (
        live_users.recommender() as live,
        pytest.raises(errors.InputError, match="the events, row 2: user nan: ids must be"),
    ):
        live.bootstrap(frame)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_ids_of_equal_texts_are_one_user_of_a_history(dtype, monkeypatch):
    """Bug: take the events of "42.0" in a later transaction, and leave them out as known."""
    monkeypatch.setattr("hrnn_jax.live.states.past_events.WIDTHS", (1,))
    users = pl.Series(["42", "42.0", "42"], dtype=dtype)
    frame = pl.DataFrame({"user_id": users, "item_id": ["i1", "i2", "i3"]})
    with live_users.recommender() as live:
        assert live.bootstrap(frame.with_columns(ts=live_users.NOW + pl.int_range(3))) == {
            "observed": 3
        }
        assert [step.item for step in live.history(42)] == ["i1", "i2", "i3"]


def test_jax_in_64_bits_is_refused_in_one_line():
    with jax.enable_x64(True), pytest.raises(errors.InputError, match="set to 64 bits"):
        live_users.recommender()
