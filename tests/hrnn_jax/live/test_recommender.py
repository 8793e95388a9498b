"""Live recommendation: what evaluation ranks, for whoever comes, in whatever order and number."""

import collections
import dataclasses
import itertools

import jax
import numpy as np
import polars as pl
import pytest

from hrnn_jax import errors, evaluation
from hrnn_jax.extras import item_neighbours
from hrnn_jax.live import batched_model
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Request
from tests.helpers import live_users, logs, weights

FORMS = [
    ("rnn", {}, False),
    ("rnn_concat", {}, False),
    ("hrnn_init", {}, False),
    ("hrnn_init", {}, True),
    ("hrnn_init", {"layers": 2}, False),
    ("hrnn_all", {}, False),
    ("hrnn_all", {"user_input": "gates"}, False),
]
BEYOND = [
    ("rnn", {"neighbours": 4, "past": 2, "embedding": "tied"}, False),
    ("hrnn_init", {"neighbours": 5, "past": 3}, True),
    ("hrnn_all", {"embedding": "separate"}, False),
    ("rnn", {"past": 3}, False),
    ("rnn_concat", {"past": 4}, False),
    ("hrnn_init", {"past": 5}, False),
    ("hrnn_init", {"past": 30}, True),
    ("hrnn_init", {"past": 5, "idle_gap": True}, True),
    ("hrnn_all", {"idle_gap": True, "embedding": "tied"}, False),
    ("rnn", {"idle_gap": True}, False),
    ("rnn_concat", {"idle_gap": True}, False),
]


def by_session(log):
    """Yield lists of events that can be observed side by side: each user's first, second, ..."""
    place = collections.Counter()
    waves = collections.defaultdict(list)
    for event, user in enumerate(log.user.tolist()):
        waves[place[user]].append(event)
        place[user] += 1
    return waves.values()


@pytest.mark.parametrize(("variant", "network", "feed_last_item"), FORMS + BEYOND)
def test_every_test_case_has_the_rank_that_evaluation_gives_it(variant, network, feed_last_item):
    log = logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS)
    idle = np.random.default_rng(3).lognormal(6, 4, len(log)).astype(np.int64)
    log = dataclasses.replace(log, time=live_users.NOW + np.cumsum(np.minimum(idle, 10**6)))
    config = live_users.config(variant, feed_last_item=feed_last_item, **network)
    table = None
    if config.neighbours:
        table = jax.device_put(item_neighbours.count(log.train, config.neighbours, 2.0))
    expected = evaluation.rank(
        weights.drawn(config),
        log,
        model_config=config,
        table=table,
    ).rank
    recommender = live_users.recommender(
        variant=variant, network={**network, "feed_last_item": feed_last_item}, table=table
    )
    is_case = np.zeros(len(log), bool)
    is_case[log.cases] = True
    found = {}
    for wave in by_session(log):
        cases = [event for event in wave if is_case[event]]
        asked = [Request(user=int(log.user[e]), k=live_users.N_ITEMS) for e in cases]
        for event, ranked in zip(cases, recommender.recommend_many(asked), strict=True):
            found[event] = [item for item, _ in ranked].index(f"i{log.item[event]}") + 1
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
    assert [found[case] for case in log.cases.tolist()] == expected.tolist()


def test_sessions_cut_by_the_gap_are_the_sessions_given():
    log = logs.random(4, n_items=live_users.N_ITEMS)
    cut, given = live_users.recommender(), live_users.recommender()
    for user, item, time, session in zip(
        log.user.tolist(), log.item.tolist(), log.time.tolist(), log.session.tolist(), strict=True
    ):
        cut.observe(user=f"u{user}", item=f"i{item}", time=time)
        given.observe(user=f"u{user}", item=f"i{item}", time=time, session=session)
    live_users.assert_alike(live_users.everything(cut), live_users.everything(given))


def test_the_idle_time_is_that_since_the_last_event_of_a_known_item():
    def after(*events):
        recommender = live_users.recommender(network={"idle_gap": True})
        for item, minute in events:
            recommender.observe(user="u", item=item, time=live_users.NOW + 60 * minute)
        found = recommender.recommend("u", k=live_users.N_ITEMS)
        step = recommender.history("u", k=live_users.N_ITEMS)[-1]  # which replays what is kept
        live_users.assert_alike([step.recommended], [found])
        # What was fed has the time before it; the last item is yet to be fed, and has its own.
        return found

    known = [("i1", 0), ("i2", 20), ("i3", 21), ("i4", 81)]
    unknown = [("i1", 0), ("none", 10), ("i2", 20), ("i3", 21), ("none", 50), ("i4", 81)]
    assert after(*unknown[:3]) == after(*known[:2])
    assert after(*known[:2]) != after(("i1", 0), ("i2", 5))
    assert after(*known) != after(*known[:3], ("i4", 200))


def test_one_by_one_all_at_once_and_by_user_are_the_same():
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
    expected = live_users.everything(single)
    live_users.assert_alike(live_users.everything(together), expected)
    live_users.assert_alike(live_users.everything(loaded), expected)


def test_many_users_get_what_each_gets_alone():
    recommender = live_users.recommender()
    recommender.observe_many(live_users.random_events(1, users=90, count=400))
    requests = [Request(user=f"u{n}", k=7) for n in range(90)]
    alone = [recommender.recommend(user=request.user, k=7) for request in requests]
    live_users.assert_alike(recommender.recommend_many(requests), alone)


