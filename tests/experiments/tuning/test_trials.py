"""How trials end: complete, pruned, out of patience or diverged; on made learning curves."""

import pathlib
import re

import pytest

from experiments.training import epochs
from experiments.tuning import study, trials
from tests.helpers.studies import ONE, script, trial_table


def test_a_trial_below_the_median_at_the_same_epoch_is_pruned(tune, monkeypatch):
    script(
        monkeypatch,
        [
            [0.2, 0.3, 0.8, 0.8],
            [0.1, 0.1, 0.9, 0.9],  # below 0.3 at epoch 2, the first that is compared
            [0.1, 0.4, 0.8, 0.9],  # above 0.3 there, though below all that others reach later
            [0.95, 0.1, 0.1, 0.1],  # its best epoch is what is compared
            [0.35, 0.35, 0.35, 0.9],  # not below 0.3 at epoch 2, but below 0.8 at epoch 3
        ],
    )
    argv = ("--trials=5", "--epochs=4", "--startup_trials=1", ONE)
    code, out, err = tune(*argv)
    assert code == 0, err
    states = ["complete", "pruned", "complete", "complete", "pruned"]
    assert trial_table()["state"].to_list() == states
    assert trial_table()["epochs"].to_list() == [4, 2, 4, 4, 3]
    assert trial_table()["value"].to_list() == [0.8, 0.1, 0.9, 0.95, 0.35]
    assert trial_table()["best_epoch"].to_list() == [3, 1, 4, 1, 1]
    assert "--epochs=1" in pathlib.Path("study", "best.flags").read_text().splitlines()
    assert "best is trial 3, recall@5 0.9500" in out
    assert "trial 1  pruned, recall@5 0.1000 after epoch 2" in out
    assert "(trial 3)" in pathlib.Path("study/best.flags").read_text().splitlines()[0]


def test_a_trial_ends_after_patience_epochs_without_a_better_one(tune, monkeypatch):
    script(monkeypatch, [[0.5, 0.4, 0.6, 0.5, 0.6, 0.7]])
    code, _, err = tune("--trials=1", "--epochs=6", "--patience=2", ONE)
    assert code == 0, err
    assert trial_table()["epochs"].to_list() == [5]  # an equal value is no better
    assert trial_table()["best_epoch"].to_list() == [3]


@pytest.mark.parametrize("spared", ["--pruner=none", "--startup_trials=5"])
def test_nothing_is_pruned_without_pruner_or_before_startup_trials(tune, monkeypatch, spared):
    script(monkeypatch, [[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]])
    tune("--trials=2", "--epochs=3", "--startup_trials=1", ONE, spared)
    assert trial_table()["state"].to_list() == ["complete", "complete"]


def test_a_diverged_trial_counts_and_does_not_end_the_study(tune, monkeypatch):
    script(monkeypatch, [[0.2, 0.2], [0.9, None], [None], [0.3, 0.3]])
    code, out, err = tune("--trials=4", ONE)
    assert code == 0, err
    assert trial_table()["state"].to_list() == ["complete", "diverged", "diverged", "complete"]
    assert trial_table()["value"].to_list() == [0.2, None, None, 0.3]
    assert "best is trial 3" in out


def test_a_pipe_is_told_how_far_a_trial_is(tune, monkeypatch):
    """Within the trial, not only at its end; and noted for the process that shows it."""
    noted = []
    monkeypatch.setattr(trials, "NOTED_EVERY", 0.0)
    monkeypatch.setattr(trials, "SAID_EVERY", 0.0)
    monkeypatch.setattr(study.Study, "note", lambda _, number, epochs: noted.append(epochs))
    script(monkeypatch, [[0.5, 0.6]])
    scripted = epochs.train_epoch

    def epoch(*args, on_events, **rest):
        on_events(30, 100)
        on_events(70, 100)
        return scripted(*args, on_events=on_events, **rest)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    code, out, err = tune("--trials=1", "--epochs=2", "--seeds=0,1", ONE)
    assert code == 0, err
    said = re.findall(r"^trial 0  (epoch .*)$", out, re.MULTILINE)
    # Of two seeds, one after the other.
    first, second = ["15%", "50%", "65%"], ["0%", "15%", "50%", "65%", "100%"]
    assert said == [
        *(f"epoch 1/2, {share}" for share in first),
        *(f"epoch 2/2, {share}" for share in second),
    ]
    assert noted == pytest.approx([0.15, 0.5, 0.65, 1, 1.15, 1.5, 1.65, 2])
