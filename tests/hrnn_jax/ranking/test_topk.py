"""Ranks and lists of given scores: compared with sorting all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import model
from hrnn_jax.ranking import topk
from hrnn_jax.training.user_batches import NO_ITEM

SIZES = [1, 5, topk.GROUP, topk.GROUP + 1, 10 * topk.GROUP, 1000]
compiled = jax.jit(topk.rank, static_argnums=4)


def run(scores, targets, chosen=None, n_first=1, ties="against", excluded=None):
    """Rank the targets among the chosen items by scores [V]; return ranks and first items [n, N].

    An item's output weight is its score, and the state is 1.
    """
    scores = np.asarray(scores, np.float32)
    items = model.Items(None, jnp.array(scores[:, None]), jnp.zeros(len(scores)))
    ranked = topk.arrange(items, np.arange(len(scores)) if chosen is None else chosen)
    settings = topk.RankSettings(n_first=n_first, ties=ties, rows=1)
    states = jnp.ones((len(targets), 1))
    ranks, first = compiled(ranked, states, np.array(targets), None, settings, excluded=excluded)
    return np.asarray(ranks), np.asarray(first)


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("levels", [2, 30, 10_000])
def test_lists_equal_a_stable_sort(n_items, levels):
    """With few levels most items tie: the lower item is first then, whatever its group."""
    for seed in range(3):
        scores = np.random.default_rng(seed).integers(levels, size=n_items)
        expected = np.argsort(-scores, kind="stable")
        for n_first in {1, min(20, n_items), n_items}:
            _, (found,) = run(scores, [0], n_first=n_first)
            np.testing.assert_array_equal(found, expected[:n_first])


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("ties", ["against", "for"])
@pytest.mark.parametrize("n_chosen", [1, 2, 1000])
def test_ranks_equal_counting(n_items, ties, n_chosen):
    """One item, half of the items or all are ranked; targets are among them or not."""
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


@pytest.mark.parametrize("ties", ["against", "for"])
@pytest.mark.parametrize("n_chosen", [40, 1000])
def test_excluded_items_neither_compete_nor_are_listed(ties, n_chosen):
    """Bug: exclude an item twice, the padding, or nothing where few items are ranked."""
    rng = np.random.default_rng(n_chosen)
    scores = rng.integers(12, size=60)
    chosen = np.sort(rng.permutation(60)[:n_chosen])
    targets = np.arange(60)
    excluded = rng.integers(60, size=(60, 30)).astype(np.int32)
    excluded[rng.random(excluded.shape) < 0.3] = NO_ITEM
    excluded[:5] = NO_ITEM
    ranks, lists = run(scores, targets, chosen, len(chosen), ties, excluded)
    for target, out, rank, found in zip(targets, excluded, ranks, lists, strict=True):
        left = [i for i in chosen if i not in out]
        listed = sorted(left, key=lambda i: (-scores[i], i))
        assert found.tolist() == listed + [NO_ITEM] * (len(chosen) - len(left))
        others = {*chosen.tolist()} - {target}
        if target not in out:
            others = [i for i in left if i in others]
            others = [i for i in others if scores[i] > scores[target] - (ties == "against")]
        assert rank == 1 + len(others)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_that_is_not_a_number_comes_first(sign):
    """Of either sign, also with infinite scores; the padding of a group is never listed."""
    scores = np.full(10 * topk.GROUP - 1, -np.inf)
    scores[[7, 100]], scores[[8, 110]] = np.copysign(np.nan, sign), [5, 6]
    expected = [7, 100, 110, 8, *np.delete(np.arange(len(scores)), [7, 8, 100, 110])]
    for n_first in (3, len(scores)):
        _, (found,) = run(scores, [0], n_first=n_first)
        np.testing.assert_array_equal(found, expected[:n_first])
