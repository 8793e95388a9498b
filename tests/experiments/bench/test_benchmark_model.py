"""The random log of the benchmark."""

import numpy as np
import pytest

from experiments.bench.benchmark_model import random_log


def test_a_random_log_has_the_requested_sizes():
    """Bug: hold out no session."""
    log = random_log(np.random.default_rng(0), 2_000, 50, sessions=10.5, events=3.9, tested=True)
    sessions, users = log.session.max() + 1, log.user.max() + 1
    assert sessions / users == pytest.approx(10.5, rel=0.03)
    assert len(log) / sessions == pytest.approx(3.9, rel=0.03)
    assert len(np.unique(log.session[log.test])) == users
    assert set(log.item) <= set(range(50))
