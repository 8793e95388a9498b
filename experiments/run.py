"""Train and evaluate one model on one data set: a raw log in, a run folder out.

python -m experiments.run --flagfile=video.flags
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from hrnn_jax import atomic, checkpoint, errors, evaluation, metrics, model, train
from hrnn_jax.config import NETWORKS, RECIPE_FORMAT, EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking
from hrnn_jax.preprocess import prepared

from .common import (
    cli,
    compile_cache,
    continue_run,
    data_flags,
    model_flags,
    progress,
    provenance,
    run_folder,
)
from .common import epochs as common_epochs

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir", None, "The run folder; out/runs/<data set>/<model> if none is given."
)
flags.DEFINE_bool(
    "resume", False, "Go on with an interrupted run in --output_dir, or report a finished one."
)
flags.DEFINE_bool(
    "curve",
    False,
    "Rank the cases after every epoch as well: history.jsonl then has Recall and MRR by epoch.",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What all parts of a run need."""

    folder: pathlib.Path
    log: EventLog
    seeds: list[int]
    evaluation: EvaluationConfig
    support: np.ndarray  # [V], training events of each item
    table: item_neighbours.Table | None  # of the training events
    history: list[dict[str, Any]]  # an entry per seed and epoch, on disk in history.jsonl
    parent: continue_run.Parent | None


def main() -> None:
    compile_cache.keep()
    model_flags.check()  # what is wrong with the flags is said at once
    seeds, evaluation_config = model_flags.seeds(), model_flags.evaluation_config()
    train_config = model_flags.train_config()
    print(f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}", flush=True)
    parent = continue_run.parent(seeds) if FLAGS.continue_from else None
    prepared_folder = data_flags.prepare(parent.raw_ids if parent else ())
    meta = prepared.load_meta(prepared_folder)
    log = prepared.load(prepared_folder)
    neural = FLAGS.model in NETWORKS
    recipe: dict[str, Any] = {
        "format": RECIPE_FORMAT,
        "data": prepared_folder.name,
        "model": {"name": FLAGS.model},
    }
    if neural:
        model_config = model_flags.model_config(log.n_items)
        recipe["model"] |= dataclasses.asdict(model_config)
        recipe["training"] = dataclasses.asdict(train_config)
    elif FLAGS.model == "item_knn":
        recipe["model"] |= dataclasses.asdict(model_flags.item_knn_config())
    elif FLAGS.model in ("vsknn", "vsknn_br"):
        recipe["model"] |= dataclasses.asdict(model_flags.session_knn_config())
    asked = {
        "seeds": seeds if neural else [0],
        "epochs": FLAGS.epochs if neural else 0,
        "cutoffs": list(evaluation_config.cutoffs),
        "ties": evaluation_config.ties,
        "candidates": evaluation_config.candidates,
    }
    folder = pathlib.Path(FLAGS.output_dir or f"out/runs/{meta['name']}/{FLAGS.model}")
    if parent:
        continue_run.check_folder(folder, parent)
        recipe["continued_from"] = {"run": FLAGS.continue_from, "weights": parent.weights}
        n_known = len(parent.raw_ids)
        print(f"{n_known:,} items of {parent.folder}, {log.n_items - n_known:,} new ones")
    run_folder.open_folder(folder, recipe, resume=FLAGS.resume)
    if neural:  # also where a run ended before these files were kept
        run_folder.write_data(folder, prepared_folder)
    about = {
        "name": model_flags.NAMES[FLAGS.model],
        "data": meta["data"],
        "title": data_flags.title(),
        "users": meta["table1"]["users"],
        "split": meta["recipe"]["split"],
        **asked,
    }
    done = run_folder.read_metrics(folder)
    if (
        done is not None
        and all(done.get(key) == value for key, value in about.items())
        and (folder / run_folder.RECOMMENDED).exists()  # else it ended before there was such a file
    ):
        print(f"{folder} is complete")
        _report(folder, done)
        return
    atomic.write(folder / "flags", FLAGS.flags_into_string())
    support = log.support
    table = common_epochs.table(log.train, model_config) if neural else None
    if table is not None:
        item_neighbours.save(folder / item_neighbours.FILE, table)
    run = Run(
        folder=folder,
        log=log,
        seeds=asked["seeds"],
        evaluation=evaluation_config,
        support=support,
        table=table,
        history=run_folder.read_history(folder),
        parent=parent,
    )
    entries = _neural(run, model_config, train_config) if neural else [_baseline(run)]
    per_seed = sorted(entries, key=lambda entry: entry["seed"])  # however they were resumed
    rankings = {entry["seed"]: entry.pop("ranking") for entry in per_seed}
    # A run that stops from here on has not ended, whatever it held before.
    (folder / run_folder.METRICS).unlink(missing_ok=True)
    run_folder.write_ranks(folder, log, {seed: found.rank for seed, found in rankings.items()})
    run_folder.write_recommended(
        folder, evaluation_config.cutoffs, {s: found.shown for s, found in rankings.items()}
    )
    _report(folder, run_folder.write_metrics(folder, about, per_seed, provenance.made()))


