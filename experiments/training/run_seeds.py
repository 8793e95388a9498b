"""Train and rank all seeds of a run, going on from the checkpoints in its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from hrnn_jax import compile_time, errors
from hrnn_jax.compile_time import Timing
from hrnn_jax.estimators.callbacks.tensorboard import TensorBoard
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch, training_figures
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import checkpoint
from hrnn_jax.model import Params
from hrnn_jax.ranking import metrics
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.training import train
from hrnn_jax.training.epoch import is_compiling

from ..common import model_flags, progress, run_folder
from ..common.run_folder import TENSORBOARD, SeedResult
from ..common.text import duration
from . import continue_run, distributed, epochs
from .checkpoints import Checkpoints, make_checkpoints
from .devices import choose_devices
from .mixtures import Mixtures

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class NetworkRun:
    """A network's run, by the flags."""

    folder: pathlib.Path
    network: epochs.Network
    parents: continue_run.Parents  # empty unless it continues another run
    history: list[dict[str, Any]]  # of all seeds
    pace: progress.Pace  # of all seeds
    checkpoints: Checkpoints
    mixtures: Mixtures
    epochs: dict[int, int] = dataclasses.field(default_factory=dict)  # to train, by seed


def train_and_rank(
    folder: pathlib.Path, log: EventLog, parents: continue_run.Parents
) -> Iterator[SeedResult]:
    """Train and rank --seeds, up to --seeds_at_once of equal progress side by side.

    Raises:
        InputError: The folder holds checkpoints of more epochs than the run has.
    """
    network = model_flags.make_network(log, choose_devices())
    checkpoints = make_checkpoints(folder, network)
    if (lanes := network.setup.config.batch_size) < FLAGS.batch_size:
        print(f"{lanes} lanes: there are no more users for --batch_size={FLAGS.batch_size}")
    table = checkpoints.whole_table()
    if table is not None and distributed.is_first():
        neighbours.save(folder / neighbours.FILE, table)
    seeds = model_flags.seeds()
    trained = {seed: checkpoints.trained(seed) for seed in seeds}
    if max(trained.values()) > FLAGS.epochs:
        raise errors.InputError(
            f"{folder} has trained {max(trained.values())} epochs, more than "
            f"`epochs`={FLAGS.epochs}: choose another `output_dir`"
        )
    pace = progress.Pace(
        sum(FLAGS.epochs - epochs for epochs in trained.values()), compiling=is_compiling
    )
    run = NetworkRun(
        folder,
        network,
        parents,
        run_folder.read_history(folder),
        pace,
        checkpoints,
        Mixtures(folder, network, parents),
    )
    for seed in seeds:
        run.epochs[seed] = run.mixtures.choose_epochs(seed)
        pace.leave_out(FLAGS.epochs - run.epochs[seed])

    def progress_of(seed: int) -> tuple[int, int]:
        return trained[seed], run.epochs[seed]

    for (begin, _), equal in itertools.groupby(sorted(seeds, key=progress_of), key=progress_of):
        for group in model_flags.seed_groups(list(equal)):
            yield from _train_and_rank_group(run, group, begin)


def _train_and_rank_group(
    run: NetworkRun, seeds: Sequence[int], begin: int
) -> Iterator[SeedResult]:
    """Train and rank seeds side by side. Ranking needs no optimizer state: it is freed here."""
    with contextlib.ExitStack() as opened:
        boards: dict[int, TensorBoard] = {}
        for seed in seeds if FLAGS.tensorboard and distributed.is_first() else ():
            board = TensorBoard(run.folder / TENSORBOARD / f"seed_{seed}")
            boards[seed] = opened.enter_context(contextlib.closing(board))
        params = _train(run, seeds, begin, boards).params
    for seed, own in zip(seeds, epochs.unstack(params, len(seeds)), strict=True):
        yield _rank(run, seed, own)


def rank_baseline(log: EventLog) -> SeedResult:
    """Rank by a method without training; counting and ranking are one."""
    with compile_time.timing() as took:
        ranking = model_flags.rank_baseline(log)
    figures = _figures(0, ranking, log, took)
    return SeedResult(figures | {"train_seconds": None, "train_events_per_second": None}, ranking)


def _figures(seed: int, ranking: Ranking, log: EventLog, took: Timing) -> dict[str, Any]:
    """Summarise one seed's ranking, and print a line."""
    figures = metrics.figures(ranking, model_flags.cutoffs(), log.support)
    figures |= metrics.speed(figures["cases"], took)
    rate = figures["eval_cases_per_second"]
    print(f"seed {seed} ranked {figures['cases']:,} test cases, {rate:,.0f} a second")
    return {"seed": seed, **figures}


