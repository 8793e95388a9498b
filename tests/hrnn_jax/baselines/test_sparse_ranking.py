"""Ranks and recommendations from sparse scores, by hand."""

import numpy as np
import pytest
from scipy import sparse

from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.event_log import NO_ITEM

SCORES = sparse.csr_array(np.array([[0, 3, 5, 3, 0, 3], [0, 0, 2, 0, 0, 0]]))


def competing(items):
    return np.isin(np.arange(6), range(6) if items is None else items)


@pytest.mark.parametrize(
    ("target", "ties", "candidates", "expected"),
    [
        (3, "against", None, 4),  # behind 5 and two others of 3
        (3, "for", None, 2),
        (0, "against", None, 6),  # scores 0: the last of all
        (0, "for", None, 5),  # scores 0: behind the four that score
        (3, "against", [1, 4], 2),  # the target competes although it is no candidate
        (3, "against", [3, 1, 4], 2),
        (0, "against", [1, 4], 3),
        (0, "for", [1, 4], 2),
        (0, "against", [], 1),
    ],
)
def test_ranks_by_hand(target, ties, candidates, expected):
    targets = np.array([target, 2])
    ranks = sparse_ranking.rank_targets(SCORES, targets, ties=ties, competes=competing(candidates))
    assert ranks.tolist() == [expected, 1]


@pytest.mark.parametrize("ties", ["against", "for"])
def test_excluded_items_do_not_compete(ties):
    """Compared with counting one by one."""
    rng = np.random.default_rng(0)
    scores = rng.integers(4, size=(50, 9))
    targets, competes = rng.integers(9, size=50), rng.random(9) < 0.8
    excluded = rng.integers(9, size=(50, 6))
    excluded[rng.random(excluded.shape) < 0.4] = NO_ITEM
    left = sparse_ranking.without(sparse.csr_array(scores), excluded)
    found = sparse_ranking.rank_targets(
        left, targets, ties=ties, competes=competes, excluded=excluded
    )
    n_out = 0
    for row, target, out, rank in zip(scores, targets, excluded, found, strict=True):
        others = [i for i in range(9) if competes[i] and i != target]
        if target not in out:
            others = [i for i in others if i not in out]
            # An item without a score is listed nowhere: for the model it is behind the target.
            least = row[target] + (ties == "for")
            others = [i for i in others if row[i] >= max(least, ties == "for")]
        n_out += target in out
        assert rank == 1 + len(others)
    assert 5 < n_out < 45


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        # Item 2 leads both rows, then 1, 3 and 5 in turn; the second row has no more to show.
        (None, [[0, 0, 2, 0, 0, 0], [0, 1, 2, 1, 0, 0]]),
        ([5, 3, 4], [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 1]]),
        ([], [[0] * 6] * 2),
    ],
)
def test_counts_of_recommended_items_by_hand(candidates, expected):
    found = sparse_ranking.count_shown(SCORES, [1, 3], competes=competing(candidates))
    assert found.tolist() == expected
    assert SCORES.nnz == 5  # the argument is not changed