def _neural(
    run: Run, model_config: ModelConfig, train_config: TrainConfig
) -> Iterator[dict[str, Any]]:
    """Train and rank all seeds, those that have come equally far side by side."""

    trained = {seed: checkpoint.latest(checkpoint.folder(run.folder, seed)) for seed in run.seeds}
    if max(trained.values()) > FLAGS.epochs:
        raise errors.InputError(
            f"{run.folder} has trained {max(trained.values())} epochs, more than "
            f"--epochs={FLAGS.epochs}: choose another --output_dir"
        )
    by_epochs = sorted(run.seeds, key=trained.__getitem__)
    for begin, alike in itertools.groupby(by_epochs, key=trained.__getitem__):
        alike = list(alike)
        for i in range(0, len(alike), FLAGS.seeds_at_once):
            group = alike[i : i + FLAGS.seeds_at_once]
            yield from _group(run, group, begin, model_config, train_config)


def _group(
    run: Run,
    seeds: Sequence[int],
    begin: int,
    model_config: ModelConfig,
    train_config: TrainConfig,
) -> Iterator[dict[str, Any]]:
    """Train and rank seeds side by side. Ranking needs nothing of the optimizer's state."""
    params = _train(run, seeds, begin, model_config, train_config).params
    for seed, seed_params in zip(seeds, common_epochs.unstack(params, len(seeds)), strict=True):
        yield _evaluate(run, seed, seed_params, model_config)


