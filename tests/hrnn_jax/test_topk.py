"""Ranks and recommendations of scores that are given: against sorting them all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import model, topk

SIZES = [1, 5, topk.GROUP, topk.GROUP + 1, 10 * topk.GROUP, 1000]


@functools.partial(jax.jit, static_argnames=("n_first", "ties"))
def compiled(*arguments, n_first, ties):
    return topk.rank(*arguments, n_first=n_first, ties=ties, rows=1)


def run(scores, targets, chosen=None, n_first=1, ties="against"):
    """Rank the targets among the chosen items by scores [V]; return ranks and first items [n, N].

    An item's output weight is its score, and the state is 1.
    """
    chosen = topk.deal(np.arange(len(scores)) if chosen is None else chosen)
    column = np.full(len(scores), len(chosen))
    column[chosen] = np.arange(len(chosen))
    scores = np.asarray(scores, np.float32)
    items = model.Items(None, jnp.array(scores[:, None]), jnp.zeros(len(scores)))
    ranked = items.item_out[chosen], items.item_bias[chosen]
    states = jnp.ones((len(targets), 1))
    ranks, first = compiled(
        *(items, ranked, states, np.array(targets), column[targets], None),
        n_first=n_first,
        ties=ties,
    )
    return np.asarray(ranks), chosen[first]


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("levels", [2, 30, 10_000])
def test_the_first_are_those_of_a_stable_sort(n_items, levels):
    """Of few levels all is tied: what is first is then the lower item, whatever its group."""
    for seed in range(3):
        scores = np.random.default_rng(seed).integers(levels, size=n_items)
        expected = np.argsort(-scores, kind="stable")
        for n_first in {1, min(20, n_items), n_items}:
            _, (found,) = run(scores, [0], n_first=n_first)
            np.testing.assert_array_equal(found, expected[:n_first])


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("ties", ["against", "for"])
@pytest.mark.parametrize("n_chosen", [1, 2, 1000])
def test_ranks_are_counted(n_items, ties, n_chosen):
    """... among half of the items or all, of the targets that are among them and of others."""
    rng = np.random.default_rng(0)
    scores = rng.integers(12, size=n_items)
    chosen = np.sort(
        rng.permutation(n_items)[: max(1, n_items // 2) if n_chosen == 2 else n_chosen]
    )
    targets = np.arange(n_items)
    others = chosen[None] != targets[:, None]
    own = scores[targets][:, None]
    above = scores[chosen] > own if ties == "for" else scores[chosen] >= own
    ranks, _ = run(scores, targets, chosen, ties=ties)
    np.testing.assert_array_equal(ranks, 1 + (above & others).sum(axis=1))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_no_number_comes_first(sign):
    """... of whichever sign, beside infinite ones too; what fills up a group never comes."""
    scores = np.full(10 * topk.GROUP - 1, -np.inf)
    scores[[7, 100]], scores[[8, 110]] = np.copysign(np.nan, sign), [5, 6]
    expected = [7, 100, 110, 8, *np.delete(np.arange(len(scores)), [7, 8, 100, 110])]
    for n_first in (3, len(scores)):
        _, (found,) = run(scores, [0], n_first=n_first)
        np.testing.assert_array_equal(found, expected[:n_first])
