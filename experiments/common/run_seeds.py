"""Train and rank all seeds of a run, going on from the checkpoints in its folder."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags

from hrnn_jax import checkpoint, errors, evaluation, metrics, train
from hrnn_jax.baselines import counting, session_knn
from hrnn_jax.config import EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.metrics import Ranking
from hrnn_jax.model import Params

from . import continue_run, epochs, model_flags, progress, run_folder

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class NetworkRun:
    """A network's run: its folder, its data and how it is trained."""

    folder: pathlib.Path
    log: EventLog
    model_config: ModelConfig
    train_config: TrainConfig
    evaluation_config: EvaluationConfig
    neighbour_table: item_neighbours.Table | None  # counted in the training events
    parent: continue_run.Parent | None  # the run that this one continues
    epochs: int
    curve: bool  # rank the test cases after every epoch too


class SeedResult(NamedTuple):
    """One seed's figures for metrics.json, and the ranking that they summarise."""

    figures: dict[str, Any]
    ranking: Ranking


def train_and_rank(
    run: NetworkRun, seeds: Sequence[int], *, seeds_at_once: int
) -> Iterator[SeedResult]:
    """Train and rank all seeds, up to `seeds_at_once` of equal progress side by side.

    Raises:
        InputError: The folder holds checkpoints of more epochs than the run has.
    """
    trained = {seed: checkpoint.latest(checkpoint.folder(run.folder, seed)) for seed in seeds}
    if max(trained.values()) > run.epochs:
        raise errors.InputError(
            f"{run.folder} has trained {max(trained.values())} epochs, more than "
            f"`epochs`={run.epochs}: choose another `output_dir`"
        )
    history = run_folder.read_history(run.folder)
    by_progress = sorted(seeds, key=trained.__getitem__)
    for begin, equal in itertools.groupby(by_progress, key=trained.__getitem__):
        equal = list(equal)
        for i in range(0, len(equal), seeds_at_once):
            yield from _group(run, equal[i : i + seeds_at_once], begin, history)


def _group(
    run: NetworkRun, seeds: Sequence[int], begin: int, history: list[dict[str, Any]]
) -> Iterator[SeedResult]:
    """Train and rank seeds side by side. Ranking needs no optimizer state: it is freed here."""
    params = _train(run, seeds, begin, history).params
    for seed, seed_params in zip(seeds, epochs.unstack(params, len(seeds)), strict=True):
        yield _result(run, seed, seed_params, history)


def figures(
    seed: int, ranking: Ranking, log: EventLog, config: EvaluationConfig, seconds: float
) -> dict[str, Any]:
    """Summarise one seed's ranking, and print a line.

    Raises:
        InputError: There is no test case.
    """
    cases = len(ranking.rank)
    if cases == 0:
        raise errors.InputError(
            "no test case is left: no test session has two items that were trained on"
        )
    print(f"seed {seed} ranked {cases:,} test cases, {cases / seconds:,.0f} a second")
    result: dict[str, Any] = {"seed": seed, **metrics.summarise(ranking.rank, config.cutoffs)}
    for cutoff, shown in zip(config.cutoffs, ranking.shown, strict=True):
        result[f"coverage@{cutoff}"] = metrics.coverage(shown)
        result[f"popularity@{cutoff}"] = (
            metrics.popularity(shown, log.support) if shown.any() else None  # JSON has no NaN
        )
    return result | {"cases": cases, "eval_cases_per_second": cases / seconds}


def _train(
    run: NetworkRun, seeds: Sequence[int], begin: int, history: list[dict[str, Any]]
) -> train.TrainState:
    """Train a group of seeds from epoch `begin` on, with a checkpoint after every epoch."""
    state = epochs.stack(_initial_states(run, seeds, begin))
    # Entries of later epochs are there after a crash between history and checkpoint.
    history[:] = [e for e in history if e["seed"] not in seeds or e["epoch"] <= begin]
    training = epochs.training_of(run.log.train, run.model_config, run.train_config)
    label = f"seed{'s' if len(seeds) > 1 else ''} {','.join(map(str, seeds))}"
    for epoch in range(begin, run.epochs):
        title = f"{label} epoch {epoch + 1}/{run.epochs}"
        done = epochs.train_epoch(training, state, seeds, epoch, title=title)
        state = done.state
        measured = [{}] * len(seeds)
        if run.curve:
            params = zip(seeds, epochs.unstack(state.params, len(seeds)), strict=True)
            measured = [
                metrics.summarise(_rank(run, seed, own).rank, run.evaluation_config.cutoffs)
                for seed, own in params
            ]
        for seed, loss, values in zip(seeds, done.losses, measured, strict=True):
            entry = {
                "seed": seed,
                "epoch": epoch + 1,
                "loss": float(loss),
                "events": done.events // len(seeds),
                "seconds": done.seconds / len(seeds),  # its share, where seeds go side by side
            }
            history.append(entry | values)
        # Before the checkpoint: a crash between the two costs an epoch's training, not its entry.
        run_folder.write_history(run.folder, history)
        for seed, seed_state in zip(seeds, epochs.unstack(state, len(seeds)), strict=True):
            checkpoint.save(checkpoint.folder(run.folder, seed), seed_state, epochs=epoch + 1)
        left = (run.epochs - epoch - 1) * done.seconds
        print(
            f"{title}  loss {done.losses.mean():.4f}  {done.events / done.seconds:,.0f} events/s  "
            f"{done.seconds:.1f} s" + (f", {left:.0f} s left" if left else ""),
            flush=True,
        )
    return state


def _initial_states(run: NetworkRun, seeds: Sequence[int], begin: int) -> list[train.TrainState]:
    """Return the state of each seed after `begin` epochs."""
    if run.parent and not begin:
        return [
            continue_run.state(run.parent, seed, run.model_config, run.train_config)
            for seed in seeds
        ]
    init = functools.partial(
        train.init_state, model_config=run.model_config, config=run.train_config
    )
    if not begin:
        return [init(seed) for seed in seeds]
    like = jax.eval_shape(init, 0)
    return [
        checkpoint.restore(checkpoint.folder(run.folder, seed), like, epochs=begin)
        for seed in seeds
    ]


def _rank(run: NetworkRun, seed: int, params: Params) -> Ranking:
    with progress.bar(f"seed {seed} evaluation", len(run.log.cases), "cases") as advance:
        return evaluation.rank(
            params,
            run.log,
            model_config=run.model_config,
            table=run.neighbour_table,
            config=run.evaluation_config,
            on_cases=advance,
        )


def _result(
    run: NetworkRun, seed: int, params: Params, history: Sequence[dict[str, Any]]
) -> SeedResult:
    started = time.perf_counter()
    ranking = _rank(run, seed, params)
    ranked_in = time.perf_counter() - started
    own = [entry for entry in history if entry["seed"] == seed]
    seconds, events = (sum(entry[name] for entry in own) for name in ("seconds", "events"))
    return SeedResult(
        figures(seed, ranking, run.log, run.evaluation_config, ranked_in)
        | {
            "train_seconds": seconds,
            "train_events_per_second": events / seconds if seconds else None,
        },
        ranking,
    )


def rank_baseline(log: EventLog) -> Ranking:
    """Rank the test cases of a log by --model."""
    config = model_flags.evaluation_config()
    match FLAGS.model:
        case "ppop":
            return counting.ppop(log, config)
        case "item_knn":
            return counting.item_knn(log, model_flags.item_knn_config(), config)
        case "markov":
            return counting.markov(log, config)
        case "sr":
            return counting.sequential_rules(log, config)
        case _:
            return session_knn.vsknn(log, model_flags.session_knn_config(), config)
