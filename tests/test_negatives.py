"""Extra negatives are drawn by support^alpha, as many of each item as expected."""

import jax
import numpy as np
import pytest

from hrnn_jax import negatives

SUPPORT = np.array([50, 3, 0, 20, 1, 8, 8, 10])


def drawn(*, n_extra, alpha, n_updates=400, support=SUPPORT):
    sampler = negatives.sampler(support, n_extra=n_extra, alpha=alpha, batch_size=4)
    key = jax.random.key(1)
    return np.asarray(negatives.draw(key, sampler, n_updates=n_updates, n_extra=n_extra))


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


def test_updates_draw_apart():
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


def test_the_number_expected_counts_batch_and_extra():
    sampler = negatives.sampler(SUPPORT, n_extra=10, alpha=0.0, batch_size=4)
    expected = 10 / len(SUPPORT) + 4 * SUPPORT / SUPPORT.sum()
    np.testing.assert_allclose(np.exp(sampler.log_expected), expected, rtol=1e-5)
    rare = negatives.sampler(SUPPORT, n_extra=10, alpha=1.0, batch_size=4)
    assert np.isfinite(rare.log_expected).all()
