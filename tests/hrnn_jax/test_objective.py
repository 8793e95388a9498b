"""Candidates beside the batch's: with all items among them it is the full softmax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import losses, model, objective
from hrnn_jax.extras import negatives
from hrnn_jax.user_batches import NO_ITEM, Steps
from tests.helpers import networks

V, H = networks.N_ITEMS, 5
ALL = np.arange(V, dtype=np.int32)


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


def past(items, n_lanes, seed=1):
    """Return pasts of three items and an empty slot."""
    rng = np.random.default_rng(seed)
    item = np.stack([rng.permutation(V)[:4] for _ in range(n_lanes)])[None].astype(np.int32)
    item[..., 1] = NO_ITEM
    bonus = jnp.asarray(rng.normal(size=item.shape), jnp.float32)
    bonus = jnp.where(item == NO_ITEM, 0, bonus)
    rows = model.rows(items.item_out, item), model.rows(items.item_bias, item)
    return objective.Recalled(item, bonus, *rows)


def sampled(items, extra, hidden, steps, recalled=None, sampler=None, **settings):
    index = jnp.concatenate([steps.target.reshape(-1), extra])
    candidates = items.replace(
        item_out=model.rows(items.item_out, index), item_bias=model.rows(items.item_bias, index)
    )
    config = networks.training_config(**settings)
    return objective.sampled(
        candidates, jnp.asarray(extra), hidden, steps, recalled, sampler, config=config
    )


@pytest.mark.parametrize("confined", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_with_every_item_as_a_negative_it_is_the_full_softmax(remembers, confined):
    """One lane, so that no item is a candidate twice; its own target is masked among the extra."""
    sampler = None
    if confined:  # half of the items are on offer at the time 0
        offer = negatives.Offer(begin=np.arange(V, dtype=np.int32) % 2, end=np.ones(V, np.int32))
        sampler = jax.device_put(
            negatives.sampler(np.ones(V), n_extra=V, alpha=1.0, batch_size=1, offer=offer)
        )
    for seed in range(6):
        items, hidden, steps = drawn(1, seed)
        recalled = past(items, 1, seed) if remembers else None
        if seed == 0 and recalled is not None:  # the target is in the past
            steps = steps._replace(target=recalled.item[:, :, 2])
        found = sampled(
            *(items, ALL, hidden, steps, recalled, sampler),
            loss="cross_entropy",
            mask_false_negatives=True,
        )
        expected = objective.full_softmax(items, hidden, steps, recalled, sampler)
        np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_lane_is_not_a_negative_of_its_own_target():
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
def test_extra_negatives_are_columns_of_scores(loss):
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


def test_regularisation_reaches_bpr_max():
    items, hidden, steps = drawn(3)
    plain, penalised = (
        sampled(items, ALL[:0], hidden, steps, loss="bpr_max", regularisation=weight)
        for weight in (0.0, 1.0)
    )
    assert (penalised > plain).all()


def test_items_of_the_past_are_candidates_once_and_with_their_bonus():
    items, hidden, steps = drawn(2, seed=3)
    recalled = past(items, 2)
    extra = np.concatenate([recalled.item[0, 0, 2:], ALL[:3]])  # some of them drawn as well
    found = sampled(items, extra, hidden, steps, recalled, loss="cross_entropy")
    scores = np.asarray(hidden[0] @ items.item_out.T + items.item_bias[None])
    for lane in range(2):
        had = dict(
            zip(recalled.item[0, lane].tolist(), recalled.bonus[0, lane].tolist(), strict=True)
        )
        had.pop(NO_ITEM)
        own, other = steps.target[0, lane], steps.target[0, 1 - lane]
        terms = [scores[lane, own] + had.get(own, 0)]
        terms += [scores[lane, item] + bonus for item, bonus in had.items() if item != own]
        terms += [scores[lane, item] for item in [other, *extra.tolist()] if item not in had]
        expected = np.log(np.exp(terms).sum()) - terms[0]
        np.testing.assert_allclose(found[0, lane], expected, rtol=1e-5)


def test_corrected_the_candidates_stand_for_the_catalogue():
    """In the mean over draws, the sum over the candidates is that over all items."""
    support = np.arange(1, V + 1)
    items, hidden, _ = drawn(1)
    n_draws, batch, n_extra = 4000, 6, 10
    sampler = jax.device_put(
        negatives.sampler(support, n_extra=n_extra, alpha=0.5, batch_size=batch)
    )
    extra = negatives.draw(jax.random.key(0), sampler, n_updates=n_draws, n_extra=n_extra)
    # Lane 0 has one target; the others' are drawn as the batch does. One more is expected of the
    # batch than there are others, which `expected` is told by a batch of one less.
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
            *(items, extra, repeated, steps, None, sampler),
            loss="cross_entropy",
            log_q=True,
            mask_false_negatives=True,
        )
        return jnp.exp(loss[0, 0] + scores[own])

    found = np.asarray(jax.lax.map(lambda each: total(*each), (extra, others.astype(np.int32))))
    expected = np.exp(scores).sum()
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(n_draws)
    assert found.std() / np.sqrt(n_draws) < 0.01 * expected
