"""Numbers and times as text."""

import pytest

from experiments.common.text import duration, short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (60, "1 min 0 s")),
        *((3599, "59 min 59 s"), (3599.6, "1 h 0 min"), (3661, "1 h 1 min")),
        (11520, "3 h 12 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.123"), (1000, "1000"), ("0.05", "0.05"), ("12345", "12345"), ("tied", "tied")],
)
def test_only_fractions_are_shortened(value, text):
    assert short(value) == text
