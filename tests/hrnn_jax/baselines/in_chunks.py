"""The scores of a counting model, made in parts of a given size."""

import pytest

from hrnn_jax.baselines import sparse_ranking


def in_chunks(scorer, chunk):
    """Return the scores of all cases in parts, CSR; chunk: entries of a part, see CHUNK_ENTRIES."""
    score, costs = scorer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ranking, "CHUNK_ENTRIES", chunk)
        return [score(rows) for rows in sparse_ranking.row_chunks(costs)]
