"""What is compared is measured in turns."""

import pathlib

from experiments.bench.timing import Settings


def test_functions_take_turns_after_a_warm_up():
    """Bug: measure all of one before the other, so that noise affects one of them only."""
    calls = []
    functions = [lambda name=name: calls.append(name) or len(calls) for name in "sf"]
    here = pathlib.Path()
    settings = Settings(3, 2, scale=1.0, steps=1, prepared=here, scratch=here)
    results = settings.turns(*functions)
    assert "".join(calls) == "sf" * 4
    assert results == [[3, 5, 7], [4, 6, 8]]


def test_long_functions_have_fewer_turns_and_no_warm_up_where_none_is_wanted():
    """Bug: count the warm-up as a turn."""
    here = pathlib.Path()
    settings = Settings(3, 2, scale=1.0, steps=1, prepared=here, scratch=here)
    calls = []
    assert settings.turns(lambda: calls.append("f"), long=True, warm_up=False) == [[None] * 2]
    assert calls == ["f"] * 2
