"""The times of a training, as metrics.json has them."""

import pytest

from hrnn_jax.estimators.callbacks.trained_epoch import Epoch, training_figures


def entries(*of):
    """Make entries of history.jsonl of 100 events each, by seconds and rate."""
    return [Epoch(1, 1, 0.5, {}, 100, seconds, rate=rate).entry() for seconds, rate in of]


@pytest.mark.parametrize(
    ("history", "compiling", "rate"),
    [
        (entries((12.0, 50.0), (2.0, 50.0)), 10.0, 50.0),
        (entries((12.0, None), (2.0, 50.0), (4.0, 25.0)), 9.0, 100 / 3),  # 300 events in 9 s
        (entries((12.0, None)), None, 100 / 12),  # all of it may be compiling
        ([{"events": 100, "seconds": 4.0}], None, 25.0),  # of an earlier version
        ([], None, None),
    ],
)
def test_the_rate_of_a_training_leaves_out_the_time_of_compiling(history, compiling, rate):
    found = training_figures(history)
    assert found["train_seconds"] == sum(entry["seconds"] for entry in history)
    assert found["train_compile_seconds"] == (compiling and pytest.approx(compiling))
    assert found["train_events_per_second"] == (rate and pytest.approx(rate))
