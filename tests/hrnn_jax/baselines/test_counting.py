"""Counting baselines: compared with plain Python, with values by hand, and their memory."""

import collections
import fractions
import functools
import itertools
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from hrnn_jax.baselines import counting, sparse_ranking
from hrnn_jax.config import EvaluationConfig, ItemKnnConfig
from hrnn_jax.event_log import EventLog

N_ITEMS = 6
SCORERS = (
    counting.ppop_scorer,
    functools.partial(counting.item_knn_scorer, knn=ItemKnnConfig()),
    functools.partial(counting.rules_scorer, max_steps=1),
    counting.rules_scorer,
)


def make_log(users, n_items=N_ITEMS):
    """Make the log of `users`, a list of users of sessions of items; the last session is held out.

    Users and sessions are numbered from 5 and 7: their numbers mean nothing.
    """
    rows = []
    numbers = itertools.count(7)
    for user, sessions in enumerate(users, start=5):
        for left, session in zip(reversed(range(len(sessions))), sessions, strict=True):
            number = next(numbers)
            rows += [(user, number, item, left == 0) for item in session]
    user, session, item, test = zip(*rows, strict=True)
    as_int = [np.array(column, np.int32) for column in (user, session, item)]
    time = 1_600_000_000 + np.arange(len(rows))  # not used by these baselines
    return EventLog(*as_int, time, np.array(test), n_items)