def test_nothing_is_compiled_once_warm():
    recommender = live_users.recommender()
    programs = (batched_model._advance, batched_model._best)
    for program in programs:
        program.clear_cache()  # of other tests
    recommender.warm_up(k=10)
    before = [program._cache_size() for program in programs]
    assert min(before) > 0
    for n, k in [(1, 1), (3, 5), (9, 10), (70, 3)]:
        recommender.observe_many(live_users.random_events(n, users=n, count=4 * n))
        recommender.recommend_many([Request(user=f"u{i}", k=k) for i in range(n)])
    assert [program._cache_size() for program in programs] == before


def test_who_has_no_event_gets_what_the_biases_say():
    recommender = live_users.recommender()
    bias = np.asarray(weights.drawn(live_users.config()).items.item_bias)
    found = recommender.recommend(user="new", k=live_users.N_ITEMS)
    assert [item for item, _ in found] == [f"i{item}" for item in np.argsort(-bias)]
    np.testing.assert_allclose([score for _, score in found], np.sort(bias)[::-1], rtol=1e-6)


def test_a_session_of_nobody_is_a_newcomers_first():
    recommender = live_users.recommender()
    events = live_users.events(1, 2, 3)
    recommender.observe_many([*events, *(event_of_session(e, "s") for e in events)])
    assert recommender.recommend(session="s") == recommender.recommend(user="u")
    assert recommender.users() == [("u", 3)]
    # No gap ends it, and no user's state is touched where the ids are the same.
    late = live_users.events(4, user="u", time=live_users.NOW + 10 * live_users.GAP)
    before = recommender.recommend(user="s")
    recommender.observe_many([event_of_session(late[0], "s")])
    assert [step.session for step in recommender.history(session="s")] == [0] * 4
    assert recommender.recommend(user="s") == before


def event_of_session(event, session):
    return Event(event.item, time=event.time, session=session)


def test_a_session_of_one_event_leaves_no_trace():
    with_one, without = live_users.recommender(), live_users.recommender()
    first, second = (
        live_users.events(1, 2, 3),
        live_users.events(7, 8, time=live_users.NOW + 9 * live_users.GAP),
    )
    with_one.observe_many(
        [*first, *live_users.events(5, time=live_users.NOW + 4 * live_users.GAP), *second]
    )
    without.observe_many([*first, *second])
    live_users.assert_alike([with_one.recommend(user="u")], [without.recommend(user="u")])


@pytest.mark.parametrize("n_left_out", [1, 12, 30, live_users.N_ITEMS])
def test_what_is_left_out_makes_room_for_the_next(n_left_out):
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    out = [item for item, _ in ranked[:n_left_out]]
    found = recommender.recommend(user="u", k=10, exclude=[*out, "i999"])
    live_users.assert_alike([found], [ranked[n_left_out:][:10]])


def test_seen_items_are_left_out_if_asked():
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    expected = [row for row in ranked if row[0] not in ("i1", "i2", "i3")]
    found = recommender.recommend(user="u", k=live_users.N_ITEMS, exclude_seen=True)
    live_users.assert_alike([found], [expected])


@pytest.mark.parametrize("n_candidates", [0, 1, 5, live_users.N_ITEMS])
def test_candidates_are_ranked_among_themselves(n_candidates):
    recommender = live_users.recommender()
    recommender.observe_many(live_users.events(1, 2, 3))
    ranked = recommender.recommend(user="u", k=live_users.N_ITEMS)
    chosen = {f"i{3 * n % live_users.N_ITEMS}" for n in range(n_candidates)}
    expected = [row for row in ranked if row[0] in chosen - {"i3"}][:4]
    found = recommender.recommend(user="u", k=4, candidates=[*chosen, "i999"], exclude=["i3"])
    live_users.assert_alike([found], [expected])


def test_history_replays_what_was_recommended():
    recommender = live_users.recommender()
    at_the_time = []
    for event in live_users.random_events(5, users=1, count=60):
        recommender.observe(item=event.item, user=event.user, time=event.time)
        at_the_time.append((event, recommender.recommend(user="u0", k=5)))
    steps = recommender.history(user="u0", sessions=10**6, k=5)
    assert [(s.item, s.time) for s in steps] == [(e.item, e.time) for e, _ in at_the_time]
    live_users.assert_alike([s.recommended for s in steps], [found for _, found in at_the_time])
    sessions = [s.session for s in steps]
    last = sessions[-1]
    assert last > 1
    assert [s.session for s in recommender.history(user="u0", sessions=2)] == [
        s for s in sessions if s > last - 2
    ]
    assert recommender.history(user="nobody") == []


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
def test_what_cannot_be_asked_is_refused(request_, word):
    with pytest.raises(errors.InputError, match=word):
        live_users.recommender().recommend_many([request_])


def test_ids_are_the_log_s_own_and_known_by_their_text():
    recommender = live_users.recommender(items=range(live_users.N_ITEMS))
    recommender.observe(user=7, item="3", time=live_users.NOW)
    recommender.observe(user="7", item=4, time=live_users.NOW + 1)
    assert recommender.users() == [("7", 2)]
    found = recommender.recommend(user=7, k=live_users.N_ITEMS)
    assert sorted(item for item, _ in found) == list(range(live_users.N_ITEMS))
    assert recommender.recommend(user="7", exclude=["5", 6], k=live_users.N_ITEMS) == [
        row for row in found if row[0] not in (5, 6)
    ]


def test_counts_tell_what_became_of_all_events():
    recommender = live_users.recommender()
    events = live_users.events(1, 2, 999)
    outcomes = list(itertools.chain.from_iterable(recommender.observe_many([e]) for e in events))
    assert outcomes == ["observed", "observed", "unknown_item"]
    recommender.observe(user="u", item="i4", time=live_users.NOW)
    assert recommender.counts == {"observed": 3, "unknown_item": 1, "late": 1}
