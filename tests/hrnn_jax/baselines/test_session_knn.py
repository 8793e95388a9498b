"""V-SKNN and V-SKNN_BR: compared with exact fractions, with values by hand, their memory."""

import dataclasses
import fractions
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from scipy import sparse

from hrnn_jax.baselines import session_knn, sparse_ranking
from hrnn_jax.config import EvaluationConfig, SessionKnnConfig
from tests.helpers import logs, timed_logs
from tests.helpers.timed_logs import N_ITEMS

CONFIGS = strategies.builds(
    SessionKnnConfig,
    neighbours=strategies.integers(1, 4),
    sample_size=strategies.integers(1, 5),
    boost=strategies.sampled_from([0.0, 0.5, 2.0]),
    remind_weight=strategies.sampled_from([0.0, 0.5, 3.0]),
    remind_sessions=strategies.integers(1, 3),
)


def ranks_of(log, config, *, ties, candidates=None):
    evaluation = EvaluationConfig(ties=ties, cutoffs=(1,), candidates=candidates)
    return sparse_ranking.rank_cases(log, session_knn.scorer(log, config), evaluation).rank


def plain_scores(users, known, user, current, config):
    """Score the items for one case; `current` is its session before the target."""
    trained = [*timed_logs.trained(users, known)]
    past = [
        (start + len(items), number, owner, set(items), goes_on and owner == user)
        for number, (owner, goes_on, start, items) in enumerate(trained)
    ]
    past.sort(reverse=True)
    places = {item: place for place, item in enumerate(current, start=1)}
    looked = [t for t in past if t[3] & set(current) and not t[4]][: config.sample_size]
    sims = []
    for _, _, owner, items, _ in looked:
        weight = sum(fractions.Fraction(places[item], len(current)) for item in items & set(places))
        sims.append(
            weight / len(places) * (fractions.Fraction(1 + config.boost) ** (owner == user))
        )
    nearest = sorted(range(len(looked)), key=lambda t: -sims[t])[: config.neighbours]
    scores = dict.fromkeys(range(N_ITEMS), fractions.Fraction(0))
    for t in nearest:
        items = looked[t][3]
        step = next(n for n, item in enumerate(reversed(current), start=1) if item in items)
        for item in items:
            scores[item] += sims[t] / step
    peak = max(scores.values()) or 1
    part = [fractions.Fraction(1, age) for age in range(1, config.remind_sessions + 1)]
    own = [t for t in trained if t[0] == user]
    for age, (_, goes_on, _, items) in zip(part, reversed(own), strict=False):
        for item in set() if goes_on else set(items):
            scores[item] += fractions.Fraction(config.remind_weight) * peak * age / sum(part)
    return scores


def plain_rank(scores, target, ties, candidates):
    def ahead(item):
        level = scores[item] == scores[target] and ties == "against"
        return item != target and (scores[item] > scores[target] or level)

    return 1 + sum(map(ahead, candidates))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
    users=strategies.lists(timed_logs.SESSIONS, min_size=1, max_size=4),
    config=CONFIGS,
    ties=strategies.sampled_from(["against", "for"]),
    candidates=strategies.none() | strategies.integers(1, N_ITEMS),
    chunk=strategies.sampled_from([1, 50, 4_000_000]),
    known=strategies.sampled_from([0, 0, 1, 3]),
)
def test_ranks_equal_the_definition_in_fractions(users, config, ties, candidates, chunk, known):
    log = timed_logs.of(users, known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ranking, "CHUNK_ENTRIES", chunk)
        ranks = ranks_of(log, config, ties=ties, candidates=candidates)
    listed = log.most_supported(candidates).tolist()
    assert ranks.tolist() == [
        plain_rank(plain_scores(users, known, user, current, config), target, ties, listed)
        for user, target, current in timed_logs.cases(users, known)
    ]


def last_scores(log, config):
    """Score all items for the last case of a log, as parts of the largest score."""
    score, costs = session_knn.scorer(log, config)
    scores = score(slice(len(costs) - 1, len(costs))).toarray()[0]
    return scores / scores.max()


# The current session is 0, 1, 0, 2 at its last target: w(1) = 2/4, w(0) = 3/4, w(2) = 4/4.
NEIGHBOURS = [[[0, 1, 3], [4, 2], [5, 1, 1], [9]], [[6, 0], [0, 1, 0, 2, 9]]]


