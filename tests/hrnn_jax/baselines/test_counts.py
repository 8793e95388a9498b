"""The mixture of counts: compared with its definition in fractions, and with values by hand."""

import dataclasses
import fractions
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from hrnn_jax.baselines import by_name, counts
from hrnn_jax.config import CountsConfig, EvaluationConfig
from tests.helpers import logs, timed_logs
from tests.helpers.timed_logs import N_ITEMS
from tests.hrnn_jax.baselines.in_chunks import in_chunks

F = fractions.Fraction
WEIGHTS = strategies.sampled_from([0.0, 0.25, 1.0, 3.0])
CONFIGS = strategies.builds(
    CountsConfig,
    half_life=strategies.sampled_from([0.5, 1.0]),  # ages halve in whole steps
    markov_weight=WEIGHTS,
    rules_weight=WEIGHTS,
    cosine_weight=WEIGHTS,
    neighbours=strategies.integers(1, 3),
)


def shares(values):
    """Divide by the sum; nothing where that is 0."""
    total = sum(values)
    return [value / total if total else F(0) for value in values]


def plain_scores(users, user, current, config):
    """Score the items for one case; `current` is its session before the target."""
    train = [items for sessions in users for _, items in sessions[:-1]]
    past = [item for _, items in users[user][:-1] for item in items] + current
    last = current[-1]
    faded, markov, rules, cosine = ([F(0)] * N_ITEMS for _ in range(4))
    for age, item in enumerate(reversed(past)):
        faded[item] += F(1, 2 ** int(age / config.half_life))
    for items in train:
        for x, before in enumerate(items):
            for steps, item in enumerate(items[x + 1 : x + 11], start=1):
                markov[item] += before == last and steps == 1
                rules[item] += F(before == last, steps)
    with_item = [sum(item in items for items in train) for item in range(N_ITEMS)]
    for item in range(N_ITEMS):
        both = sum(item in items and last in items for items in train)
        if item != last and both:
            cosine[item] = F(math.sqrt(both**2 / (with_item[item] * with_item[last])))
    nearest = sorted(range(N_ITEMS), key=lambda item: (-cosine[item], item))[: config.neighbours]
    cosine = [value if item in nearest else F(0) for item, value in enumerate(cosine)]
    parts = (
        (F(1), shares(faded)),
        (F(config.markov_weight), shares(markov)),
        (F(config.rules_weight), shares(rules)),
        (F(config.cosine_weight), shares(cosine)),
    )
    return [float(sum(w * part[item] for w, part in parts)) for item in range(N_ITEMS)]


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    users=strategies.lists(timed_logs.SESSIONS, min_size=1, max_size=4),
    config=CONFIGS,
    chunk=strategies.sampled_from([1, 50, 4_000_000]),
)
def test_scores_equal_the_definition_in_fractions(users, config, chunk):
    log = timed_logs.of(users)
    parts = in_chunks(counts.scorer(log, config), chunk)
    assert all((part.data > 0).all() for part in parts)
    found = [row for part in parts for row in part.toarray()]
    cases = list(timed_logs.cases(users))
    assert len(found) == len(cases)
    for ours, (user, _, current) in zip(found, cases, strict=True):
        expected = plain_scores(users, user, current, config)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
        np.testing.assert_array_equal(ours > 0, np.array(expected) > 0)


def test_the_past_fades_by_half_in_half_a_life_of_events():
    # Before the target: 0, 1, 2 of the last session and 3, 2 of this one.
    log = logs.of([[[0, 1, 2], [3, 2, 4]]], n_items=5)
    config = CountsConfig(half_life=2.0, markov_weight=0, rules_weight=0, cosine_weight=0)
    score, _ = counts.scorer(log, config)
    root = math.sqrt(0.5)
    faded = np.array([0.25, 0.5 * root, 0.5 + 1, root, 0])
    np.testing.assert_allclose(score(slice(1, 2)).toarray()[0], faded / faded.sum(), rtol=1e-12)


def ranks_of(log):
    return by_name.rank("counts", log, CountsConfig(), EvaluationConfig()).rank


def test_no_other_test_session_is_counted():
    log = logs.random(0, users=20, sessions=5)
    ranks = ranks_of(log)
    others = log.test & (log.user != 3)
    item = np.where(others, (log.item + 1) % log.n_items, log.item).astype(np.int32)
    changed = dataclasses.replace(log, item=item)
    mine = log.user[log.cases] == 3
    np.testing.assert_array_equal(ranks_of(changed)[mine], ranks[mine])


@pytest.mark.parametrize("users", [[], [[[0, 1], [2]]], [[[0]]]])
def test_a_log_without_cases_has_no_ranks(users):
    assert len(ranks_of(logs.of(users))) == 0
