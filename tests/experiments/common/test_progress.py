"""The time that is left of a training."""

import pytest

from experiments.common.progress import Pace


def test_the_time_left_is_by_the_rate_after_the_first_steps_and_said_once(capfd):
    """Bug: measure from the start, with what is compiled."""
    now = [0.0]
    pace = Pace(n_epochs=4, clock=lambda: now[0])
    assert pace.seconds_left() == 0
    now[0] = 100.0  # compiled
    pace.count(10, 50)
    for _ in range(4):
        now[0] += 2.0
        pace.count(10, 50)  # 5 events a second
    assert pace.seconds_left() == (200 - 50) / 5
    now[0] += 4.0
    pace.count(20, 50)
    assert pace.seconds_left() == (200 - 70) / 5
    assert capfd.readouterr().out == "training will take about 34 s more\n"


def test_the_time_left_counts_the_epochs_of_all_seeds_and_not_the_time_between_them(capfd):
    """Bug: say it for every group of seeds, or count what ranking took between two of them."""
    now = [0.0]
    pace = Pace(n_epochs=6, clock=lambda: now[0])  # 2 of each of 3 seeds
    for _ in range(3):
        pace.measure_anew()
        now[0] += 1000.0
        for _ in range(10):
            pace.count(10, 50)  # 5 events a second
            now[0] += 2.0
        if pace.events_left():
            assert pace.seconds_left() == pytest.approx(pace.events_left() / 5, rel=0.15)
    assert pace.events_left() == 0
    pace.leave_out(-1)
    assert pace.events_left() == 50
    assert capfd.readouterr().out == "training will take about 54 s more\n"


def test_the_time_left_leaves_out_waits_for_programs_that_are_compiled_later():
    """Bug: measure from the first chunk, though later ones wait for programs of other widths."""
    now, compiling = [0.0], [True]
    pace = Pace(n_epochs=2, clock=lambda: now[0], compiling=lambda: compiling[0])
    pace.count(10, 50)
    now[0] += 8.0
    compiling[0] = False  # since some time in this chunk
    pace.count(10, 50)
    assert pace.seconds_left() == 0
    now[0] += 0.5
    pace.count(10, 50)  # 20 events a second
    assert pace.seconds_left() == (100 - 30) / 20
