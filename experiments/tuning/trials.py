"""Run the trials of a study: train or count with the values drawn, and measure the objective."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from optuna import TrialPruned
from optuna.trial import Trial

from hrnn_jax import errors, evaluation, metrics, train
from hrnn_jax.config import NETWORKS, ModelConfig
from hrnn_jax.epoch import compiled_chunk
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking
from hrnn_jax.model import Params

from ..common import epochs, model_flags, progress, run_seeds
from ..common.text import short
from .study import Study

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Task:
    """What every trial of a study measures."""

    log: EventLog  # whose test cases are the validation cases
    seeds: list[int]
    objective: str  # the metric that is maximised, as in recall@5
    patience: int | None  # epochs without a better value after which a trial ends

    def measure(self, ranking: Ranking) -> float:
        """Return the objective of a ranking."""
        cutoff = objective_cutoff(self.objective)
        return metrics.summarise(ranking.rank, [cutoff])[self.objective]


def objective_cutoff(objective: str) -> int:
    """Return N of an objective such as recall@N.

    Raises:
        InputError: It is not a metric at a positive N.
    """
    text = objective.partition("@")[2]
    cutoff = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= cutoff < 2**31 or objective not in metrics.summarise(np.ones(1), [cutoff]):
        known = ", ".join(metrics.summarise(np.ones(1), [5]))
        raise errors.InputError(
            f"`objective`={objective}: give one of {known}, or another N from 1"
        )
    return cutoff


def set_flag(name: str, value: Any) -> None:
    """Set the flag of a searched setting, through its text as it will stand in best.flags."""
    FLAGS[name].parse(str(value))


def run_all(study: Study, task: Task, wanted: int) -> None:
    """Run trials until the study, with all its processes, has `wanted` of them."""
    while trial := study.begin(wanted):
        _run(study, trial, task, wanted)


def _run(study: Study, trial: Trial, task: Task, wanted: int) -> None:
    """Run a trial until it is complete, pruned or diverged, and print a line."""
    for name, drawn in trial.params.items():
        set_flag(name, drawn)
    started = time.perf_counter()
    value, facts = None, {}
    try:
        is_network = FLAGS.model in NETWORKS
        value = (
            _train(trial, task) if is_network else task.measure(run_seeds.rank_baseline(task.log))
        )
        outcome = f"{task.objective} {value:.4f}"
    except TrialPruned as pruned:
        outcome = f"pruned, {pruned}"
    except errors.DivergedError as error:
        outcome = facts["diverged"] = str(error)
    seconds = time.perf_counter() - started
    study.end(trial, value, seconds=seconds, **facts)
    compiled_chunk.cache_clear()  # programs for these values; hundreds of trials add up
    train.init_state.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
    print(f"trial {trial.number}  {outcome}  {_details(study, trial, seconds, wanted)}", flush=True)


def _details(study: Study, trial: Trial, seconds: float, wanted: int) -> str:
    """Return the rest of a trial's line: its values, its speed, and how far the study is."""
    best, counts = study.best(), study.counts()
    rate = trial.user_attrs.get("events_per_second")
    left = max(0, wanted - counts.done)
    parts = [
        " ".join(f"{name}={short(value)}" for name, value in trial.params.items()),
        f"{rate:,.0f} events/s" if rate else "",
        f"{seconds:.1f} s",
        f"best {best.value:.4f} (trial {best.number})" if best else "",
        f"{left} left, {left * counts.seconds / (1 + counts.running):,.0f} s" if left else "",
    ]
    return "  ".join(part for part in parts if part)


def _train(trial: Trial, task: Task) -> float:
    """Train all seeds, and rank the validation cases after every epoch.

    Returns:
        The seeds' mean objective after the best epoch.

    Raises:
        TrialPruned: The pruner finds that other trials were better after as many epochs.
    """
    model_config = model_flags.model_config(task.log.n_items)
    config = model_flags.train_config()
    groups = [
        task.seeds[i : i + FLAGS.seeds_at_once]
        for i in range(0, len(task.seeds), FLAGS.seeds_at_once)
    ]
    states = [
        epochs.stack([train.init_state(seed, model_config, config) for seed in group])
        for group in groups
    ]
    table = epochs.neighbour_table(task.log.train, model_config)
    training = epochs.training_of(task.log.train, model_config, config)
    events, seconds, best, best_epoch = 0, 0.0, -1.0, 0
    for epoch in range(FLAGS.epochs):
        values = []
        for i, group in enumerate(groups):
            title = _title(trial, group, epoch)
            done = epochs.train_epoch(training, states[i], group, epoch, title=title)
            states[i], events, seconds = done.state, events + done.events, seconds + done.seconds
            for params in epochs.unstack(done.state.params, len(group)):
                values.append(task.measure(_rank(params, table, model_config, task.log, title)))
        value = float(np.mean(values))
        trial.set_user_attr("events_per_second", events / seconds)
        trial.report(value, epoch + 1)
        if value > best:
            best, best_epoch = value, epoch + 1
            trial.set_user_attr("best_epoch", best_epoch)
        if epoch + 1 - best_epoch == task.patience:
            break
        if epoch + 1 < FLAGS.epochs and trial.should_prune():
            raise TrialPruned(f"{task.objective} {value:.4f} after epoch {epoch + 1}")
    return best


def _title(trial: Trial, seeds: Sequence[int], epoch: int) -> str:
    text = ",".join(map(str, seeds))
    return f"trial {trial.number} seed {text} epoch {epoch + 1}/{FLAGS.epochs}"


def _rank(
    params: Params,
    table: item_neighbours.Table | None,
    model_config: ModelConfig,
    log: EventLog,
    title: str,
) -> Ranking:
    """Rank the validation cases."""
    # Evaluation drops no units: with these at 0, all trials share what is compiled for it.
    dropouts = [name for name in vars(model_config) if name.startswith("dropout_")]
    model_config = dataclasses.replace(model_config, **dict.fromkeys(dropouts, 0.0))
    with progress.bar(f"{title} validation", len(log.cases), "cases") as advance:
        return evaluation.rank(
            params,
            log,
            model_config=model_config,
            table=table,
            config=model_flags.evaluation_config(),
            on_cases=advance,
        )
