"""Ranks and recommendations from sparse scores, by hand."""

import types

import numpy as np
import pytest
from scipy import sparse

from hrnn_jax.baselines import by_name, sparse_ranking
from hrnn_jax.errors import InputError
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


def registered(make, monkeypatch, n_cases=2):
    """Return the ranks by a registered model: make gives its scores, or all of its scorer."""
    log = types.SimpleNamespace(cases=np.arange(n_cases), n_items=6)
    monkeypatch.setitem(by_name._registered, "mine", make)
    score, costs = by_name.scorer("mine", log, None)
    [chunk] = sparse_ranking.row_chunks(costs)
    targets = np.array([3, 2])
    return sparse_ranking.rank_targets(
        score(chunk), targets, ties="against", competes=competing(None)
    )


@pytest.mark.parametrize(
    "scores",
    [
        sparse.coo_array(SCORES),
        sparse.csc_array(SCORES),
        sparse.csr_matrix(SCORES),
        sparse.coo_array((np.repeat(SCORES.data, 2) / 2, np.repeat(SCORES.nonzero(), 2, axis=1))),
        sparse.csr_array(  # with a zero
            (
                np.append(SCORES.data, 0),
                np.append(SCORES.indices, 0),
                np.add(SCORES.indptr, [0, 0, 1]),
            )
        ),
    ],
)
def test_scores_of_a_registered_model_may_have_any_sparse_form(scores, monkeypatch):
    """Bug: AttributeError, or an item that stands twice counted twice."""
    if scores.shape != SCORES.shape:  # it ends with the last item that scores
        scores.resize(SCORES.shape)
    before = scores.toarray()
    assert registered(lambda log: (lambda cases: scores, [1, 1]), monkeypatch).tolist() == [4, 1]
    assert (scores.toarray() == before).all()


@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        (None, "its scorer is NoneType; return a function and the costs"),
        ((lambda cases: SCORES, [1, 1, 1]), r"shape \(3,\); return a number for each of the 2"),
        ((lambda cases: SCORES, ["a", "b"]), "its costs are <U1"),
        (
            (lambda cases: SCORES[:, :3], [1, 1]),
            r"csr_array of shape \(2, 3\); .* of shape \(2, 6\)",
        ),
        ((lambda cases: SCORES.toarray(), [1, 1]), r"scores are ndarray of shape \(2, 6\); return"),
        ((lambda cases: None, [1, 1]), "its scores are NoneType"),
        ((lambda cases: -1 * SCORES, [1, 1]), "scores below 0 or not finite"),
        ((lambda cases: np.nan * SCORES, [1, 1]), "scores below 0 or not finite"),
    ],
)
def test_a_registered_model_that_scores_otherwise_is_refused(scorer, says, monkeypatch):
    """Bug: rank by what fits, with figures that look right."""
    with pytest.raises(InputError, match=f"^`model`=mine: .*{says}"):
        registered(lambda log: scorer, monkeypatch)


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