def _train(
    run: NetworkRun, seeds: Sequence[int], begin: int, boards: Mapping[int, TensorBoard]
) -> train.TrainState:
    """Train a group of seeds from epoch `begin` on, with a checkpoint after every epoch."""
    history = run.history
    state = epochs.stack([_initial_state(run, seed, begin) for seed in seeds])
    # Entries of later epochs are there after a crash between history and checkpoint.
    history[:] = [e for e in history if e["seed"] not in seeds or e["epoch"] <= begin]
    pace, last = run.pace, run.epochs[seeds[0]]
    pace.measure_anew()  # other seeds were ranked since the last step

    def count(n: int, of_epoch: int) -> None:
        pace.count(n, of_epoch / len(seeds))

    for epoch in range(begin, last):
        above = len(_above_loss(history, seeds, epoch)) == len(seeds)
        if distributed.of_first(above):
            pace.leave_out(len(seeds) * (last - epoch))
            print(f"the loss is above --stop_above_loss={FLAGS.stop_above_loss:g}: training stops")
            break
        title = model_flags.epoch_title(seeds, epoch, last)
        done = epochs.train_epoch(run.network, state, seeds, epoch, title=title, on_events=count)
        state = done.state
        measured = (
            _curve_metrics(run, seeds, state, epoch + 1) if FLAGS.curve else [{}] * len(seeds)
        )
        for seed, loss, values in zip(seeds, done.losses, measured, strict=True):
            of_seed = Epoch(
                number=epoch + 1,
                last=last,
                loss=float(loss),
                metrics=values,
                events=done.events // len(seeds),
                seconds=done.seconds / len(seeds),  # its share, where seeds go side by side
                seed=seed,
                rate=done.rate,  # of all seeds of the group
            )
            history.append(of_seed.entry())
            if boards:
                boards[seed](of_seed)
        # Before the checkpoint: a crash between the two costs an epoch's training, not its entry.
        if distributed.is_first():
            run_folder.write_history(run.folder, history)
        run.checkpoints.save(state, seeds, epoch + 1)
        left = pace.seconds_left()  # with --curve, which takes time of its own
        if not FLAGS.curve:
            left = pace.events_left() / done.rate if done.rate else 0.0
        print(
            f"{title}  loss {done.losses.mean():.4f}  "
            + (f"{done.rate:,.0f} events/s  " if done.rate else "")
            + f"{done.seconds:.1f} s"
            + ("" if done.rate else " with compiling")
            + (f", {duration(left)} left" if round(left) else ""),
            flush=True,
        )
    run.checkpoints.finish(state, seeds)
    return state


def ending(history: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Return what metrics.json says of the end of training.

    Args:
        history: the content of history.jsonl.
        seeds: those of the run.

    Returns:
        "epochs": the most that a seed may be trained, or was if all are stopped; "stopped": by
        --stop_above_loss, a dictionary with seed, epoch and loss for each seed, or None where there
        is none.
    """
    last = {
        seed: max((e["epoch"] for e in history if e["seed"] == seed), default=0) for seed in seeds
    }
    stopped = [
        {name: entry[name] for name in ("seed", "epoch", "loss")}
        for seed in seeds
        for entry in _above_loss(history, [seed], last[seed])
    ]
    full = len(stopped) < len(seeds)
    return {"epochs": FLAGS.epochs if full else max(last.values()), "stopped": stopped or None}


def _above_loss(
    history: Sequence[Mapping[str, Any]], seeds: Sequence[int], epoch: int
) -> list[Mapping[str, Any]]:
    """Return the entries of an epoch whose loss is above --stop_above_loss."""
    limit = FLAGS.stop_above_loss
    entries = [entry for entry in history if entry["seed"] in seeds and entry["epoch"] == epoch]
    return [entry for entry in entries if limit is not None and entry["loss"] > limit]


def _curve_metrics(
    run: NetworkRun, seeds: Sequence[int], state: train.TrainState, trained: int
) -> list[dict[str, float]]:
    params = state.params
    rankings = (
        epochs.rank(
            run.network, own, run.mixtures.learn(seed, trained), title=f"seed {seed} evaluation"
        )
        for seed, own in zip(seeds, epochs.unstack(params, len(seeds)), strict=True)
    )
    return [metrics.summarise(ranking.rank, model_flags.cutoffs()) for ranking in rankings]


def _initial_state(run: NetworkRun, seed: int, begin: int) -> train.TrainState:
    """Return the state of a seed after `begin` epochs."""
    if begin:
        return run.checkpoints.restore(seed, begin)
    devices, setup = run.network.devices, run.network.setup
    start = continue_run.extended_state(run.parents, seed, setup)
    if start is None:
        return devices.init_state(run.network, seed)
    return devices.put(start, setup.config)


def _rank(run: NetworkRun, seed: int, params: Params) -> SeedResult:
    trained = checkpoint.latest(checkpoint.folder(run.folder, seed)) or 0
    mixture = run.mixtures.learn(seed, distributed.of_first(trained))
    with compile_time.timing() as took:
        ranking = epochs.rank(run.network, params, mixture, title=f"seed {seed} evaluation")
    figures = _figures(seed, ranking, run.network.log, took)
    own = [entry for entry in run.history if entry["seed"] == seed]
    return SeedResult(figures | training_figures(own), ranking)
