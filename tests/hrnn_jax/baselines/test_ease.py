"""EASE: its weights in exact fractions, scores by hand, and the catalogue that is too large."""

import dataclasses
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from hrnn_jax import errors
from hrnn_jax.baselines import by_name, ease
from hrnn_jax.config import EaseConfig, EvaluationConfig
from tests.helpers import logs, timed_logs
from tests.helpers.timed_logs import N_ITEMS
from tests.hrnn_jax.baselines.in_chunks import in_chunks


def inverse(matrix):
    """Invert a positive definite matrix of fractions by Gauss and Jordan."""
    n = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for other in {*range(n)} - {i}:
            factor = rows[other][i]
            rows[other] = [a - factor * b for a, b in zip(rows[other], rows[i], strict=True)]
    return [row[n:] for row in rows]


def plain_weights(users, l2, rows):
    """Return B of the sets of items that users, or sessions, have in training sessions."""
    sets = [{item for _, items in sessions[:-1] for item in items} for sessions in users]
    if rows == "sessions":
        sets = [{*items} for sessions in users for _, items in sessions[:-1]]
    p = inverse(
        [
            [
                Fraction(sum({i, j} <= items for items in sets)) + Fraction(l2) * (i == j)
                for j in range(N_ITEMS)
            ]
            for i in range(N_ITEMS)
        ]
    )
    return [
        [-p[i][j] / p[j][j] if i != j else Fraction(0) for j in range(N_ITEMS)]
        for i in range(N_ITEMS)
    ]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    users=strategies.lists(timed_logs.SESSIONS, min_size=1, max_size=4),
    l2=strategies.sampled_from([0.25, 1.0, 500.0]),
    rows=strategies.sampled_from(["users", "sessions"]),
    chunk=strategies.sampled_from([1, 50, 4_000_000]),
)
def test_scores_equal_the_definition_in_fractions(users, l2, rows, chunk):
    b = plain_weights(users, l2, rows)
    parts = in_chunks(ease.scorer(timed_logs.of(users), EaseConfig(l2=l2, ease_rows=rows)), chunk)
    found = [row for part in parts for row in part.toarray() / ease.UNIT]
    cases = [*timed_logs.cases(users)]
    assert len(found) == len(cases)
    for ours, (user, _, current) in zip(found, cases, strict=True):
        past = users[user][:-1] if rows == "users" else []
        has = {*current, *(item for _, items in past for item in items)}
        scores = [sum(b[i][j] for i in has) for j in range(N_ITEMS)]
        expected = [float(value - min(scores)) for value in scores]
        np.testing.assert_allclose(ours, expected, atol=1e-10)
    assert all((np.diff(part.indptr) <= N_ITEMS).all() for part in parts)


def test_weights_by_hand():
    # X = [[1, 1], [1, 0]]; X^T X + I = [[3, 1], [1, 2]], its inverse [[2, -1], [-1, 3]] / 5.
    log = logs.of([[[0, 1, 0], [2]], [[0], [2]]], n_items=2 + 1)
    found = ease.weights(log.train, EaseConfig(l2=1.0)) / ease.UNIT
    np.testing.assert_allclose(found, [[0, 1 / 3, 0], [1 / 2, 0, 0], [0, 0, 0]], atol=1e-12)


def test_the_items_of_all_training_sessions_and_of_the_open_one_count_once():
    # 0 goes with 3, 1 with 4 and 2 with 5. The user has 0 in training and 1, 1 in the open session;
    # 2 is the target.
    others = [[[a, b], [9]] for a, b in ((0, 3), (1, 4), (2, 5)) for _ in range(3)]
    log = logs.of([*others, [[0], [1, 1, 2]]], n_items=10)
    score, costs = ease.scorer(log, EaseConfig(l2=1.0))
    scores = score(slice(len(costs) - 1, len(costs))).toarray()[0]
    assert scores[4] > scores[3] > scores[5] == scores[9]
    # The user's own row has 0 alone, which makes 3 less certain, and leaves 1 as it is.
    once, _ = ease.scorer(logs.of([*others, [[0], [1, 2]]], n_items=10), EaseConfig(l2=1.0))
    np.testing.assert_array_equal(once(slice(0, 1)).toarray()[0], scores)


def ranks_of(log, config):
    return by_name.rank("ease", log, config, EvaluationConfig()).rank


def test_no_test_session_counts():
    log = logs.random(0, users=30, sessions=6)
    ranks = ranks_of(log, EaseConfig(l2=2.0))
    rng = np.random.default_rng(1)
    for user in range(0, 30, 5):
        others = log.test & (log.user != user)
        item = np.where(others, rng.integers(log.n_items, size=len(log)), log.item)
        changed = dataclasses.replace(log, item=item.astype(np.int32))
        mine = log.user[log.cases] == user
        found = ranks_of(changed, EaseConfig(l2=2.0))
        np.testing.assert_array_equal(found[mine], ranks[mine])


def test_too_many_items_are_refused(monkeypatch):
    monkeypatch.setattr(ease, "MOST_ITEMS", 3)
    with pytest.raises(errors.InputError, match=r"`model`=ease .* 4 items .* 3; .* `min_support`"):
        ease.scorer(logs.of([[[0, 1], [2, 3]]]), EaseConfig())


@pytest.mark.parametrize("users", [[], [[[0, 1], [2]]], [[[0]]]])
def test_a_log_without_cases_has_no_ranks(users):
    assert len(ranks_of(logs.of(users), EaseConfig())) == 0


def test_without_training_sessions_no_item_scores():
    assert ranks_of(logs.of([[[0, 1]]], n_items=4), EaseConfig()).tolist() == [4]