def _train(
    run: Run,
    seeds: Sequence[int],
    begin: int,
    model_config: ModelConfig,
    config: TrainConfig,
) -> train.TrainState:
    """Train a group of seeds from epoch `begin` on, a checkpoint after every epoch."""
    init = functools.partial(train.init_state, model_config=model_config, config=config)
    if begin:
        like = jax.eval_shape(init, 0)
        states = [
            checkpoint.restore(checkpoint.folder(run.folder, seed), like, epochs=begin)
            for seed in seeds
        ]
    elif run.parent:
        states = [continue_run.state(run.parent, seed, model_config, config) for seed in seeds]
    else:
        states = [init(seed) for seed in seeds]
    # What a crash between history and checkpoint left of later epochs is trained again.
    run.history[:] = [
        entry for entry in run.history if entry["seed"] not in seeds or entry["epoch"] <= begin
    ]
    state = common_epochs.stack(states)
    log = run.log.train
    sampler = train.sampler(log, config)
    label = f"seed{'s' if len(seeds) > 1 else ''} {','.join(map(str, seeds))}"
    for epoch in range(begin, FLAGS.epochs):
        title = f"{label} epoch {epoch + 1}/{FLAGS.epochs}"
        state, losses, events, seconds = common_epochs.epoch(
            state,
            log,
            title=title,
            seeds=seeds,
            epoch=epoch,
            sampler=sampler,
            model_config=model_config,
            config=config,
        )
        measured = [{}] * len(seeds)
        if FLAGS.curve:
            params = zip(seeds, common_epochs.unstack(state.params, len(seeds)), strict=True)
            measured = [
                metrics.summarise(
                    _rank(run, seed, found, model_config).rank, run.evaluation.cutoffs
                )
                for seed, found in params
            ]
        for seed, loss, figures in zip(seeds, losses, measured, strict=True):
            run.history.append(
                {
                    "seed": seed,
                    "epoch": epoch + 1,
                    "loss": float(loss),
                    "events": events // len(seeds),
                    "seconds": seconds / len(seeds),  # its share, where seeds go side by side
                }
                | figures
            )
        # First, so that a crash between the two costs an epoch's training, not its entry.
        run_folder.write_history(run.folder, run.history)
        for seed, seed_state in zip(seeds, common_epochs.unstack(state, len(seeds)), strict=True):
            checkpoint.save(checkpoint.folder(run.folder, seed), seed_state, epochs=epoch + 1)
        left = (FLAGS.epochs - epoch - 1) * seconds
        print(
            f"{title}  loss {losses.mean():.4f}  {events / seconds:,.0f} events/s  "
            f"{seconds:.1f} s" + (f", {left:.0f} s left" if left else ""),
            flush=True,
        )
    return state


def _evaluate(
    run: Run, seed: int, params: model.Params, model_config: ModelConfig
) -> dict[str, Any]:
    started = time.perf_counter()
    found = _rank(run, seed, params, model_config)
    epochs = [entry for entry in run.history if entry["seed"] == seed]
    seconds = sum(entry["seconds"] for entry in epochs)
    events = sum(entry["events"] for entry in epochs)
    return _figures(run, seed, found, time.perf_counter() - started) | {
        "train_seconds": seconds,
        "train_events_per_second": events / seconds if seconds else None,
    }


def _rank(run: Run, seed: int, params: model.Params, model_config: ModelConfig) -> Ranking:
    with progress.bar(f"seed {seed} evaluation", len(run.log.cases), "cases") as advance:
        return evaluation.rank(
            params,
            run.log,
            model_config=model_config,
            table=run.table,
            config=run.evaluation,
            on_cases=advance,
        )


def _baseline(run: Run) -> dict[str, Any]:
    started = time.perf_counter()
    found = common_epochs.count(run.log)
    return _figures(run, 0, found, time.perf_counter() - started) | {
        "train_seconds": None,  # counting and ranking are one
        "train_events_per_second": None,
    }


def _figures(run: Run, seed: int, found: Ranking, seconds: float) -> dict[str, Any]:
    cases = len(found.rank)
    if cases == 0:
        raise errors.InputError(
            "no test case is left: no test session has two items that were trained on"
        )
    print(f"seed {seed} ranked {cases:,} test cases, {cases / seconds:,.0f} a second")
    figures: dict[str, Any] = {
        "seed": seed,
        **metrics.summarise(found.rank, run.evaluation.cutoffs),
    }
    for cutoff, shown in zip(run.evaluation.cutoffs, found.shown, strict=True):
        figures[f"coverage@{cutoff}"] = metrics.coverage(shown)
        figures[f"popularity@{cutoff}"] = (
            metrics.popularity(shown, run.support) if shown.any() else None  # JSON has no NaN
        )
    return figures | {
        "cases": cases,
        "eval_cases_per_second": cases / seconds,
        "ranking": found,
    }


def _report(folder: pathlib.Path, done: Mapping[str, Any]) -> None:
    print(f"\n{done['title']}: {int(done['mean']['cases']):,} test cases, results in {folder}\n")
    print(run_folder.table([done]))


if __name__ == "__main__":
    cli.run(main, hint=": add --resume to go on", defaults=continue_run.defaults)
