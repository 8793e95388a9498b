"""Ranks and recommendations from sparse scores, by hand."""

import numpy as np
import pytest
from scipy import sparse

from hrnn_jax.baselines import sparse_ranking

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
