"""Run the trials of a study: train or count with the values drawn, and measure the objective."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from absl import flags
from optuna import TrialPruned
from optuna.trial import FrozenTrial, Trial, TrialState

from hrnn_jax import errors
from hrnn_jax.estimators.callbacks.trained_epoch import training_figures
from hrnn_jax.event_log import EventLog
from hrnn_jax.ranking import metrics
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.training.held_out import HeldOut

from ..common import compile_cache, model_flags, progress
from ..common.text import short
from ..training import epochs
from .study import SPEED, Study
from .tune_flags import objective_cutoff, set_flag

FLAGS = flags.FLAGS
NOTED_EVERY, SAID_EVERY = 1.0, 30.0  # seconds


def measure(ranking: Ranking) -> float:
    """Return the --objective of a ranking."""
    cutoff = objective_cutoff(FLAGS.objective)
    return metrics.summarise(ranking.rank, [cutoff])[FLAGS.objective]


def run_all(study: Study, log: EventLog) -> None:
    """Run trials in this process until the study, with all its processes, has --trials of them.

    Args:
        study: The study.
        log: Its test cases are the validation cases.
    """
    compile_cache.keep()
    while trial := study.begin(FLAGS.trials):
        _run(study, trial, log)
        print(line(study, trial.number, 1 + study.counts().running), flush=True)


def line(study: Study, number: int, side_by_side: int) -> str:
    """Describe a trial that has ended, the best one, and what is left, in a line.

    Args:
        study: The study.
        number: The trial's number.
        side_by_side: How many trials run at a time.
    """
    trial, best, counts = study.trials()[number], study.best(), study.counts()
    outcome = trial.user_attrs.get("diverged") or f"{FLAGS.objective} {trial.value:.4f}"
    if trial.state == TrialState.PRUNED and "diverged" not in trial.user_attrs:
        outcome = f"pruned, {outcome} after epoch {trial.last_step}"
    left = max(0, FLAGS.trials - counts.done)
    parts = [
        f"trial {number}",
        outcome,
        " ".join(f"{name}={short(drawn)}" for name, drawn in trial.params.items()),
        rate_text(trial),
        f"{trial.user_attrs['seconds']:.1f} s",
        f"best {best.value:.4f} (trial {best.number})" if best else "",
        f"{left} left, {left * counts.seconds / side_by_side:,.0f} s" if left else "",
    ]
    return "  ".join(part for part in parts if part)


def rate_text(trial: FrozenTrial) -> str:
    """Say how fast a trial trains, "" where it does not."""
    rate = trial.user_attrs.get("events_per_second")
    waited = trial.user_attrs.get("compile_seconds")
    compiling = " with compiling" if waited is None else ""
    return f"{rate:,.0f} events/s{compiling}" if rate else ""


class _Progress:
    """Notes how far a trial is, and in a pipe says it."""

    def __init__(self, study: Study, number: int, n_groups: int) -> None:
        self._study, self._number, self._n_groups = study, number, n_groups
        self._epochs = 0.0
        self._noted, self._said = progress.Every(NOTED_EVERY), progress.Every(SAID_EVERY)

    def count(self, n: int, of_epoch: int) -> None:
        """Count the events of a chunk of steps of one of the groups of seeds."""
        self._epochs += n / of_epoch / self._n_groups
        if self._noted.passed():
            self._study.note(self._number, self._epochs)
        if not sys.stderr.isatty() and self._said.passed():
            print(f"trial {self._number}  {epoch_text(self._epochs)}", flush=True)


def epoch_text(epochs_done: float) -> str:
    """Say how many epochs of a trial are trained, with the share of the present one."""
    epoch = min(int(epochs_done + 1e-6), FLAGS.epochs - 1)  # a sum of shares, which are rounded
    return f"epoch {epoch + 1}/{FLAGS.epochs}, {min(epochs_done - epoch, 1):.0%}"


def _run(study: Study, trial: Trial, log: EventLog) -> None:
    """Run a trial until it is complete, pruned or diverged."""
    for name, drawn in trial.params.items():
        set_flag(name, drawn)
    started = time.perf_counter()
    value, facts = None, {}
    try:
        is_network = model_flags.is_network()
        value = _train(study, trial, log) if is_network else measure(model_flags.rank_baseline(log))
    except TrialPruned:
        pass
    except errors.DivergedError as error:
        facts["diverged"] = str(error)
    study.end(trial, value, seconds=time.perf_counter() - started, **facts)


def _train(study: Study, trial: Trial, log: EventLog) -> float:
    """Train all seeds, and rank the validation cases after every epoch.

    Returns:
        The seeds' mean objective after the best epoch.

    Raises:
        TrialPruned: The pruner finds that other trials were better after as many epochs.
    """
    network = model_flags.make_network(log)
    groups = model_flags.seed_groups(model_flags.seeds())
    states = [epochs.stack([network.init_state(seed) for seed in group]) for group in groups]
    held_out = {}
    if network.table is not None:
        held_out = {seed: HeldOut(network, None, seed) for group in groups for seed in group}
    trained: list[dict[str, Any]] = []
    best, best_epoch = -1.0, 0
    shown = _Progress(study, trial.number, len(groups))
    for epoch in range(FLAGS.epochs):
        values = []
        for i, group in enumerate(groups):
            title = f"trial {trial.number} {model_flags.epoch_title(group, epoch, FLAGS.epochs)}"
            done = epochs.train_epoch(
                network, states[i], group, epoch, title=title, on_events=shown.count
            )
            states[i] = done.state
            trained.append(
                {
                    "events": done.events,
                    "seconds": done.seconds,
                    "events_per_second": done.rate,
                }
            )
            unstacked = epochs.unstack(done.state.params, len(group))
            for seed, params in zip(group, unstacked, strict=True):
                mixture = held_out[seed].mixture(epoch + 1) if held_out else None
                ranking = epochs.rank(network, params, mixture, title=f"{title} validation")
                values.append(measure(ranking))
        value = float(np.mean(values))
        for name, figure in training_figures(trained).items():
            if (fact := name.removeprefix("train_")) in SPEED:
                trial.set_user_attr(fact, figure)
        trial.report(value, epoch + 1)
        if value > best:
            best, best_epoch = value, epoch + 1
            trial.set_user_attr("best_epoch", best_epoch)
        if epoch + 1 - best_epoch == FLAGS.patience:
            break
        if epoch + 1 < FLAGS.epochs and trial.should_prune():
            raise TrialPruned
    return best
