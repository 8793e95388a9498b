"""A study folder that several processes share."""

import math

import numpy as np
import polars as pl

from experiments.tuning import search_spaces
from tests.helpers.studies import open_study


def test_processes_share_a_study(tmp_path):
    folder = tmp_path / "study"
    with open_study(folder) as one, open_study(folder) as other:
        mine, yours = one.begin(3), other.begin(3)
        assert (mine.number, yours.number) == (0, 1)
        assert mine.params != yours.params
        one.end(mine, 0.5, seconds=1.0)
        assert one.begin(3).number == 2
        assert other.counts() == (1, 2, 1.0)
        other.end(yours, 0.7, seconds=3.0)
        assert other.begin(3) is None  # the third is running
        assert other.counts().seconds == 2
        assert other.best().number == 1
    with open_study(folder) as later:
        assert later.begin(3).number == 3  # as the third was left without an end
    states = pl.read_csv(folder / "trials.csv")["state"].to_list()
    assert states == ["complete", "complete", "cut off", "running"]


def test_the_values_of_a_trial_depend_on_its_number_alone(tmp_path):
    drawn = []
    for name in ("a", "b"):
        with open_study(tmp_path / name) as opened:
            drawn.append([])
            for _ in range(4):
                trial = opened.begin(4)
                drawn[-1].append(trial.params)
                opened.end(trial, 0.0)
    assert drawn[0] == drawn[1]
    assert len({params["learning_rate"] for params in drawn[0]}) == 4


def test_what_was_cut_off_is_drawn_again_so_that_the_search_stays_the_same(tmp_path):
    """Bug: draw with the trial's number, so that the values that were cut off are never tried."""

    def search(folder, *cut_off):
        """Run four trials; the process ends while it runs some of them. Return the values tried."""
        tried, number = [], 0
        while True:
            with open_study(folder) as opened:
                if (trial := opened.begin(4)) is None:
                    return tried
                if number not in cut_off:
                    tried.append(trial.params)
                    opened.end(trial, 0.0)
            number += 1

    whole = search(tmp_path / "whole")
    assert search(tmp_path / "one", 0) == whole
    assert search(tmp_path / "two", 1, 2) == whole  # the same one twice
    assert search(tmp_path / "several", 1, 4) == whole
    ends = search(tmp_path / "ends", 1, 2, 3)  # what it tries may be what ends the process
    assert [whole[0], *whole[2:]] == ends[:3]
    assert ends[3] not in whole


def test_tpe_draws_values_near_those_of_good_trials(tmp_path):
    far = {}
    for sampler in search_spaces.SAMPLERS:
        distances = []
        searched = search_spaces.BY_MODEL["item_knn"]
        with open_study(
            tmp_path / sampler, searched=searched, sampler=sampler, startup_trials=8
        ) as opened:
            while trial := opened.begin(30):
                distances.append(abs(math.log(trial.params["neighbours"] / 100)))
                opened.end(trial, -distances[-1])
        far[sampler] = distances
    assert far["tpe"][:8] == far["random"][:8]
    assert np.mean(far["tpe"][8:]) < 0.6 * np.mean(far["random"][8:])
