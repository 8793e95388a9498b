"""Search a model's hyper-parameters on the validation split, as in Section 4.2.

python -m experiments.tune --flagfile=video.flags --trials=50

Each trial draws values for the flags below, whatever they are given (but see --fix), and trains on
all sessions of a user but the last two; the last but one is what it is measured on. The last ones,
the test sessions, are never read. All other flags mean what they mean to experiments.run, but a
trial is worth what its best epoch is: how many epochs that took stands in best.flags too.

Start the command several times to search in several processes; the same command goes on with a
study after ctrl-C or a crash. The best trial so far is in <study_dir>/best.flags, for
python -m experiments.run --flagfile=<study_dir>/best.flags, and every trial in trials.csv.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import sys
import time
from typing import Any

import numpy as np
from absl import flags

from hrnn_jax import errors, evaluation, metrics, model, train
from hrnn_jax.config import NETWORKS, ModelConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking
from hrnn_jax.preprocess import prepared

from .common import baselines, cli, data_flags, epochs, model_flags, progress
from .common.package import module
from .common.text import short
from .jobs import grid

try:
    from optuna import TrialPruned
    from optuna.trial import FrozenTrial, Trial

    from .tuning import search_spaces, study
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    cli.fail(errors.InputError("experiments.tune needs Optuna: pip install 'hrnn_jax[tune]'"))

__doc__ += (
    f"\nWhat is searched, by --space or else --model:\n\n{search_spaces.table()}\n"  # for --help
)

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "study_dir", None, "The study's folder; out/tune/<data set>/<space> if none is given."
)
flags.DEFINE_enum(
    "space",
    None,
    [*search_spaces.BY_NAME],
    "What is searched: a row of the table above; by default the one named like --model.",
)
flags.DEFINE_integer(
    "trials",
    50,
    "Trials of the whole study, by all its processes; pruned and diverged ones count.",
    lower_bound=1,
)
flags.DEFINE_string(
    "objective",
    "recall@5",
    "The metric to maximise on the validation split, with the length N of the list: recall@N, "
    "mrr@N and so on.",
)
flags.DEFINE_list(
    "fix", [], "Hyper-parameters that are not searched but taken from their flags, as in momentum."
)
flags.DEFINE_enum("sampler", "random", study.SAMPLERS, "How a trial's values are drawn.")
flags.DEFINE_enum(
    "pruner",
    "median",
    study.PRUNERS,
    f"Whether a trial ends early, from epoch {study.FIRST_PRUNED} on, that has at best been worse "
    "than the median of the others after as many epochs.",
)
flags.DEFINE_integer(
    "startup_trials",
    5,
    "Complete trials before any is pruned, and before tpe draws by their values.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "patience",
    None,
    "End a trial after this many epochs in a row that were no better than its best; by default it "
    "trains all --epochs.",
    lower_bound=1,
)
# Flags of a run that do not matter to what a trial measures.
IMMATERIAL = ("cutoffs", "seeds_at_once")


@dataclasses.dataclass(frozen=True)
class Task:
    """What all trials measure."""

    log: EventLog
    seeds: list[int]
    cutoff: int  # N of --objective


def main() -> None:
    searched = search_spaces.of(FLAGS.model, FLAGS.fix, FLAGS.space)
    seeds, cutoff = model_flags.seeds(), _cutoff()  # what is wrong with them is said at once
    _check(searched)
    FLAGS.split = "validation"
    prepared_folder = data_flags.prepare()
    log = prepared.load(prepared_folder)
    if len(log.cases) == 0:
        raise errors.InputError(
            "no validation case is left: no validation session has two items that were trained on"
        )
    name = prepared.load_meta(prepared_folder)["name"]
    folder = pathlib.Path(FLAGS.study_dir or f"out/tune/{name}/{FLAGS.space or FLAGS.model}")
    print(
        f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}, tuned for {FLAGS.objective} on "
        f"{len(log.cases):,} validation cases, in {folder}",
        flush=True,
    )
    task = Task(
        log=log,
        seeds=seeds,
        cutoff=cutoff,
    )
    with study.Study(
        folder,
        {
            "data": prepared_folder.name,
            "model": FLAGS.model,
            "objective": FLAGS.objective,
            "searched": {name: search_spaces.describe(values) for name, values in searched.items()},
            "patience": FLAGS.patience if FLAGS.model in NETWORKS else None,
            # What is not given is left out, so that a study goes on when a version adds a flag.
            "settings": {
                flag.name: flag.value
                for flag in _flags("model_flags")
                if flag.value != flag.default
                and flag.name not in (*searched, *IMMATERIAL, "model")
                and (FLAGS.model in NETWORKS or flag.name in grid.COUNTING_FLAGS)
            },
        },
        searched=searched,
        sampler=FLAGS.sampler,
        pruner=FLAGS.pruner,
        startup_trials=FLAGS.startup_trials,
        best_flags=lambda best: _best_flags(best, searched),
    ) as shared:
        while trial := shared.begin(FLAGS.trials):
            _run(shared, trial, task)
        _report(shared)


def _check(searched: search_spaces.Space) -> None:
    """Raise InputError where the flags leave nothing to tune, or do not go with what is drawn."""
    if FLAGS.split == "test":
        raise errors.InputError(
            "--split=test: trials are measured on the validation split, so that the test sessions "
            "stay unseen; drop it"
        )
    if FLAGS.model not in NETWORKS:
        return
    if FLAGS.epochs == 0:
        raise errors.InputError("--epochs=0 trains nothing to tune: give 1 or more")
    for name, values in searched.items():
        for value in search_spaces.ends(values):
            _set(name, value)
            try:
                model_flags.train_config()
            except errors.InputError as error:
                raise errors.InputError(f"{error}; or leave it alone with --fix={name}") from error


def _cutoff() -> int:
    """Return N of --objective. Raises InputError if it is not a metric at an N."""
    text = FLAGS.objective.partition("@")[2]
    cutoff = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= cutoff < 2**31 or FLAGS.objective not in metrics.summarise(np.ones(1), [cutoff]):
        known = ", ".join(metrics.summarise(np.ones(1), [5]))
        raise errors.InputError(
            f"--objective={FLAGS.objective}: give one of {known}, or another N from 1"
        )
    return cutoff


def _run(shared: study.Study, trial: Trial, task: Task) -> None:
    """Run a trial to its end, whatever that is, and say so in a line."""
    for name, value in trial.params.items():
        _set(name, value)
    started = time.perf_counter()
    value, facts = None, {}
    try:
        if FLAGS.model in NETWORKS:
            value = _train(trial, task)
        else:
            found = baselines.rank(task.log)
            value = _measure(found, task)
        outcome = f"{FLAGS.objective} {value:.4f}"
    except TrialPruned as pruned:
        outcome = f"pruned, {pruned}"
    except errors.DivergedError as error:
        outcome = facts["diverged"] = str(error)
    seconds = time.perf_counter() - started
    shared.end(trial, value, seconds=seconds, **facts)
    train.compiled_chunk.cache_clear()  # programs for these values; hundreds of trials add up
    train.init_state.clear_cache()
    drawn = " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
    rate = trial.user_attrs.get("events_per_second")
    best, counts = shared.best(), shared.counts()
    left = max(0, FLAGS.trials - counts.done)
    ahead = left * counts.seconds / (1 + counts.running)
    print(
        f"trial {trial.number}  {outcome}  {drawn}  "
        + (f"{rate:,.0f} events/s  " if rate else "")
        + f"{seconds:.1f} s"
        + (f"  best {best.value:.4f} (trial {best.number})" if best else "")
        + (f"  {left} left, {ahead:,.0f} s" if left else ""),
        flush=True,
    )


def _train(trial: Trial, task: Task) -> float:
    """Train all seeds, measured after every epoch; return their mean after the best.

    Raises TrialPruned where the pruner finds that the others did better.
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
            of = f"{','.join(map(str, group))} epoch {epoch + 1}/{FLAGS.epochs}"
            title = f"trial {trial.number} seed {of}"
            done = epochs.train_epoch(training, states[i], group, epoch, title=title)
            states[i], events, seconds = done.state, events + done.events, seconds + done.seconds
            for params in epochs.unstack(done.state.params, len(group)):
                found = _rank(params, table, model_config, task, title)
                values.append(_measure(found, task))
        value = float(np.mean(values))
        trial.set_user_attr("events_per_second", events / seconds)
        trial.report(value, epoch + 1)
        if value > best:
            best, best_epoch = value, epoch + 1
            trial.set_user_attr("best_epoch", best_epoch)
        if epoch + 1 - best_epoch == FLAGS.patience:
            break
        if epoch + 1 < FLAGS.epochs and trial.should_prune():
            raise TrialPruned(f"{FLAGS.objective} {value:.4f} after epoch {epoch + 1}")
    return best


