"""Figures of points with their names."""

from experiments.common.text import Spread
from experiments.rendering import plots

LINE = "stroke-width: 0.5"  # from a name to its point


def point(x: float, y: float) -> plots.Point:
    return plots.Point(plots.COUNTING, x, Spread((y,)))


def drawn(*panels: dict[str, plots.Point]) -> str:
    named = {f"log {n}": panel for n, panel in enumerate(panels)}
    return plots.scatter("test", named, ("seconds", "Recall@5"), size=(9.6, 7.2))


def test_an_odd_number_of_panels_leaves_no_empty_axes():
    svg = drawn(*[{"a": point(1, 300), "b": point(10, 500)}] * 3)
    assert svg.count(">seconds<") == 3
    assert ">0.2<" not in svg  # a tick of axes from 0 to 1


def test_a_name_far_from_its_point_has_a_line_to_it():
    far_apart = {"a": point(1, 1), "b": point(100, 2)}
    assert LINE not in drawn(far_apart)
    assert LINE in drawn({f"model {n}": point(1, 1) for n in range(6)} | far_apart)