SESSIONS = strategies.lists(
    strategies.lists(strategies.integers(0, N_ITEMS - 1), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)
USERS = strategies.lists(SESSIONS, min_size=1, max_size=4)
CASES = strategies.fixed_dictionaries(
    {
        "users": USERS,
        "candidates": strategies.none() | strategies.integers(1, N_ITEMS),
        "ties": strategies.sampled_from(["against", "for"]),
        "cutoffs": strategies.lists(strategies.integers(1, N_ITEMS + 1), min_size=1, unique=True),
        "chunk": strategies.sampled_from([1, 5, 4_000_000]),
    }
)


def plain_rank(score, target, ties, candidates):
    above = 0
    for item in candidates:
        ahead = score.get(item, 0) > score.get(target, 0)
        level = score.get(item, 0) == score.get(target, 0)
        if item != target and (ahead or (level and ties == "against")):
            above += 1
    return 1 + above


def plain_cases(users):
    """Give each test case: its target, the item before it, the user's items up to there."""
    for sessions in users:
        before = [item for session in sessions[:-1] for item in session]
        last = sessions[-1]
        for n in range(1, len(last)):
            yield last[n], last[n - 1], before + last[:n]


def train_sessions(users):
    return [session for sessions in users for session in sessions[:-1]]


def ranking(log, scorer, *, ties="against", cutoffs=(1,), candidates=None):
    return sparse_ranking.rank_cases(
        log, scorer(log), EvaluationConfig(cutoffs, ties=ties, candidates=candidates)
    )


def check(scorer, case, scores):
    """Compare with `scores`, for each test case a dictionary of those that are not 0."""
    log = make_log(case["users"])
    candidates, ties, cutoffs = case["candidates"], case["ties"], case["cutoffs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ranking, "CHUNK_ENTRIES", case["chunk"])
        found = ranking(log, scorer, ties=ties, cutoffs=tuple(cutoffs), candidates=candidates)
    targets = [target for target, *_ in plain_cases(case["users"])]
    assert log.item[log.cases].tolist() == targets
    assert np.all(log.test[log.cases])
    candidates = log.most_supported(candidates).tolist()
    shown = np.zeros((len(cutoffs), N_ITEMS), int)
    ranks = []
    for target, score in zip(targets, scores, strict=True):
        ranks.append(plain_rank(score, target, ties, candidates))
        best = sorted(score.keys() & candidates, key=lambda item, score=score: (-score[item], item))
        for row, cutoff in zip(shown, cutoffs, strict=True):
            row[best[:cutoff]] += 1
    assert found.rank.tolist() == ranks
    assert found.shown.tolist() == shown.tolist()


def support_of(case):
    return collections.Counter(i for session in train_sessions(case["users"]) for i in session)


def by_support(after, case):
    """Score each test case by what came `after` its last item, at a tie by the items' support."""
    support = support_of(case)
    return [
        {item: weight + fractions.Fraction(support[item], 10**6) for item, weight in row.items()}
        for row in (after[last] for _, last, _ in plain_cases(case["users"]))
    ]


@hypothesis.given(CASES)
def test_ppop_ranks_as_plain_counting_does(case):
    support = support_of(case)
    scores = []
    for _, _, history in plain_cases(case["users"]):
        count = collections.Counter(history)
        scores.append({item: 1000 * count[item] + support[item] for item in count})
    check(counting.ppop_scorer, case, scores)


@hypothesis.given(CASES, strategies.integers(1, 4))
def test_item_knn_ranks_as_exact_fractions_do(case, neighbours):
    sets = [set(session) for session in train_sessions(case["users"])]
    squares = {}  # exact cosines, squared
    for i in range(N_ITEMS):
        near = {}
        for j in range(N_ITEMS):
            both = sum(i in s and j in s for s in sets)
            if i != j and both:
                either = sum(i in s for s in sets) * sum(j in s for s in sets)
                near[j] = fractions.Fraction(both**2, either)
        kept = sorted(near, key=lambda j, near=near: (-near[j], j))[:neighbours]
        squares[i] = {j: near[j] for j in kept}
    scores = [squares[last] for _, last, _ in plain_cases(case["users"])]
    knn = ItemKnnConfig(neighbours=neighbours)
    check(functools.partial(counting.item_knn_scorer, knn=knn), case, scores)


@hypothesis.given(CASES)
def test_markov_ranks_as_plain_counting_does(case):
    after = collections.defaultdict(collections.Counter)
    for session in train_sessions(case["users"]):
        for item, following in itertools.pairwise(session):
            after[item][following] += 1
    check(functools.partial(counting.rules_scorer, max_steps=1), case, by_support(after, case))


@hypothesis.given(CASES, strategies.integers(1, 5))
def test_sequential_rules_rank_as_exact_fractions_do(case, max_steps):
    after = collections.defaultdict(lambda: collections.defaultdict(fractions.Fraction))
    for session in train_sessions(case["users"]):
        for x, y in itertools.combinations(range(len(session)), 2):
            if y - x <= max_steps:
                after[session[x]][session[y]] += fractions.Fraction(1, y - x)
    scores = by_support(after, case)
    check(functools.partial(counting.rules_scorer, max_steps=max_steps), case, scores)


def test_ppop_counts_the_test_session_up_to_the_target():
    # Item 4 comes once before and once in the test session, item 1 once, item 3 never before.
    log = make_log([[[1, 4], [4, 1, 4, 3]]])
    ranks = ranking(log, counting.ppop_scorer).rank
    assert log.cases.tolist() == [3, 4, 5]
    # Targets 1, 4, 3: 4 leads by 2 to 1; then 2 and 2 with a support of 1 each; then 3 is new.
    assert ranks.tolist() == [2, 2, N_ITEMS]


def test_ppop_breaks_ties_by_support():
    log = make_log([[[0, 1], [2, 0, 1]], [[1, 3], [3]]])
    # Target 0, then 1. First 0, 1, 2 have one each: 1 has the support of 2, 0 of 1, 2 of 0.
    assert ranking(log, counting.ppop_scorer).rank.tolist() == [2, 2]


def test_cosine_by_hand():
    # Item 0 in three sessions, 1 in two, 2 in one; 0 and 1 twice together, 0 and 2 once.
    log = make_log([[[0, 1, 0], [0, 1], [2, 0], [5]]])
    expected = np.zeros((N_ITEMS, N_ITEMS))
    expected[0, 1] = expected[1, 0] = 2 / np.sqrt(3 * 2)
    expected[0, 2] = expected[2, 0] = 1 / np.sqrt(3 * 1)
    np.testing.assert_allclose(counting.cosines(log.train, 300).toarray(), expected)
    expected[0, 2] = 0  # each row keeps its own nearest
    np.testing.assert_allclose(counting.cosines(log.train, 1).toarray(), expected)


def test_equal_cosines_are_equal_numbers():
    # Of the six sessions of item 0, one is the only one of item 1 and three are of the nine of
    # item 2: 1 / sqrt(6 * 1) == 3 / sqrt(6 * 9), which those two expressions are not in float64.
    sessions = [[0, 1], *[[0, 2]] * 3, *[[0]] * 2, *[[2]] * 6]
    similarity = counting.cosines(make_log([[*sessions, [5]]]).train, 300)
    assert 1 / np.sqrt(6 * 1) != 3 / np.sqrt(6 * 9)
    assert similarity[0, 1] == similarity[0, 2] > 0


def test_rules_by_hand():
    # 0 is followed by 1, 0, 1 and by 2 at a distance of 4; the sessions of 5 and 3 hold one event.
    log = make_log([[[0, 1, 0, 1, 2], [5], [3], [4]]])
    expected = np.zeros((N_ITEMS, N_ITEMS))
    expected[0, :3] = [1 / 2, 1 + 1 / 3 + 1, 1 / 4 + 1 / 2]
    expected[1, :3] = [1, 1 / 2, 1 / 3 + 1]
    found = counting.rules(log.train, max_steps=10)
    np.testing.assert_allclose(found.toarray() / 2520, expected)
    expected[0, :3], expected[1, :3] = [0, 2, 0], [1, 0, 1]
    np.testing.assert_array_equal(counting.rules(log.train, max_steps=1).toarray(), expected)


def test_rules_of_equal_weight_are_equal_numbers():
    # Item 1 comes ten steps after 0 ten times, item 2 right after it once.
    far = [0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1]
    found = counting.rules(make_log([[*[far] * 10, [0, 2], [5]]]).train, max_steps=10)
    assert sum([1 / 10] * 10) != 1
    assert found[0, 1] == found[0, 2] > 0


def test_memory_does_not_grow_with_items_squared_nor_with_cases_times_items():
    n_items, n_users = 1_000_000, 400
    rng = np.random.default_rng(0)
    users = [rng.integers(0, n_items, (3, 5)).tolist() for _ in range(n_users)]
    log = make_log(users, n_items)
    tracemalloc.start()
    try:
        for scorer in SCORERS:
            found = ranking(log, scorer, cutoffs=(5,))
            assert len(found.rank) == n_users * 4
            del found  # its counts, [1, V]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6  # a few arrays [V]; [cases, V] of one byte each is 1.6e9


def test_memory_is_bounded_by_the_chunk(monkeypatch):
    # 1000 cases of 1000 to 1999 earlier events each: 1.5 million entries, 12 MB of counts alone.
    log = make_log([[np.arange(1000) % N_ITEMS, np.arange(1001) % N_ITEMS]])
    whole = ranking(log, counting.ppop_scorer, ties="for", cutoffs=(5,))
    monkeypatch.setattr(sparse_ranking, "CHUNK_ENTRIES", 20_000)
    tracemalloc.start()
    try:
        parts = ranking(log, counting.ppop_scorer, ties="for", cutoffs=(5,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(parts.rank, whole.rank)
    np.testing.assert_array_equal(parts.shown, whole.shown)
    assert peak < 3e6


def test_a_log_without_cases_has_no_ranks():
    log = make_log([[[0, 1], [2]]])
    for scorer in SCORERS:
        found = ranking(log, scorer, cutoffs=(1, 5))
        assert len(found.rank) == 0
        assert found.shown.tolist() == [[0] * N_ITEMS] * 2
