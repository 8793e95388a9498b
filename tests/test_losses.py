"""Losses: closed forms, and padding equals absence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import losses

SCORES = np.array([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4], [-0.6, 0.9, 1.5]], np.float32)
ALL = np.ones(3, bool)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_top1_closed_form():
    r = np.tanh(SCORES.astype(np.float64))
    expected = [
        np.mean([sigmoid(r[i, j] - r[i, i]) + sigmoid(r[i, j] ** 2) for j in range(3)])
        - sigmoid(r[i, i] ** 2) / 3
        for i in range(3)
    ]
    np.testing.assert_allclose(losses.top1(SCORES, ALL), expected, rtol=1e-6)


def test_bpr_closed_form():
    r = np.tanh(SCORES.astype(np.float64))
    expected = [np.mean([-np.log(sigmoid(r[i, i] - r[i, j])) for j in range(3)]) for i in range(3)]
    np.testing.assert_allclose(losses.bpr(SCORES, ALL), expected, rtol=1e-6)


def test_cross_entropy_closed_form():
    e = np.exp(SCORES.astype(np.float64))
    expected = -np.log(np.diagonal(e) / e.sum(axis=1))
    np.testing.assert_allclose(losses.cross_entropy(SCORES, ALL), expected, rtol=1e-6)


def test_full_softmax_closed_form():
    target = np.array([2, 0, 5])
    where = np.array([True, True, False])
    e = np.exp(SCORES.astype(np.float64))
    expected = [-np.log(e[0, 2] / e[0].sum()), -np.log(e[1, 0] / e[1].sum()), 0]
    np.testing.assert_allclose(losses.full_softmax(SCORES, target, where), expected, rtol=1e-6)


@pytest.mark.parametrize("name", losses.SAMPLED)
@pytest.mark.parametrize("garbage", [0.0, 50.0, np.inf, np.nan])
def test_masked_equals_removed(name, garbage):
    where = np.array([True, False, True, True, False])
    scores = np.full((5, 5), garbage, np.float32)
    scores[np.ix_(where, where)] = SCORES

    def total(scores, where):
        return losses.SAMPLED[name](scores, where).sum()

    value, grad = jax.value_and_grad(total)(jnp.array(scores), where)
    expected, expected_grad = jax.value_and_grad(total)(jnp.array(SCORES), ALL)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad[np.ix_(where, where)], expected_grad, atol=1e-7)
    np.testing.assert_array_equal(grad[~where], 0)
    np.testing.assert_array_equal(grad[:, ~where], 0)


@pytest.mark.parametrize("name", losses.SAMPLED)
def test_all_masked_is_zero(name):
    function = losses.SAMPLED[name]
    value, grad = jax.value_and_grad(lambda s: function(s, ~ALL).sum())(jnp.array(SCORES))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)
