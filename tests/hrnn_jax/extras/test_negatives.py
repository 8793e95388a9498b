"""Extra negatives are drawn by support^alpha, as many of each item as expected."""

import dataclasses

import jax
import numpy as np
import pytest

from hrnn_jax.extras import negatives
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import logs, networks

SUPPORT = np.array([50, 3, 0, 20, 1, 8, 8, 10])


def drawn(*, n_extra, alpha, n_updates=400, support=SUPPORT):
    sampler = negatives.sampler(support, n_extra=n_extra, alpha=alpha, batch_size=4)
    keys = jax.random.split(jax.random.key(1), n_updates)
    return np.asarray(jax.vmap(lambda key: negatives.draw(key, sampler, n_extra))(keys))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_extra", [1, 3, 40])
def test_each_item_is_drawn_as_often_as_expected(alpha, n_extra):
    found = drawn(n_extra=n_extra, alpha=alpha)
    share = SUPPORT**alpha / (SUPPORT**alpha).sum()
    times = (found[..., None] == np.arange(len(SUPPORT))).sum(axis=1)  # [updates, V]
    error = times.mean(axis=0) - n_extra * share
    assert np.abs(error).max() < 5 * np.sqrt(n_extra * 0.25 / len(found))
    # One word in each of as many equal parts: never far from the expectation.
    assert np.abs(times - n_extra * share).max() < 2
    if alpha:
        assert (found != 2).all()  # without support
    assert (np.diff(found, axis=1) >= 0).all()


@pytest.mark.parametrize("n_items", [1, 2, 3, 1000, 70_000])
def test_a_word_draws_the_item_of_its_bounds(n_items, monkeypatch):
    """As a binary search over all bounds finds it, also where many items share a bucket."""
    rng = np.random.default_rng(0)
    support = np.ceil(1e6 * rng.random(n_items) ** 20)
    sampler = negatives.sampler(support, n_extra=1, alpha=1.0, batch_size=4)
    bound = sampler.bound
    words = np.concatenate([rng.integers(0, 2**32, 5000), bound, bound - np.uint32(1), [0]])
    words = np.append(words.astype(np.uint32), np.uint32(2**32 - 2))
    monkeypatch.setattr(negatives, "_words", lambda key, n_extra: jax.numpy.asarray(words))
    found = negatives.draw(jax.random.key(0), sampler, len(words))
    np.testing.assert_array_equal(found, np.searchsorted(bound, words, side="right"))


def test_updates_draw_different_items():
    found = drawn(n_extra=5, alpha=1.0, support=np.ones(1000))
    assert len(np.unique(found, axis=0)) == len(found)


def test_rare_items_of_a_large_catalogue_are_drawn():
    """In float32 the last of them would share one bound."""
    n_items = 1 << 20
    support = np.ones(n_items)
    support[: n_items // 2] = 1000
    sampler = negatives.sampler(support, n_extra=2, alpha=1.0, batch_size=4)
    steps = np.diff(np.asarray(sampler.bound)[n_items // 2 :].astype(np.int64))
    assert steps.min() > 0
    assert steps.max() - steps.min() <= 1


def test_the_expected_number_counts_the_other_lanes_and_extra_negatives():
    sampler = negatives.sampler(SUPPORT, n_extra=10, alpha=0.0, batch_size=4)
    expected = 10 / len(SUPPORT) + 3 * SUPPORT / SUPPORT.sum()
    np.testing.assert_allclose(np.exp(sampler.log_expected), expected, rtol=1e-5)
    rare = negatives.sampler(SUPPORT, n_extra=10, alpha=1.0, batch_size=4)
    assert np.isfinite(rare.log_expected).all()


def test_an_item_is_on_offer_around_its_first_to_last_event():
    log = logs.of([[[0, 1, 0], [2, 0]]], n_items=4)
    minutes = np.array([1000, 1010, 1030, 2000, 2020])
    log = dataclasses.replace(log, time=60 * minutes + 59, test=np.zeros(5, bool))
    offer = negatives.offer(log, 0.5)
    times = np.array([969, 970, 980, 1040, 1041, 1970, 2030, 2050, 2051])
    found = np.asarray(negatives.on_offer(offer, times))
    expected = [  # by hand: 0 from 970 to 2050, 1 from 980 to 1040, 2 from 1970 to 2030, 3 never
        [],
        [0],
        [0, 1],
        [0, 1],
        [0],
        [0, 2],
        [0, 2],
        [0],
        [],
    ]
    assert [np.flatnonzero(row).tolist() for row in found] == expected
    item = np.array([2, NO_ITEM, 0])
    some = np.asarray(negatives.on_offer(offer, times, item))
    np.testing.assert_array_equal(some, found[:, [2, 3, 0]])
    each = np.asarray(negatives.on_offer(offer, times, np.tile(item, (len(times), 1))))
    np.testing.assert_array_equal(each, some)


@pytest.mark.parametrize("loss", ["full_softmax", "cross_entropy"])
def test_items_that_are_not_on_offer_do_not_learn(loss):
    """Items of the first half of the log are not negatives in its second half."""
    n = networks.N_ITEMS
    first, second = np.split(np.arange(n), 2)
    users = [[half.tolist(), half[::-1].tolist()] for half in (first, second)]
    log = logs.of(users, n_items=n)
    log = dataclasses.replace(log, test=np.zeros(len(log), bool))
    model_config = networks.model_config()
    more = {} if loss == "full_softmax" else {"extra_negatives": 5, "negative_alpha": 0.0}
    how = networks.training_config(
        loss=loss,
        optimizer="sgd",
        learning_rate=1.0,
        negative_hours=1.0,
        **more,
    )
    sampler = negatives.make_sampler(log, how)
    steps = user_batches.build(log, networks.BATCH).steps
    before = networks.fresh(model_config, how)
    late = steps._replace(
        **{
            name: np.where(steps.time > np.median(log.time // 60), getattr(steps, name), empty)
            for name, empty in (("target", NO_ITEM), ("valid", False))
        }
    )
    state, _, _ = networks.train(model_config, how, late, before, sampler=sampler)
    moved = np.asarray(state.params.items.item_bias) != before.params.items.item_bias
    assert not moved[first].any()
    assert moved[second].all()
    anything = dataclasses.replace(how, negative_hours=0.0)
    sampler = negatives.make_sampler(log, anything)
    state, _, _ = networks.train(model_config, anything, late, before, sampler=sampler)
    moved = np.asarray(state.params.items.item_bias) != before.params.items.item_bias
    assert moved[first].all()