def test_scores_by_hand():
    # {0, 1, 3}: sim 5, step 2; {2, 4}: 4, 1; {1, 5}: 2, 3; {0, 6}: 3, 2. In quarters:
    expected = np.array([2.5 + 1.5, 2.5 + 2 / 3, 4, 2.5, 4, 2 / 3, 1.5, 0, 0, 0])
    scores = last_scores(
        logs.of(NEIGHBOURS, n_items=10), SessionKnnConfig(boost=0.0, remind_weight=0.0)
    )
    np.testing.assert_allclose(scores, expected / 4, rtol=1e-14)


def test_neighbours_are_the_nearest_of_the_most_recent():
    log = logs.of(NEIGHBOURS, n_items=10)
    # The two most recent that share an item are {0, 6} and {1, 5}, {0, 6} the nearer.
    scores = last_scores(
        log, SessionKnnConfig(sample_size=2, neighbours=1, boost=0.0, remind_weight=0.0)
    )
    assert np.flatnonzero(scores).tolist() == [0, 6]


def test_the_session_of_a_case_is_neither_its_neighbour_nor_one_of_the_most_recent():
    log = timed_logs.of([[(0, [1, 5])], [(3, [0, 1, 2])]], known=2)
    scores = last_scores(log, SessionKnnConfig(sample_size=1, neighbours=1, remind_weight=1.0))
    assert np.flatnonzero(scores).tolist() == [1, 5]


def test_sessions_are_ordered_by_the_time_of_their_last_event():
    log = logs.of([[[0, 1], [5]], [[0, 2], [5]], [[0, 3]], [[0, 9]]], n_items=10)
    time = np.array([3, 9, 10, 5, 5, 10, 0, 0, 0, 0])
    config = SessionKnnConfig(sample_size=1, boost=0.0, remind_weight=0.0)
    assert last_scores(dataclasses.replace(log, time=time), config)[1] == 1
    time[4] = 9  # as late: then the later in the log
    assert last_scores(dataclasses.replace(log, time=time), config)[2] == 1


def test_boost_and_reminders_by_hand():
    log = logs.of([[[0, 1], [5]], [[3, 4], [0, 2], [2, 7], [0, 9]]], n_items=10)
    config = SessionKnnConfig(boost=0.5, remind_weight=0.5, remind_sessions=2)
    # {0, 1}: sim 1; {0, 2}: 1.5. The peak is that of 0, 2.5; ages 1 and 2 have 2/3 and 1/3 of
    # half of it to give, and age 3 nothing.
    expected = np.zeros(10)
    expected[[0, 1, 2]] = [2.5, 1, 1.5]
    expected[[2, 7]] += 2 / 3 * 0.5 * 2.5
    expected[[0, 2]] += 1 / 3 * 0.5 * 2.5
    np.testing.assert_allclose(last_scores(log, config), expected / expected.max(), rtol=1e-14)


def test_reminders_score_alone_without_neighbours():
    log = logs.of([[[1, 2], [2, 3], [0, 9]]], n_items=10)
    scores = last_scores(log, SessionKnnConfig(remind_weight=0.5, boost=0.0))
    np.testing.assert_allclose(scores[[1, 2, 3]], [1 / 3, 1, 2 / 3], rtol=1e-14)
    assert np.count_nonzero(scores) == 3


@pytest.mark.parametrize("seed", range(3))
def test_vsknn_br_without_boost_and_reminders_equals_vsknn(seed):
    log = logs.random(seed, users=30, sessions=6)
    vsknn = SessionKnnConfig(neighbours=5, boost=0.0, remind_weight=0.0)
    ranks = ranks_of(log, vsknn, ties="for")
    for name, value in (("boost", 0.5), ("remind_weight", 0.5)):
        one = dataclasses.replace(vsknn, **{name: value}, remind_sessions=2)
        assert np.any(ranks_of(log, one, ties="for") != ranks)
        none = dataclasses.replace(one, **{name: 0.0})
        np.testing.assert_array_equal(ranks_of(log, none, ties="for"), ranks)


def test_no_test_session_is_a_neighbour():
    log = logs.random(0, users=30, sessions=6)
    config = SessionKnnConfig(boost=0.5, remind_weight=0.5)
    ranks = ranks_of(log, config, ties="against")
    rng = np.random.default_rng(1)
    for user in range(30):
        others = log.test & (log.user != user)
        item = np.where(others, rng.integers(log.n_items, size=len(log)), log.item)
        changed = dataclasses.replace(log, item=item.astype(np.int32))
        mine = log.user[log.cases] == user
        found = ranks_of(changed, config, ties="against")
        np.testing.assert_array_equal(found[mine], ranks[mine])