def _rank(
    params: model.Params,
    table: item_neighbours.Table | None,
    model_config: ModelConfig,
    task: Task,
    title: str,
) -> Ranking:
    """Rank the validation cases."""
    # Nothing is dropped in evaluation: without these, all trials share what is compiled.
    undropped = dataclasses.replace(
        model_config,
        dropout_embedding=0.0,
        dropout_user=0.0,
        dropout_session=0.0,
        dropout_init=0.0,
    )
    with progress.bar(f"{title} validation", len(task.log.cases), "cases") as advance:
        return evaluation.rank(
            params,
            task.log,
            model_config=undropped,
            table=table,
            config=model_flags.evaluation_config(),
            on_cases=advance,
        )


def _measure(found: Ranking, task: Task) -> float:
    return metrics.summarise(found.rank, [task.cutoff])[FLAGS.objective]


def _report(shared: study.Study) -> None:
    best, counts = shared.best(), shared.counts()
    print(f"\n{counts.done} trials are done", end="")
    print(f", {counts.running} run in other processes" if counts.running else "")
    if best is None:
        if counts.running == 0:
            raise errors.DivergedError(
                f"all {counts.done} trials diverged: see {shared.folder}/trials.csv, and take a "
                "lower learning rate with --fix=learning_rate"
            )
        return
    drawn = " ".join(f"--{name}={short(value)}" for name, value in best.params.items())
    print(f"best is trial {best.number}, {FLAGS.objective} {best.value:.4f}: {drawn}")
    print(f"python -m {module('run')} --flagfile={shared.folder}/best.flags")


