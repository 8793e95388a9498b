"""Losses: closed forms, and padding equals absence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import losses
from hrnn_jax.user_batches import NO_ITEM

# Three lanes with two extra negatives.
R = np.array(
    [[0.3, -1.2, 0.7, 0.2, -0.5], [2.0, 0.1, -0.4, 1.1, 0.6], [-0.6, 0.9, 1.5, -0.1, 0.4]],
    np.float32,
)
ALL = np.ones(R.shape, bool)
FUNCTIONS = {
    **{name: function for name, (function, _) in losses.SAMPLED.items()},
    "bpr_max with a penalty": functools.partial(losses.bpr_max, regularisation=0.3),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_lane(term, lanes=range(3)):
    """Apply a formula to each lane's own score and all of its scores, in float64."""
    return [term(np.float64(R[i, i]), R[i].astype(np.float64), i) for i in lanes]


def weights(r, i):
    """The softmax of a lane's scores without its own."""
    e = np.exp(r) * (np.arange(5) != i)
    return e / e.sum()


CLOSED_FORMS = {
    "top1": lambda own, r, i: np.mean(sigmoid(r - own) + sigmoid(r**2)) - sigmoid(own**2) / 5,
    "bpr": lambda own, r, i: np.mean(-np.log(sigmoid(own - r))),
    "top1_max": lambda own, r, i: (weights(r, i) * (sigmoid(r - own) + sigmoid(r**2))).sum(),
    "bpr_max": lambda own, r, i: -np.log((weights(r, i) * sigmoid(own - r)).sum()),
    "bpr_max with a penalty": lambda own, r, i: (
        -np.log((weights(r, i) * sigmoid(own - r)).sum()) + 0.3 * (weights(r, i) * r**2).sum()
    ),
    "cross_entropy": lambda own, r, i: np.log(np.exp(r).sum()) - own,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_closed_form(name):
    expected = by_lane(CLOSED_FORMS[name])
    np.testing.assert_allclose(FUNCTIONS[name](R, ALL), expected, rtol=1e-6)


def test_full_softmax_closed_form():
    target = np.array([2, 0, 7])
    where = np.array([True, True, False])
    e = np.exp(R.astype(np.float64))
    expected = [-np.log(e[0, 2] / e[0].sum()), -np.log(e[1, 0] / e[1].sum()), 0]
    units, bias = np.eye(5, dtype=np.float32), np.zeros(5, np.float32)  # scores are what is scored
    found = losses.full_softmax(R, units, bias, None, target, where)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, np.nan])
@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("confined", [False, True])
def test_full_softmax_has_the_gradient_that_jax_derives(confined, slots, garbage):
    rng = np.random.default_rng(0)
    lanes_, units, n_items = 4, 5, 7
    where = np.array([True, False, True, True])
    target = np.where(where, rng.integers(n_items, size=lanes_), NO_ITEM)
    target[2] = 6
    item = np.array([rng.permutation(n_items)[:slots] for _ in range(lanes_)])
    item[:, -1:] = NO_ITEM
    item[2, :1] = 6  # the target is of the past
    shapes = {"hidden": (lanes_, units), "table": (n_items, units), "bias": n_items}
    given = {name: 5 * rng.normal(size=shape) for name, shape in shapes.items()}
    given["bonus"] = rng.normal(size=item.shape)
    weights = rng.normal(size=lanes_)
    among = jnp.array(rng.integers(2, size=(lanes_, n_items)), bool) if confined else None

    def derived(hidden, table, bias, bonus):
        total = 0.0
        for i in np.flatnonzero(where):
            scores = (table @ hidden[i] + bias).at[item[i]].add(bonus[i], mode="drop")
            if confined:
                scores = jnp.where(among[i].at[target[i]].set(True), scores, -jnp.inf)
            total -= weights[i] * jax.nn.log_softmax(scores)[target[i]]
        return total

    def total(hidden, table, bias, bonus):
        past = (item, bonus) if slots else None
        return weights @ losses.full_softmax(hidden, table, bias, past, target, where, among)

    with jax.enable_x64(True):
        now = {name: jnp.array(value) for name, value in given.items()}
        expected = jax.value_and_grad(derived, range(4))(*now.values())
        for name in ("hidden", "bonus"):
            now[name] = now[name].at[1].set(garbage)
        found = jax.value_and_grad(total, range(4))(*now.values())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, expected)


def test_full_softmax_of_scores_too_large_for_an_exponential():
    hidden = 100 * jnp.eye(2)
    given = jnp.eye(2), jnp.zeros(2), None, jnp.array([0, 0]), jnp.ones(2, bool)
    found, grad = jax.value_and_grad(lambda h: losses.full_softmax(h, *given).sum())(hidden)
    assert found == 100
    np.testing.assert_allclose(grad, [[0, 0], [-1, 1]], atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("garbage", [0.0, 50.0, np.inf, np.nan])
def test_masked_equals_removed(name, garbage):
    """Lanes without a target, and extra negatives that do not count."""
    where, extra = np.array([True, False, True, True, False]), np.array([True, False, True])
    columns = np.append(where, extra)
    scores = np.full((5, 8), garbage, np.float32)
    scores[np.ix_(where, columns)] = R
    among = where[:, None] & columns[None]

    def total(scores, among):
        return FUNCTIONS[name](scores, among).sum()

    value, grad = jax.value_and_grad(total)(jnp.array(scores), among)
    expected, expected_grad = jax.value_and_grad(total)(jnp.array(R), ALL)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad[np.ix_(where, columns)], expected_grad, atol=1e-7)
    np.testing.assert_array_equal(grad[~where], 0)
    np.testing.assert_array_equal(grad[:, ~columns], 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_negative_may_count_for_some_lanes_only(name):
    among = ALL.copy()
    among[1, 4] = False
    found = FUNCTIONS[name](R, among)
    np.testing.assert_allclose(found[::2], FUNCTIONS[name](R, ALL)[::2], rtol=1e-6)
    np.testing.assert_allclose(found[1], FUNCTIONS[name](R[:, :4], ALL[:, :4])[1], rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_masked_is_zero(name):
    value, grad = jax.value_and_grad(lambda r: FUNCTIONS[name](r, ~ALL).sum())(jnp.array(R))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("name", ["top1_max", "bpr_max", "bpr_max with a penalty"])
def test_a_lane_without_a_negative_learns_nothing(name):
    among = np.zeros_like(ALL)
    among[1, 1] = True
    value, grad = jax.value_and_grad(lambda r: FUNCTIONS[name](r, among).sum())(jnp.array(R))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("name", losses.ACTIVATIONS)
def test_activations_keep_the_order_of_scores(name):
    """So that ranks, which are of the scores before, are those of the output."""
    r = losses.ACTIVATIONS[name](jnp.linspace(-3, 3, 50))
    assert (np.diff(r) >= 0).all()
    assert (np.diff(r[25:]) > 0).all()


def test_elu_is_the_published_one():
    np.testing.assert_allclose(
        losses.ACTIVATIONS["elu"](jnp.array([-2.0, 0.5])), [0.5 * (np.exp(-2) - 1), 0.5], rtol=1e-6
    )
