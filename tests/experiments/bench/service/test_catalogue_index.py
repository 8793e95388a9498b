"""The rows about the index compare it with all scores, on users whom it was not measured for."""

import numpy as np

from experiments.bench import timing
from experiments.bench.service import catalogue_index


def test_the_index_is_measured_next_to_all_scores(tmp_path, monkeypatch, capsys):
    """Bug: compare the index with itself."""
    monkeypatch.setattr(catalogue_index, "UNITS", 8)
    monkeypatch.setattr(catalogue_index, "USERS", 32)
    monkeypatch.setattr(catalogue_index, "BATCHES", 2)
    settings = timing.Settings(
        repeats=2, long_repeats=1, scale=0.002, steps=1, prepared=tmp_path, scratch=tmp_path
    )
    rows = catalogue_index.index(settings)
    assert 0.95 <= rows["recall"].measured[0] <= 1
    assert len(rows["rate"].measured) == len(rows["rate"].floor) == 2
    assert rows["rate"].measured[0] != rows["rate"].floor[0]
    assert "items are scored" in capsys.readouterr().out
    assert not np.allclose(catalogue_index.made_users(4), catalogue_index.made_users(4, seed=1))
