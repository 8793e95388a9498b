"""The held-out scores in a run folder."""

import pytest

from experiments.training import mixtures


@pytest.mark.parametrize("content", [b'{"mrr": [0.1', b"[]", b'{"mrr": null}', b"\xff"])
def test_a_damaged_file_of_the_held_out_scores_is_as_good_as_none(content, tmp_path):
    """Bug: end in an error of the JSON reader."""
    path = tmp_path / "held_out.json"
    assert mixtures.read_scores(path) == []
    path.write_bytes(content)
    assert mixtures.read_scores(path) == []
    path.write_text('{"mrr": [0.25, 0.5]}')
    assert mixtures.read_scores(path) == [0.25, 0.5]