def long_log():
    """Draw a log of sessions so long that UNIT is no multiple of their steps and ages."""
    return logs.random(0, users=20, sessions=25, events=60, n_items=70)


LONG = SessionKnnConfig(
    neighbours=20, sample_size=50, boost=0.1, remind_weight=0.3, remind_sessions=20
)


def test_a_case_scored_alone_has_the_same_scores_to_the_bit():
    score, costs = session_knn.scorer(long_log(), LONG)
    together = score(slice(0, len(costs)))
    alone = sparse.vstack([score(slice(n, n + 1)) for n in range(len(costs))])
    assert abs(together - alone).nnz == 0


def test_costs_bound_the_entries_of_each_case():
    # One neighbour brings 51 items, the reminder 40 others.
    few = logs.of([[[*range(51)], [0]], [[*range(60, 100)], [0, 1]]], n_items=100)
    for log, config in (
        (few, SessionKnnConfig(neighbours=1, boost=0.0, remind_weight=0.0)),
        (long_log(), LONG),
    ):
        config = dataclasses.replace(config, remind_weight=0.5)
        score, costs = session_knn.scorer(log, config)
        entries = np.diff(score(slice(0, len(costs))).indptr)
        assert np.all(entries <= costs)


def test_a_repeated_item_looks_up_its_sessions_once():
    log = logs.of([*[[[0, 1], [5]]] * 30, [[0, 0, 0, 0]]])
    _, costs = session_knn.scorer(log, SessionKnnConfig(boost=0.0, remind_weight=0.0))
    assert np.diff(costs).tolist() == [1, 1]  # an event more to read


def test_equal_scores_are_equal_numbers():
    # Of seven items the first has the place 1 and the step 7, the fourth 4 and 4: seven sessions
    # with the one are worth one session with the other, but not if sevenths are summed in float64.
    neighbours = [[[0, 7], [9]]] * 7 + [[[3, 8], [9]]]
    log = logs.of([*neighbours, [[*range(7), 9]]], n_items=10)
    assert sum([1 / 7] * 7) != 4 / 4
    scores = last_scores(log, SessionKnnConfig(boost=0.0, remind_weight=0.0))
    assert scores[7] == scores[8] > 0


def test_scores_leave_room_in_float64():
    # One session at step 1; the ages 1 to 6 share 60, 30, 20, 15, 12 and 10 parts of 147.
    score, _ = session_knn.scorer(
        logs.of([[[0, 1], [0, 1]]]), SessionKnnConfig(boost=0.0, remind_weight=0.0)
    )
    assert score(slice(0, 1)).toarray().tolist() == [[session_knn.UNIT * 147] * 2]


def test_memory_does_not_grow_with_cases_times_items():
    n_items, n_users = 1_000_000, 400
    rng = np.random.default_rng(0)
    log = logs.of(rng.integers(0, n_items, (n_users, 3, 5)).tolist(), n_items=n_items)
    tracemalloc.start()
    try:
        config = SessionKnnConfig(boost=0.5, remind_weight=0.5)
        assert len(ranks_of(log, config, ties="against")) == n_users * 4
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6  # a few arrays [V]; [cases, V] of one byte each is 1.6e9


def test_memory_is_bounded_by_the_chunk(monkeypatch):
    # Each of 299 cases looks at up to 6 * 1000 sessions: 1.8 million entries of 8 bytes.
    rng = np.random.default_rng(0)
    users = [[rng.permutation(N_ITEMS).tolist(), [0]] for _ in range(1000)]
    log = logs.of([*users, [rng.integers(N_ITEMS, size=300).tolist()]])
    whole = ranks_of(log, SessionKnnConfig(boost=0.0, remind_weight=0.0), ties="for")
    monkeypatch.setattr(sparse_ranking, "CHUNK_ENTRIES", 20_000)
    tracemalloc.start()
    try:
        ranks = ranks_of(log, SessionKnnConfig(boost=0.0, remind_weight=0.0), ties="for")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(ranks, whole)
    assert peak < 5e6


@pytest.mark.parametrize("users", [[], [[[0, 1], [2]]], [[[0]]]])
def test_a_log_without_cases_has_no_ranks(users):
    assert (
        len(ranks_of(logs.of(users), SessionKnnConfig(boost=0.0, remind_weight=0.0), ties="for"))
        == 0
    )


def test_without_training_sessions_no_item_scores():
    log = logs.of([[[0, 1]]], n_items=4)
    ranks = ranks_of(log, SessionKnnConfig(remind_weight=0.5, boost=0.0), ties="against")
    assert ranks.tolist() == [4]
