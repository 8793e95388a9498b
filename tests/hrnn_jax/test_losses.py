"""Losses: closed forms, padding equals absence, and the candidates that they compare."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import losses, model
from hrnn_jax.config import TrainConfig
from hrnn_jax.extras import negatives
from hrnn_jax.training.user_batches import NO_ITEM, Steps
from tests.helpers import networks

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
def test_a_sampled_loss_equals_its_closed_form(name):
    expected = by_lane(CLOSED_FORMS[name])
    np.testing.assert_allclose(FUNCTIONS[name](R, ALL), expected, rtol=1e-6)


def test_full_softmax_equals_its_closed_form():
    target = np.array([2, 0, 7])
    where = np.array([True, True, False])
    e = np.exp(R.astype(np.float64))
    expected = [-np.log(e[0, 2] / e[0].sum()), -np.log(e[1, 0] / e[1].sum()), 0]
    # With the unit matrix as output rows, the scores are the representations.
    items = model.Items(None, jnp.eye(5), jnp.zeros(5))
    found = losses.full_softmax(R, items, target, where)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, np.nan])
@pytest.mark.parametrize("restricted", [False, True])
def test_the_gradient_of_full_softmax_equals_the_derived_one(restricted, garbage):
    rng = np.random.default_rng(0)
    lanes_, units, n_items = 4, 5, 7
    where = np.array([True, False, True, True])
    target = np.where(where, rng.integers(n_items, size=lanes_), NO_ITEM)
    target[2] = 6
    shapes = {"hidden": (lanes_, units), "table": (n_items, units), "bias": n_items}
    given = {name: 5 * rng.normal(size=shape) for name, shape in shapes.items()}
    weights = rng.normal(size=lanes_)
    among = jnp.array(rng.integers(2, size=(lanes_, n_items)), bool) if restricted else None

    def derived(hidden, table, bias):
        total = 0.0
        for i in np.flatnonzero(where):
            scores = table @ hidden[i] + bias
            if restricted:
                scores = jnp.where(among[i].at[target[i]].set(True), scores, -jnp.inf)
            total -= weights[i] * jax.nn.log_softmax(scores)[target[i]]
        return total

    def total(hidden, table, bias):
        items = model.Items(None, table, bias)
        return weights @ losses.full_softmax(hidden, items, target, where, among)

    with jax.enable_x64(True):
        now = {name: jnp.array(value) for name, value in given.items()}
        expected = jax.value_and_grad(derived, range(3))(*now.values())
        now["hidden"] = now["hidden"].at[1].set(garbage)
        found = jax.value_and_grad(total, range(3))(*now.values())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, expected)


def test_full_softmax_is_finite_for_scores_too_large_for_exp():
    hidden = 100 * jnp.eye(2)
    items, target = model.Items(None, jnp.eye(2), jnp.zeros(2)), jnp.array([0, 0])

    def total(hidden):
        return losses.full_softmax(hidden, items, target, jnp.ones(2, bool)).sum()

    found, grad = jax.value_and_grad(total)(hidden)
    assert found == 100
    np.testing.assert_allclose(grad, [[0, 0], [-1, 1]], atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("garbage", [0.0, 50.0, np.inf, np.nan])
def test_a_masked_lane_or_candidate_equals_a_removed_one(name, garbage):
    """For lanes without a target, and extra negatives that do not count."""
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
def test_a_negative_can_count_for_some_lanes_alone(name):
    among = ALL.copy()
    among[1, 4] = False
    found = FUNCTIONS[name](R, among)
    np.testing.assert_allclose(found[::2], FUNCTIONS[name](R, ALL)[::2], rtol=1e-6)
    np.testing.assert_allclose(found[1], FUNCTIONS[name](R[:, :4], ALL[:, :4])[1], rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_loss_is_zero_with_all_masked(name):
    value, grad = jax.value_and_grad(lambda r: FUNCTIONS[name](r, ~ALL).sum())(jnp.array(R))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("name", ["top1_max", "bpr_max", "bpr_max with a penalty"])
def test_a_max_loss_without_a_negative_is_zero(name):
    among = np.zeros_like(ALL)
    among[1, 1] = True
    value, grad = jax.value_and_grad(lambda r: FUNCTIONS[name](r, among).sum())(jnp.array(R))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("name", losses.ACTIVATIONS)
def test_activations_keep_the_order_of_scores(name):
    """Ranks, which are of the scores before the activation, are then those of the output."""
    r = losses.ACTIVATIONS[name](jnp.linspace(-3, 3, 50))
    assert (np.diff(r) >= 0).all()
    assert (np.diff(r[25:]) > 0).all()


def test_elu_equals_the_published_form():
    np.testing.assert_allclose(
        losses.ACTIVATIONS["elu"](jnp.array([-2.0, 0.5])), [0.5 * (np.exp(-2) - 1), 0.5], rtol=1e-6
    )


# The candidates of the mini-batch, and extra negatives.

V, H = networks.N_ITEMS, 5
EVERY_ITEM = np.arange(V, dtype=np.int32)


def drawn(n_lanes, seed=0):
    """Return output rows and biases of all items, hidden states [1, B, H] and targets [1, B]."""
    rng = np.random.default_rng(seed)
    items = model.Items(
        item_in=None,
        item_out=jnp.asarray(rng.normal(size=(V, H)), jnp.float32),
        item_bias=jnp.asarray(rng.normal(size=V), jnp.float32),
    )
    hidden = jnp.asarray(rng.normal(size=(1, n_lanes, H)), jnp.float32)
    target = rng.choice(V, size=(1, n_lanes)).astype(np.int32)
    nothing = np.zeros((1, n_lanes), bool)
    opening = np.zeros((1, 0), np.int32)
    return (
        items,
        hidden,
        Steps(target, target, nothing, nothing, ~nothing, 0 * target, 0 * target, opening),
    )


def output_rows(items, item):
    rows = model.gather_rows(items.item_out, item), model.gather_rows(items.item_bias, item)
    return losses.OutputRows(item, *rows)


def sampled(items, extra, hidden, steps, sampler=None, **settings):
    candidates = losses.Candidates(
        target=output_rows(items, steps.target),
        extra=output_rows(items, jnp.asarray(extra)),
    )
    config = networks.training_config(**settings)
    return losses.sampled_loss(candidates, hidden, steps, sampler, config=config)


@pytest.mark.parametrize("restricted", [False, True])
def test_cross_entropy_with_all_items_as_negatives_equals_full_softmax(restricted):
    """One lane, so that no item is a candidate twice; its own target is masked among the extra."""
    sampler = None
    if restricted:  # half of the items are on offer at the time 0
        offer = negatives.Offer(begin=np.arange(V, dtype=np.int32) % 2, end=np.ones(V, np.int32))
        sampler = jax.device_put(
            negatives.sampler(np.ones(V), n_extra=V, alpha=1.0, batch_size=1, offer=offer)
        )
    for seed in range(6):
        items, hidden, steps = drawn(1, seed)
        found = sampled(
            *(items, EVERY_ITEM, hidden, steps, sampler),
            loss="cross_entropy",
            mask_false_negatives=True,
        )
        expected = losses.full_softmax_loss(items, hidden, steps, sampler)
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_masked_false_negative_equals_a_removed_one():
    items, hidden, steps = drawn(3)
    steps = steps._replace(target=np.array([[4, 4, 7]], np.int32))
    extra = np.array([4, 1], np.int32)
    masked = functools.partial(sampled, loss="bpr", mask_false_negatives=True)
    found = masked(items, extra, hidden, steps)
    alone = steps._replace(valid=np.array([[True, False, True]]))
    np.testing.assert_allclose(
        found[0, 0], masked(items, extra[1:], hidden, alone)[0, 0], rtol=1e-6
    )
    assert not np.allclose(found, sampled(items, extra, hidden, steps, loss="bpr"))


@pytest.mark.parametrize("loss", losses.SAMPLED)
def test_extra_negatives_are_further_candidates_of_all_lanes(loss):
    items, hidden, steps = drawn(3)
    extra = np.array([0, 5, 5, 11], np.int32)
    found = sampled(items, extra, hidden, steps, loss=loss)
    index = np.concatenate([steps.target[0], extra])
    scores = hidden[0] @ items.item_out[index].T + items.item_bias[index][None]
    function, activation = losses.SAMPLED[loss]
    r = losses.ACTIVATIONS[activation](scores)
    np.testing.assert_allclose(found[0], function(r, np.ones(r.shape, bool)), rtol=1e-6)
    linear = sampled(items, extra, hidden, steps, loss=loss, activation="linear")
    np.testing.assert_allclose(linear[0], function(scores, np.ones(r.shape, bool)), rtol=1e-6)


def test_regularisation_raises_bpr_max():
    items, hidden, steps = drawn(3)
    plain, penalised = (
        sampled(items, EVERY_ITEM[:0], hidden, steps, loss="bpr_max", regularisation=weight)
        for weight in (0.0, 1.0)
    )
    assert (penalised > plain).all()


def test_the_softmax_of_a_large_catalogue_estimates_the_full_one():
    """The mean over draws of the sum over the candidates equals the sum over all items.

    Bug: count a lane's own item again where it is another lane's or a drawn one.
    """
    support = np.arange(1, V + 1)
    items, hidden, _ = drawn(1)
    n_draws, batch, n_extra = 4000, 6, 10  # lanes besides the one that is looked at
    config = TrainConfig(loss="softmax", extra_negatives=n_extra).for_catalogue(30_000)
    sampler = jax.device_put(
        negatives.sampler(support, n_extra=n_extra, alpha=0.5, batch_size=batch + 1)
    )
    keys = jax.random.split(jax.random.key(0), n_draws)
    extra = jax.vmap(lambda key: negatives.draw(key, sampler, n_extra))(keys)
    # Lane 0 has one target; the others' are drawn as the batch does.
    others = np.random.default_rng(0).choice(V, size=(n_draws, batch), p=support / support.sum())
    own = 3
    scores = np.asarray(hidden[0, 0] @ items.item_out.T + items.item_bias, np.float64)

    @jax.jit
    def total(extra, others):
        target = jnp.concatenate([jnp.array([own], jnp.int32), others])[None]
        steps = Steps(
            target,
            target,
            *[np.ones((1, batch + 1), bool)] * 3,
            *[0 * target] * 2,
            opening=np.zeros((1, 0), np.int32),
        )
        repeated = jnp.tile(hidden, (1, batch + 1, 1))
        loss = sampled(
            *(items, extra, repeated, steps, sampler),
            loss=config.loss,
            log_q=config.log_q,
            mask_false_negatives=config.mask_false_negatives,
        )
        return jnp.exp(loss[0, 0] + scores[own])

    found = np.asarray(jax.lax.map(lambda each: total(*each), (extra, others.astype(np.int32))))
    expected = np.exp(scores).sum()
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(n_draws)
    assert found.std() / np.sqrt(n_draws) < 0.01 * expected
