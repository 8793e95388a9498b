"""STAN and VSTAN: compared with their formulas in plain Python, and with values by hand."""

import dataclasses
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from hrnn_jax.baselines import by_name, stan
from hrnn_jax.config import EvaluationConfig, StanConfig
from tests.helpers import logs, timed_logs
from tests.helpers.timed_logs import N_ITEMS
from tests.hrnn_jax.baselines.in_chunks import in_chunks

CONFIGS = strategies.builds(
    StanConfig,
    neighbours=strategies.integers(1, 4),
    sample_size=strategies.integers(1, 5),
    lambda_spw=strategies.sampled_from([0.4525, 0.9, 7.24]),
    lambda_snh=strategies.sampled_from([1e-5, 3e-5, 1.0]),
    lambda_inh=strategies.sampled_from([0.4525, 2.05]),
    lambda_ipw=strategies.sampled_from([0.0, 0.7, 3.62]),
    lambda_idf=strategies.sampled_from([0.0, 1.0, 5.0]),
    extend=strategies.sampled_from([0, 0, 1, 3, 20]),
    boost=strategies.sampled_from([0.0, 0.5, 3.0]),
    remind_weight=strategies.sampled_from([0.0, 0.5, 2.0]),
    remind_sessions=strategies.integers(1, 3),
)
VSTAN = StanConfig(extend=0, boost=0.0, remind_weight=0.0)
PLAIN = dataclasses.replace(VSTAN, lambda_ipw=0.0, lambda_idf=0.0)  # STAN


def plain_scores(users, known, time, case, config):
    """Score the items for one case of a time: its user, its target, and its session before that."""
    user, _, current = case
    before = [item for _, items in users[user][:-1] for item in items]
    missing = max(config.extend - len(current), 0)
    current = before[max(len(before) - missing, 0) :] + current
    trained = [*timed_logs.trained(users, known)]
    past = [
        (start + len(items) - 1, number, items, goes_on and owner == user)
        for number, (owner, goes_on, start, items) in enumerate(trained)
    ]
    n_sessions = len(past)
    looked = [t for t in sorted(past, reverse=True) if {*t[2]} & {*current} and not t[3]]
    n = len(current)
    places = {item: place for place, item in enumerate(current, start=1)}
    weight = {item: math.exp((place - n) / config.lambda_spw) for item, place in places.items()}
    norm = math.sqrt(sum(w**2 for w in weight.values()))
    sims = []
    for last, number, items, _ in looked[: config.sample_size]:
        cosine = sum(weight[item] for item in {*items} & {*current})
        cosine /= norm * math.sqrt(len({*items}))
        days = (time - last) / 86_400
        boosted = 1 + config.boost * (trained[number][0] == user)
        sims.append((boosted * cosine * math.exp(-days / config.lambda_snh), items))
    # Equal ones stay in their order: the more recent first.
    sims.sort(key=lambda pair: -round(math.log(pair[0]), 9))
    scores = dict.fromkeys(range(N_ITEMS), 0.0)
    for sim, items in sims[: config.neighbours]:
        last_place = {item: place for place, item in enumerate(items, start=1)}
        star = max(last_place[item] for item in {*items} & {*current})
        back = n - max(places[item] for item in {*items} & {*current})
        for item, place in last_place.items():
            score = sim * math.exp(-abs(place - star) / config.lambda_inh)
            if config.lambda_ipw:
                score *= math.exp(-back / config.lambda_ipw)
            with_item = sum(item in t[2] for t in past)
            scores[item] += score * (1 + config.lambda_idf * math.log(n_sessions / with_item))
    peak = max(scores.values()) or 1
    ages = range(1, config.remind_sessions + 1)
    own = [t for t in trained if t[0] == user]
    for age, (_, goes_on, _, items) in zip(ages, reversed(own), strict=False):
        for item in set() if goes_on else {*items}:
            part = 1 / age / sum(1 / n for n in ages)
            scores[item] += config.remind_weight * peak * part
    return np.array([*scores.values()])


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    users=strategies.lists(timed_logs.SESSIONS, min_size=1, max_size=4),
    config=CONFIGS,
    chunk=strategies.sampled_from([1, 50, 4_000_000]),
    known=strategies.sampled_from([0, 0, 1, 3]),
)
def test_scores_equal_the_formulas(users, config, chunk, known):
    log = timed_logs.of(users, known)
    found = in_chunks(stan.scorer(log, config), chunk)
    found = [row for rows in found for row in rows.toarray()]
    expected = [
        plain_scores(users, known, log.time[event], case, config)
        for event, case in zip(log.cases, timed_logs.cases(users, known), strict=True)
    ]
    assert len(found) == len(expected)
    for ours, plain in zip(found, expected, strict=True):
        assert (ours >= 0).all()
        np.testing.assert_array_equal(ours > 0, plain > 0)
        if plain.any():
            np.testing.assert_allclose(ours / ours.max(), plain / plain.max(), rtol=1e-9)