def _best_flags(best: FrozenTrial, searched: search_spaces.Space) -> str:
    """Write the flag file of a trial: the flags that were given, and those that were drawn."""
    command = shlex.join(["python", "-m", module("tune"), *sys.argv[1:]])
    drawn = {name: best.params[name] for name in searched}
    lines = [
        f"# {model_flags.NAMES[FLAGS.model]} on {data_flags.title()}: {FLAGS.objective} "
        f"{best.value:.4f} on the validation split (trial {best.number}).",
        f"# {' '.join(command.split())}",
    ]
    for name in ("data_flags", "model_flags"):
        lines += [
            flag.serialize()
            for flag in _flags(name)
            if not flag.using_default_value
            and flag.name not in (*drawn, "split", "model", "epochs", "schedule_epochs")
        ]
    if epochs := best.user_attrs.get("best_epoch"):
        lines.append(f"--epochs={epochs}")
        if FLAGS.schedule != "constant":  # which went by the epochs of the trial
            lines.append(f"--schedule_epochs={model_flags.train_config().schedule_epochs}")
    lines += [f"--model={FLAGS.model}", *(f"--{name}={value}" for name, value in drawn.items())]
    return "\n".join(line for line in lines if line) + "\n"


def _flags(name: str) -> list[flags.Flag]:
    """Return the flags that a module of experiments defines."""
    return FLAGS.flags_by_module_dict()[module(f"common.{name}")]


def _set(name: str, value: Any) -> None:
    FLAGS[name].parse(str(value))  # in text, as it will stand in best.flags


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on with the study")