def last_scores(log, config):
    """Score all items for the last case of a log, as parts of the largest score."""
    score, costs = stan.scorer(log, config)
    scores = score(slice(len(costs) - 1, len(costs))).toarray()[0]
    return scores / scores.max()


# The current session is 0, 1, 0, 2 at its last target: w(1) = exp(-2 / 2), w(0) = exp(-1 / 2),
# w(2) = 1. Training sessions start a day apart, the second user's after the first user's.
USERS = [[[0, 1, 3], [4, 2], [9]], [[5, 6, 5, 1, 7], [0, 1, 0, 2, 9]]]
E1 = math.exp(-0.5)
E2 = math.exp(-1)


def test_scores_by_hand():
    config = dataclasses.replace(PLAIN, lambda_spw=2.0, lambda_snh=1e9, lambda_inh=2.0)
    # {0, 1, 3}: the last shared item is 1, at place 2; {4, 2}: 2, at place 2; {5, 6, 5, 1, 7}: 1 at
    # place 4, 5 is last at place 3.
    first, second, third = (E1 + E2) / math.sqrt(3), 1 / math.sqrt(2), E2 / math.sqrt(4)
    expected = np.zeros(10)
    expected[[0, 1, 3]] += first * np.array([E1, 1, E1])
    expected[[4, 2]] += second * np.array([E1, 1])
    expected[[5, 6, 1, 7]] += third * np.array([E1, E2, 1, E1])
    scores = last_scores(logs.of(USERS, n_items=10), config)
    np.testing.assert_allclose(scores, expected / expected.max(), rtol=1e-6)


def test_the_user_of_u_vstan_by_hand():
    """One user had 0 and 1, another one 0 and 2; after 4, in the next session, came 0."""
    log = logs.of([[[0, 1], [3, 4], [0, 9]], [[0, 2], [9]]], n_items=10)

    def scores(**settings):
        config = dataclasses.replace(PLAIN, lambda_snh=1e9, lambda_inh=1e9, **settings)
        score, _ = stan.scorer(log, config)
        found = score(slice(0, 1)).toarray()[0]
        return found / found[2]

    assert scores()[[1, 3]].tolist() == pytest.approx([1, 0])
    assert scores(boost=0.5)[[1, 3]].tolist() == pytest.approx([1.5, 0])
    # The user's last two events are 4 and 0: the session of 3 and 4 is a neighbour, a step back.
    extended = scores(extend=2, lambda_spw=2.0)
    assert extended[[1, 3]].tolist() == pytest.approx([1, E1])
    # The largest score is 2, of item 0 in both neighbours; of 1/1 + 1/2 the last session has 2/3.
    reminded = scores(remind_weight=0.5, remind_sessions=2)
    assert reminded[[1, 3]].tolist() == pytest.approx([1 + 1 / 3, 2 / 3])


def test_an_older_session_weighs_less():
    log = logs.of([[[0, 1], [0, 2], [0, 3], [9]], [[0, 8]]], n_items=10)
    time = log.time.copy()
    time[0:6] = np.repeat([10, 8, 4], 2) * 86_400
    config = dataclasses.replace(PLAIN, lambda_snh=2.0)
    scores = last_scores(dataclasses.replace(log, time=time), config)
    np.testing.assert_allclose(
        scores[[1, 2, 3]] / scores[1], [1, math.exp(-1), math.exp(-3)], rtol=1e-12
    )


def test_vstan_prefers_neighbours_with_the_latest_item_and_rare_items():
    # Of four sessions, 3 is in two and 4 in one; both sessions of 0 and 1 have two items.
    log = logs.of([[[0, 3], [1, 4], [3, 5], [6, 7], [9]], [[0, 1, 8]]], n_items=10)
    config = dataclasses.replace(PLAIN, lambda_spw=1e6, lambda_snh=1e9)
    scores = last_scores(log, config)
    np.testing.assert_allclose(scores[3] / scores[4], 1, rtol=1e-5)
    scores = last_scores(log, dataclasses.replace(config, lambda_ipw=2.0))
    np.testing.assert_allclose(scores[3] / scores[4], E1, rtol=1e-5)
    scores = last_scores(log, dataclasses.replace(config, lambda_idf=2.0))
    rare = (1 + 2 * math.log(4 / 2)) / (1 + 2 * math.log(4))
    np.testing.assert_allclose(scores[3] / scores[4], rare, rtol=1e-5)


def test_times_far_apart_do_not_overflow():
    """Bug: a session's weight by its time against the case's."""
    log = logs.of([[[0, 1], [9]], [[0, 8]]], n_items=10)
    for years in (-50, 50):
        time = log.time.copy()
        time[:2] += years * 365 * 86_400
        found = last_scores(dataclasses.replace(log, time=time), PLAIN)
        assert found[0] == 1
        assert found[1] > 0


def test_scores_below_the_smallest_number_are_no_entries():
    log = logs.of([[[0, 1], [9]], [[0, 2, 8]]], n_items=10)
    config = dataclasses.replace(PLAIN, lambda_inh=1e-5)
    score, _ = stan.scorer(log, config)
    rows = score(slice(0, 2))
    assert rows.indices.tolist() == [0, 0]
    assert (rows.data > 0).all()


def ranks_of(log, config):
    return by_name.rank("u_vstan", log, config, EvaluationConfig()).rank


@pytest.mark.parametrize("config", [PLAIN, StanConfig(neighbours=20, sample_size=30)])
def test_no_test_session_is_a_neighbour(config):
    log = logs.random(0, users=30, sessions=6)
    ranks = ranks_of(log, config)
    rng = np.random.default_rng(1)
    for user in range(0, 30, 5):
        others = log.test & (log.user != user)
        item = np.where(others, rng.integers(log.n_items, size=len(log)), log.item)
        changed = dataclasses.replace(log, item=item.astype(np.int32))
        mine = log.user[log.cases] == user
        np.testing.assert_array_equal(ranks_of(changed, config)[mine], ranks[mine])


def test_equal_items_have_equal_scores():
    """Items that stand in the same neighbours at the same distances, in another order of places."""
    rng = np.random.default_rng(0)
    past = [[0, 8, 1, 9, 2] if rng.random() < 0.5 else [0, 9, 1, 8, 2] for _ in range(40)]
    log = logs.of([*[[s, [3]] for s in past], [[1, 4]]], n_items=10)
    scores = last_scores(log, dataclasses.replace(PLAIN, lambda_snh=0.7))
    assert scores[8] == scores[9] > 0  # each a step from 1


@pytest.mark.parametrize("extend", [0, 10])
def test_costs_bound_the_entries_of_each_case(extend):
    log = logs.random(0, users=20, sessions=25, events=60, n_items=70)
    score, costs = stan.scorer(log, StanConfig(neighbours=20, sample_size=50, extend=extend))
    entries = score(slice(0, len(costs)))
    assert np.all(np.diff(entries.indptr) <= costs)


@pytest.mark.parametrize("users", [[], [[[0, 1], [2]]], [[[0]]]])
def test_a_log_without_cases_has_no_ranks(users):
    assert len(ranks_of(logs.of(users), StanConfig())) == 0


def test_without_training_sessions_no_item_scores():
    log = logs.of([[[0, 1]]], n_items=4)
    assert ranks_of(log, StanConfig()).tolist() == [4]
